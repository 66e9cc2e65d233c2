"""What a new platform begins with: an admin, the default project, and a token for this machine's command line."""

from __future__ import annotations

import getpass
import ipaddress
import re
from dataclasses import dataclass
from datetime import timedelta

from narf.control.access.service import AccessService
from narf.control.projects.service import DEFAULT_PROJECT, ProjectService
from narf.domain.access import Principal
from narf.domain.errors import NotAllowed, NotSignedIn


@dataclass(frozen=True, slots=True)
class LocalAdmin:
    """The account of whoever started the platform here, and a token for it."""

    user: str
    token: str


def prepare(access: AccessService, projects: ProjectService, known_token: str) -> LocalAdmin:
    """Make the admin and the default project if nobody has; keep `known_token` while it works."""
    admins = [user for user in access.users() if user.is_admin and user.disabled_at is None]
    admin = admins[0].name if admins else access.create_user(_own_name(), by="platform", is_admin=True).name
    if not projects.exists(DEFAULT_PROJECT):
        projects.create(DEFAULT_PROJECT, by=Principal(user=admin, is_admin=True), description="Where work goes when no project is named.")
    if known_token:
        try:
            return LocalAdmin(access.principal_of_token(known_token).user, known_token)
        except NotSignedIn:
            pass  # revoked or expired: a new one is made below
    _, secret = access.create_token(admin, name="command line of this machine", by="platform", expires_in=timedelta(days=365))
    return LocalAdmin(admin, secret)


def check_address(host: str, access: AccessService) -> None:
    """Raises NotAllowed: others could reach `host`, and nobody here has a password."""
    if _is_loopback(host) or any(user.password_hash for user in access.users()):
        return
    raise NotAllowed(
        f"The address {host} can be reached from elsewhere, and no account here has a password.",
        remedy="Start on 127.0.0.1, set one (narf user password NAME), then start with this address.",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own_name() -> str:
    try:
        name = getpass.getuser().lower()
    except (KeyError, OSError):  # an arbitrary user id without an entry, as OpenShift gives
        name = "admin"
    name = re.sub(r"[^a-z0-9._-]", "-", name).strip("._-")[:63]
    return "admin" if name in ("", "root") else name
