"""Which hosts code is fetched from: the server goes where a developer points it, and must not be led into its own network.

With a list, its hosts and no others, wherever they are. Without one, any host whose every address is a public one; the address that was
looked at is the one that is connected to, so that a name cannot mean another a moment later.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from narf.domain.errors import BadInput

_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?|[0-9a-f:]+")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Resolve = Callable[[str, int], Sequence[str]]


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


@dataclass(frozen=True, slots=True)
class Hosts:
    """listed: lower-case names or addresses; "*.example.com" is every name below it. resolve: a name's addresses, OSError when it has none."""

    listed: tuple[str, ...] = ()
    resolve: Resolve = field(default=_resolve, compare=False)

    def checked(self, host: str, port: int, *, by_proxy: bool = False) -> str:
        """The address to connect to; "" where a listed host is meant, or a proxy is asked, which finds it itself.

        Raises:
            BadInput: nothing is fetched from this host.
        """
        name = host.strip("[]").rstrip(".").lower()
        if self.listed:
            if not any(_matches(name, pattern) for pattern in self.listed):
                raise _refused(host, f"This platform fetches code from {', '.join(self.listed[:10])} only.")
            return ""
        try:
            addresses = self.resolve(name, port)
        except (OSError, UnicodeError):
            if by_proxy:
                return ""
            raise BadInput(
                "The repository's host cannot be reached.", remedy="Correct the address, or try again.", field="url", code="unreachable"
            ) from None
        if not addresses or not all(is_public(address) for address in addresses):
            raise _refused(host, "It is not in the public internet.")
        return addresses[0]


def is_public(address: str) -> bool:
    """Whether it is reached through the public internet: not this machine, its network, or another written as if it were public."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address) and (found.ipv4_mapped or found.sixtofour or found.teredo or found in _NAT64):
        return False
    return found.is_global and not found.is_multicast


def parse_hosts(text: str) -> tuple[str, ...]:
    """The hosts of NARF_GIT_HOSTS, separated by commas.

    Raises:
        BadInput: one of them is no host.
    """
    hosts = tuple(part.strip().strip("[]").lower() for part in text.split(",") if part.strip())
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise BadInput(
                f"NARF_GIT_HOSTS has {host[:60]!r}, which is no host.",
                remedy="Write names without scheme or path: git.example.com, *.example.org",
            )
    return hosts


def _matches(name: str, pattern: str) -> bool:
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern


def _refused(host: str, why: str) -> BadInput:
    return BadInput(
        f"Code is not fetched from {host[:200]!r}. {why}",
        remedy="Ask whoever runs the platform to list the host in NARF_GIT_HOSTS, or choose a folder instead.",
        field="url",
        code="host_not_allowed",
    )
