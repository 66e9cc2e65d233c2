"""`narf quota`: what each project and department is guaranteed and may hold at most."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from narf.cli import output
from narf.client.connection import connect
from narf.domain.errors import BadInput

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False, no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_SIZES = {"": 1, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@app.command("list", epilog="Example: narf quota list")
def list_(as_json: Json = False) -> None:
    """Quota, limit and weight of every queue."""
    with connect() as connection:
        page = connection.get("/api/v1/quotas")
    if as_json:
        output.print_items(page["items"], page["next"])
        return
    rows = [(q["queue"], q["parent"] or "", _said(q["quota"]), _said(q["limit"]), f"{q['weight']:g}") for q in page["items"]]
    output.print_table(rows, ["QUEUE", "BELOW", "QUOTA", "LIMIT", "WEIGHT"], right=["WEIGHT"])


@app.command("set", epilog="Example: narf quota set vision --quota gpu=16 --limit gpu=24")
def set_(
    queue: Annotated[str, typer.Argument(help="A project, or department:<name>.")],
    quota: Annotated[list[str] | None, typer.Option("--quota", help="Guaranteed: gpu=16, gpu:a100=8, cpu=64, memory=256Gi.")] = None,
    limit: Annotated[list[str] | None, typer.Option("--limit", help="At most, written the same.")] = None,
    weight: Annotated[float, typer.Option(help="Its part of what is left over, beside the others.")] = 1.0,
    as_json: Json = False,
) -> None:
    """Set what a queue is guaranteed and may hold. What is not given is unset."""
    body = {"quota": amounts(quota or [], "quota"), "limit": amounts(limit or [], "limit"), "weight": weight}
    with connect() as connection:
        found = connection.put(f"/api/v1/quotas/{quote(queue, safe='')}", body)
    if as_json:
        output.print_json(found)
    else:
        print(f"{found['queue']}: quota {_said(found['quota'])}, limit {_said(found['limit'])}, weight {found['weight']:g}")
    for warning in found["warnings"]:
        output.say(f"Warning: {warning}")


@app.command("unset", epilog="Example: narf quota unset vision")
def unset(queue: str) -> None:
    """Take quota and limit away; the queue lives from what others leave."""
    with connect() as connection:
        connection.delete(f"/api/v1/quotas/{quote(queue, safe='')}")
    print(f"{queue} has no quota and no limit.")


def amounts(pairs: list[str], field: str) -> dict[str, float]:
    """{"gpu": 16.0, "memory": 274877906944.0} from ["gpu=16", "memory=256Gi"].

    Raises:
        BadInput: one is not written so.
    """
    found: dict[str, float] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        number = text.rstrip("bB").lower()
        unit = number.lstrip("0123456789.")
        try:
            if not equals or not name or (unit and name != "memory"):
                raise ValueError(pair)
            found[name] = float(number[: len(number) - len(unit)]) * _SIZES[unit]
        except (ValueError, KeyError) as error:
            raise BadInput(f"{pair!r} is no amount.", remedy="Write gpu=16, gpu:a100=8, cpu=64 or memory=256Gi.", field=field) from error
    return found


def _said(row: dict[str, Any]) -> str:
    shown = {name: f"{amount / (1 << 30):g}Gi" if name == "memory" else f"{amount:g}" for name, amount in row.items()}
    return " ".join(f"{name}={amount}" for name, amount in shown.items()) or "-"
