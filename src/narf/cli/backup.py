"""`narf backup`, `restore`, `gc`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from narf.cli import output
from narf.client.connection import connect, home
from narf.domain.errors import Conflict, NarfError, Unavailable

backup = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
restore = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
gc = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@backup.command(epilog="Example: narf backup /backups/narf-monday.tar.gz")
def backup_(
    file: Annotated[Path | None, typer.Argument(help="Where to; by default narf-<date>.tar.gz here.")] = None, as_json: Json = False
) -> None:
    """Copy all state into one file. The platform may run meanwhile."""
    target = file or Path(f"narf-{datetime.now():%Y%m%d-%H%M%S}.tar.gz")  # noqa: DTZ005 - a name for the person, in their time
    made = _run("create", target)
    if as_json:
        output.print_json(made)
    else:
        print(f"{made['id']} ({output.size(made['size_bytes'])})")


@restore.command(epilog="Example: NARF_HOME=/new/place narf restore narf-monday.tar.gz")
def restore_(file: Path, as_json: Json = False) -> None:
    """Bring a backup back into an empty home. The platform must be down."""
    if (home() / "run" / "server.json").exists():
        from narf.cli.platform import is_up

        if is_up():
            raise Conflict("Narf is up.", remedy="Stop it first: narf down")
    made = _run("restore", file)
    if as_json:
        output.print_json(made)
    else:
        print(f"Restored into {home()}. Start it: narf up")


@gc.command(epilog="Example: narf gc --dry-run")
def gc_(dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False, as_json: Json = False) -> None:
    """Delete what the retention policy no longer keeps."""
    with connect() as connection:
        swept = connection.post("/api/v1/gc", dry_run=dry_run)
        disk = connection.get("/api/v1/disk")
    if as_json:
        output.print_json({"id": "gc", **swept, "disk": disk})
        return
    verb = "would be deleted" if dry_run else "deleted"
    counts = ", ".join(f"{count} {kind}" for kind, count in swept["deleted"].items())
    print(f"{verb}: {counts}; {output.size(swept['freed_bytes'])}")
    for name, used in sorted(disk["parts"].items(), key=lambda part: -part[1])[:8]:
        print(f"  {output.size(used):>10}  {name}")
    print(f"{output.size(disk['free_bytes'])} of {output.size(disk['total_bytes'])} are free.")
    for warning in disk["warnings"]:
        print(warning)


def _run(verb: str, file: Path) -> dict[str, Any]:
    environment = {**os.environ, "NARF_HOME": str(home())}
    done = subprocess.run(
        [sys.executable, "-m", "narf.control.backup", verb, str(file)], env=environment, capture_output=True, text=True, check=False
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise Unavailable(f"The {verb} ended unexpectedly: {done.stderr.strip()[-300:]}") from None
    if "error" in answer:
        error = NarfError(answer["error"]["detail"], remedy=answer["error"]["remedy"], code=answer["error"]["code"])
        raise error
    return answer
