"""Which hosts the server goes to for somebody: it goes where a developer points it, and must not be led to where only itself may go.

With a list, its hosts and no others, wherever they are. Without one, any host whose every address may be gone to for the purpose; the address
that was looked at is the one that is connected to, so that a name cannot mean another a moment later.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from narf.domain.errors import BadInput

_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?|[0-9a-f:]+")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
# Where a cloud tells a machine its own secrets, besides the link-local 169.254.169.254.
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")))

Resolve = Callable[[str, int], Sequence[str]]


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What the server goes there for, and the words for who may not be gone to. setting: what lists hosts. may_be: without a list."""

    setting: str
    may_be: Callable[[str], bool]
    is_refused: str
    only: str
    outside: str
    instead: str = ""


def is_public(address: str) -> bool:
    """Whether it is reached through the public internet: not this machine, its network, or another written as if it were public."""
    found = ipaddress.ip_address(address)
    if _is_written_otherwise(found):
        return False
    return found.is_global and not found.is_multicast


def is_elsewhere(address: str) -> bool:
    """Whether it is another machine, in the public internet or in the company's network: not this one, nor what only a machine itself is to ask."""
    found = ipaddress.ip_address(address)
    if _is_written_otherwise(found) or found in _METADATA:
        return False
    return not (found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast or found.is_reserved)


def is_elsewhere_or_here(address: str) -> bool:
    """The same, and this machine."""
    return is_elsewhere(address) or address == "::1" or ipaddress.ip_address(address) in _LOOPBACK


def _is_written_otherwise(found: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return isinstance(found, ipaddress.IPv6Address) and bool(found.ipv4_mapped or found.sixtofour or found.teredo or found in _NAT64)


CODE = Purpose(
    setting="NARF_GIT_HOSTS",
    may_be=is_public,
    is_refused="Code is not fetched from",
    only="This platform fetches code from {hosts} only.",
    outside="It is not in the public internet.",
    instead=", or choose a folder instead",
)
WEBHOOKS = Purpose(
    setting="NARF_WEBHOOK_HOSTS",
    may_be=is_elsewhere,
    is_refused="Nothing is sent to",
    only="This platform sends webhooks to {hosts} only.",
    outside="It is the platform's own machine, or an address that only a machine itself is to ask.",
)
# Where only people of this machine reach the platform, nothing is kept from them by it.
WEBHOOKS_OF_A_LAPTOP = replace(WEBHOOKS, may_be=is_elsewhere_or_here)


@dataclass(frozen=True, slots=True)
class Hosts:
    """listed: lower-case names or addresses; "*.example.com" is every name below it. resolve: a name's addresses, OSError when it has none."""

    listed: tuple[str, ...] = ()
    resolve: Resolve = field(default=_resolve, compare=False)
    purpose: Purpose = CODE

    def checked(self, host: str, port: int, *, by_proxy: bool = False) -> str:
        """The address to connect to; "" where a listed host is meant, or a proxy is asked, which finds it itself.

        Raises:
            BadInput: the server does not go there.
        """
        name = host.strip("[]").rstrip(".").lower()
        if self.listed:
            if not any(_matches(name, pattern) for pattern in self.listed):
                raise self._refused(host, self.purpose.only.format(hosts=", ".join(self.listed[:10])))
            return ""
        try:
            addresses = self.resolve(name, port)
        except (OSError, UnicodeError):
            if by_proxy:
                return ""
            raise BadInput(
                f"The host {host[:200]!r} cannot be reached.", remedy="Correct the address, or try again.", field="url", code="unreachable"
            ) from None
        if not addresses or not all(self.purpose.may_be(address) for address in addresses):
            raise self._refused(host, self.purpose.outside)
        return addresses[0]

    def _refused(self, host: str, why: str) -> BadInput:
        return BadInput(
            f"{self.purpose.is_refused} {host[:200]!r}. {why}",
            remedy=f"Ask whoever runs the platform to list the host in {self.purpose.setting}{self.purpose.instead}.",
            field="url",
            code="host_not_allowed",
        )


def parse_hosts(text: str, purpose: Purpose = CODE) -> tuple[str, ...]:
    """The hosts of the purpose's setting, separated by commas.

    Raises:
        BadInput: one of them is no host.
    """
    hosts = tuple(part.strip().strip("[]").lower() for part in text.split(",") if part.strip())
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise BadInput(
                f"{purpose.setting} has {host[:60]!r}, which is no host.",
                remedy="Write names without scheme or path: git.example.com, *.example.org",
            )
    return hosts


def hosts_of_webhooks(listed: str, platforms_host: str) -> Hosts:
    """listed: NARF_WEBHOOK_HOSTS. platforms_host: what the platform listens on: if only this machine reaches it, its people may be told here."""
    purpose = WEBHOOKS_OF_A_LAPTOP if platforms_host in ("127.0.0.1", "::1", "localhost") else WEBHOOKS
    return Hosts(parse_hosts(listed, purpose), purpose=purpose)


def _matches(name: str, pattern: str) -> bool:
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern
