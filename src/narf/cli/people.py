"""`narf project`, `user`, `token`, `secret`."""

from __future__ import annotations

import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from narf.cli import output
from narf.client.connection import connect, default_project
from narf.domain.errors import BadInput


def _group(text: str) -> typer.Typer:
    return typer.Typer(help=text, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False, no_args_is_help=True)


project = _group("Projects: a team's space, its members and invitations.")
user = _group("Accounts (admins).")
token = _group("API tokens, yours.")
secret = _group("Secrets of a project: given to workloads, never shown.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Project = Annotated[str, typer.Option("--project", help="Project; NARF_PROJECT or 'default' when not given.")]


@project.command("list", epilog="Example: narf project list")
def list_projects(as_json: Json = False) -> None:
    """The projects you can see."""
    with connect() as connection:
        items = list(connection.items("/api/v1/projects"))
    if as_json:
        output.print_items(items)
        return
    rows = [(p["name"], p["role"], p["department"], p["description"]) for p in items]
    output.print_table(rows, ["PROJECT", "YOUR ROLE", "DEPARTMENT", "DESCRIPTION"])


@project.command("create", epilog="Example: narf project create vision --department research")
def create_project(name: str, description: str = "", department: str = "default", as_json: Json = False) -> None:
    """Make a project (admins)."""
    with connect() as connection:
        made = connection.post("/api/v1/projects", {"name": name, "description": description, "department": department})
    _done(made, f"project {made['name']} made", as_json)


@project.command("change", epilog="Example: narf project change vision --department research")
def change_project(
    name: str,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    department: Annotated[str | None, typer.Option(help="The department that it moves to (admins).")] = None,
    as_json: Json = False,
) -> None:
    """Describe a project, or move it to another department."""
    body = {key: value for key, value in {"description": description, "department": department}.items() if value is not None}
    if not body:
        raise BadInput("Nothing is to be changed.", remedy="Give --description or --department.")
    with connect() as connection:
        made = connection.patch(f"/api/v1/projects/{quote(name, safe='')}", body)
    _done(made, f"project {made['name']} changed: department {made['department']}", as_json)
    for warning in made["warnings"]:
        output.say(f"Warning: {warning}")


@project.command("members", epilog="Example: narf project members --project vision")
def members(project: Project = "", as_json: Json = False) -> None:
    """Who is in a project."""
    with connect() as connection:
        items = list(connection.items(f"/api/v1/projects/{project or default_project()}/members"))
    if as_json:
        output.print_items(items)
        return
    output.print_table([(m["user"], m["role"], output.age(m["created_at"])) for m in items], ["USER", "ROLE", "SINCE"])


@project.command("add-member", epilog="Example: narf project add-member ada --role developer --project vision")
def add_member(name: str, role: str = "developer", project: Project = "", as_json: Json = False) -> None:
    """Add somebody who has an account, or change their role (viewer, developer, maintainer)."""
    with connect() as connection:
        made = connection.put(f"/api/v1/projects/{project or default_project()}/members/{name}", {"role": role})
    _done(made, f"{name} is {made['role']}", as_json)


@project.command("remove-member", epilog="Example: narf project remove-member ada --project vision")
def remove_member(name: str, project: Project = "", as_json: Json = False) -> None:
    """Take somebody out of a project; their account stays."""
    with connect() as connection:
        connection.delete(f"/api/v1/projects/{project or default_project()}/members/{name}")
    _done({"id": name}, f"{name} is no longer a member", as_json)


@project.command("invite", epilog="Example: narf project invite --role developer --project vision")
def invite(role: str = "developer", days: int = 7, project: Project = "", as_json: Json = False) -> None:
    """A link with which one person makes an account and joins."""
    with connect() as connection:
        made = connection.post(f"/api/v1/projects/{project or default_project()}/invitations", {"role": role, "expires_in_days": days})
    _done(made, made["url"], as_json)


@user.command("list", epilog="Example: narf user list")
def list_users(as_json: Json = False) -> None:
    """All accounts."""
    with connect() as connection:
        items = list(connection.items("/api/v1/users"))
    if as_json:
        output.print_items(items)
        return
    rows = [(u["name"], u["display_name"], "admin" if u["is_admin"] else "", "disabled" if u["disabled_at"] else "active") for u in items]
    output.print_table(rows, ["USER", "NAME", "ADMIN", "STATE"])


@user.command("create", epilog="Example: narf user create ada")
def create_user(name: str, display_name: str = "", admin: bool = False, as_json: Json = False) -> None:
    """Make an account; its password is read from the terminal or standard input."""
    body = {"name": name, "display_name": display_name, "is_admin": admin, "password": _ask_password()}
    with connect() as connection:
        made = connection.post("/api/v1/users", body)
    _done(made, f"user {made['name']} made", as_json)


@user.command("password", epilog="Example: narf user password ada")
def set_password(name: str, as_json: Json = False) -> None:
    """Set a password; the account's sessions end."""
    with connect() as connection:
        made = connection.patch(f"/api/v1/users/{name}", {"password": _ask_password()})
    _done(made, f"the password of {name} is set", as_json)


@user.command("disable", epilog="Example: narf user disable ada")
def disable_user(name: str, as_json: Json = False) -> None:
    """Nobody can sign in with this account until it is enabled again; nothing of it is deleted."""
    with connect() as connection:
        made = connection.patch(f"/api/v1/users/{name}", {"disabled": True})
    _done(made, f"{name} is disabled", as_json)


@user.command("enable", epilog="Example: narf user enable ada")
def enable_user(name: str, as_json: Json = False) -> None:
    """Enable a disabled account."""
    with connect() as connection:
        made = connection.patch(f"/api/v1/users/{name}", {"disabled": False})
    _done(made, f"{name} is enabled", as_json)


@token.command("create", epilog="Example: narf token create --name ci --role developer --project vision --days 30")
def create_token(
    name: str = "token",
    role: str = "admin",
    project: Annotated[list[str] | None, typer.Option(help="Only for this project; may be given more than once.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Until it expires.")] = 90,
    as_json: Json = False,
) -> None:
    """Make a token; it is shown this once."""
    body = {"name": name, "role_limit": role, "projects": project, "expires_in_days": days}
    with connect() as connection:
        made = connection.post("/api/v1/tokens", body)
    _done(made, made["token"], as_json)


@token.command("list", epilog="Example: narf token list")
def list_tokens(as_json: Json = False) -> None:
    """Your tokens."""
    with connect() as connection:
        items = connection.get("/api/v1/tokens")["items"]
    if as_json:
        output.print_items(items)
        return
    rows = [
        (
            t["id"],
            t["name"],
            t["role_limit"],
            ", ".join(t["projects"] or ["all"]),
            "revoked" if t["revoked_at"] else (t["expires_at"] or "")[:10],
        )
        for t in items
    ]
    output.print_table(rows, ["ID", "NAME", "ROLE", "PROJECTS", "EXPIRES"])


@token.command("revoke", epilog="Example: narf token revoke tok-01h2...")
def revoke_token(token_id: str, as_json: Json = False) -> None:
    """It stops working at once."""
    with connect() as connection:
        connection.delete(f"/api/v1/tokens/{token_id}")
    _done({"id": token_id}, f"{token_id} is revoked", as_json)


@secret.command("set", epilog="Example: narf secret set S3_KEY < key.txt")
def set_secret(name: str, project: Project = "", as_json: Json = False) -> None:
    """Set a secret; its value is read from the terminal or standard input."""
    value = typer.prompt(name, hide_input=True) if sys.stdin.isatty() else sys.stdin.read().removesuffix("\n")
    with connect() as connection:
        made = connection.put(f"/api/v1/projects/{project or default_project()}/secrets/{name}", {"value": value})
    _done(made, f"secret {name} is set", as_json)


@secret.command("list", epilog="Example: narf secret list")
def list_secrets(project: Project = "", as_json: Json = False) -> None:
    """Names of the secrets; values are never shown."""
    with connect() as connection:
        items = list(connection.items(f"/api/v1/projects/{project or default_project()}/secrets"))
    if as_json:
        output.print_items(items)
        return
    output.print_table([(s["name"], s["created_by"], output.age(s["created_at"])) for s in items], ["NAME", "SET BY", "AGE"])


@secret.command("remove", epilog="Example: narf secret remove S3_KEY")
def remove_secret(name: str, project: Project = "", as_json: Json = False) -> None:
    """Delete a secret."""
    with connect() as connection:
        connection.delete(f"/api/v1/projects/{project or default_project()}/secrets/{name}")
    _done({"id": name}, f"secret {name} is removed", as_json)


def _ask_password() -> str:
    if not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\n")
        if not password:
            raise BadInput("No password came on standard input.", field="password")
        return password
    answer: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return answer


def _done(made: Any, sentence: str, as_json: bool) -> None:
    if as_json:
        output.print_json(made)
    else:
        print(sentence)
