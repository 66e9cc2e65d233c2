"""`narf deploy`: from the registry to an endpoint."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from narf.cli import output
from narf.client.connection import connect, default_project
from narf.client.endpoints import wait_until_serving
from narf.domain.errors import BadInput

deploy = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)


@deploy.command(epilog="Example: narf deploy digits@champion --replicas 0..4 --canary 10,50")
def deploy_(
    model: Annotated[
        str, typer.Argument(metavar="MODEL@ALIAS", help="Or MODEL/VERSION. An alias is followed: moving it rolls the endpoint.")
    ],
    name: Annotated[str, typer.Option(help="The endpoint's name; the model's when not given.")] = "",
    replicas: Annotated[str, typer.Option(help="How many: 2, or 0..4 to scale with the requests, down to none.")] = "",
    canary: Annotated[str, typer.Option(help="Percents of traffic to go through, e.g. 10 or 10,50; 0 for all at once.")] = "",
    concurrency: Annotated[float | None, typer.Option(min=0.1, help="Requests at once that a replica is meant to have.")] = None,
    idle: Annotated[float | None, typer.Option(min=1, help="Seconds without a request after which it scales down to its least.")] = None,
    cpu: Annotated[
        float | None,
        typer.Option(min=0.01, help="CPUs of each replica; 0.05 for a new endpoint."),
    ] = None,
    memory: Annotated[str, typer.Option(help="Memory of each replica, e.g. 2Gi.")] = "",
    gpu: Annotated[float | None, typer.Option(min=0, help="GPUs of each replica; below 1, a part of one.")] = None,
    shared: Annotated[
        bool | None,
        typer.Option("--shared/--own", help="Whether its replicas share processes with other small models of the project."),
    ] = None,
    keep_payloads: Annotated[str, typer.Option(help="Which requests and answers are kept: errors, 1%, all, errors,1% or none.")] = "",
    for_: Annotated[str, typer.Option("--for", help="How long payloads are kept, e.g. 12h or 30d.")] = "30d",
    webhook: Annotated[
        str | None, typer.Option(help="URL that is told of rollbacks, failures, lost replicas, drift and a used-up error budget.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the new revision has its traffic.")] = True,
    project: Annotated[str, typer.Option(help="Project; NARF_PROJECT or 'default' when not given.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Deploy a model version: a new endpoint, or a new revision of the one of this name."""
    least, most = _range(replicas)
    body: dict[str, Any] = {
        "model": model,
        "name": name,
        "least": least,
        "most": most,
        "canary": _steps(canary),
        "target": concurrency,
        "idle_seconds": idle,
        "webhook": webhook,
        "shared": shared,
        "keep": _keep(keep_payloads, for_),
        "resources": _resources(cpu, memory, gpu),
    }
    with connect() as connection:
        endpoint = connection.post(
            f"/api/v1/projects/{project or default_project()}/endpoints", {k: v for k, v in body.items() if v is not None}
        )
        if wait:
            endpoint = wait_until_serving(connection, endpoint, say=(lambda _text: None) if as_json else output.say)
    if as_json:
        output.print_json(endpoint)
        return
    print(f"{endpoint['name']} is {endpoint['state']}: {endpoint['url']}")
    output.say(f"try it: narf predict {endpoint['name']} --input FILE      look: narf endpoints show {endpoint['name']}")


def _range(text: str) -> tuple[int | None, int | None]:
    if not text:
        return None, None
    match = re.fullmatch(r"(\d{1,4})(?:(?:\.\.|-)(\d{1,4}))?", text)
    if match is None:
        raise BadInput(f"{text[:20]!r} is no number of replicas.", remedy="Write it as 2, or 0..4.", field="replicas")
    least = int(match[1])
    return least, int(match[2]) if match[2] else least


def _steps(text: str) -> list[int] | None:
    if not text:
        return None
    try:
        steps = [int(part.strip().removesuffix("%")) for part in text.split(",")]
    except ValueError:
        raise BadInput(f"{text[:40]!r} are no percents.", remedy="Write them as 10 or 10,50.", field="canary") from None
    return [] if steps == [0] else steps


def _keep(text: str, days: str) -> dict[str, Any] | None:
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,5}(?:\.\d{1,4})?)([hdw])", days.strip())
    if found is None:
        raise BadInput(f"{days[:20]!r} is no time.", remedy="Write it as 12h, 30d or 8w.", field="for")
    keep: dict[str, Any] = {"percent": 0.0, "errors": False, "days": float(found[1]) * {"h": 1 / 24, "d": 1, "w": 7}[found[2]]}
    for word in (part.strip() for part in text.split(",")):
        share = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)\s?%", word)
        if word == "errors":
            keep["errors"] = True
        elif word == "all" or share is not None:
            keep["percent"] = 100.0 if share is None else float(share[1])
        elif word != "none":
            raise BadInput(f"{word[:20]!r} says no payloads to keep.", remedy="Write errors, 1%, all or none.", field="keep-payloads")
    return keep


def _resources(cpu: float | None, memory: str, gpu: float | None) -> dict[str, Any] | None:
    """What was given; the platform knows the rest. None: nothing was, it stays as it is."""
    asked: dict[str, Any] = {"cpu": cpu, "gpu": gpu}
    if memory:
        from narf.client.amounts import parse_size

        asked["memory_bytes"] = parse_size(memory)
    return {name: value for name, value in asked.items() if value is not None} or None
