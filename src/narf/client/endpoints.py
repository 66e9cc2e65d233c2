"""Endpoints from Python: `narf.deploy("digits@champion")` waits until the model serves, and gives something to ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from narf.client.connection import Connection, connect, default_project
from narf.domain.errors import NarfError

_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Endpoint:
    """One that has been deployed. `facts` is what the API said of it last."""

    name: str
    url: str
    facts: Mapping[str, Any]
    connection: Connection

    def predict(self, inputs: Any) -> Any:
        """The model's answer to `inputs`: rows, or a table of tensors by name; NumPy arrays are sent as lists.

        Raises:
            NarfError: the model refused them, or nobody answers; the sentence says which.
        """
        return self.connection.post(f"{self.url}/predict", {"inputs": _plain(inputs)})["outputs"]


def deploy(
    model: str,
    *,
    name: str = "",
    replicas: int | tuple[int, int] | None = None,
    canary: Sequence[int] | None = None,
    project: str = "",
    wait: bool = True,
    connection: Connection | None = None,
    **more: Any,
) -> Endpoint:
    """Deploy a model version: a new endpoint, or a new revision of the one of this name.

    Args:
        model: "digits@champion" (the alias is followed) or "digits/3".
        replicas: how many, or (least, most) to scale with the requests; least may be 0.
        canary: percents of the traffic to go through, e.g. [10, 50].
        more: any other field of a deployment, as in the HTTP API (`target`, `idle_seconds`, `webhook`, `resources`).
        wait: return once the new revision has traffic; False returns at once.

    Raises:
        NarfError: the deployment was refused, or did not get ready.
    """
    least, most = replicas if isinstance(replicas, tuple) else (replicas, replicas)
    body = {"model": model, "name": name, "least": least, "most": most, "canary": None if canary is None else list(canary), **more}
    line = connection or connect()
    endpoint = line.post(f"/api/v1/projects/{project or default_project()}/endpoints", {k: v for k, v in body.items() if v is not None})
    if wait:
        endpoint = wait_until_serving(line, endpoint)
    return Endpoint(endpoint["name"], endpoint["url"], endpoint, line)


def wait_until_serving(
    connection: Connection, endpoint: dict[str, Any], *, say: Callable[[str], None] = lambda _text: None, seconds: float = 300.0
) -> dict[str, Any]:
    """The endpoint once its newest revision has traffic, a canary's first share included. `say` hears what it waits for.

    Raises:
        NarfError: it failed, or did not get there in time.
    """
    # What was asked for may be served already: then there is no newer one.
    newest = max(r["number"] for r in endpoint["revisions"] if r["role"] in ("new", "active"))
    until, said = time.monotonic() + seconds, ""
    while time.monotonic() < until:
        endpoint = connection.get(f"/api/v1/endpoints/{endpoint['id']}")
        revision = next(r for r in endpoint["revisions"] if r["number"] == newest)
        if revision["role"] == "active":
            return endpoint
        if revision["role"] in ("failed", "retired"):
            raise NarfError(
                f"Revision {newest} of {endpoint['name']!r} {revision['role']}: {revision['reason']}.",
                remedy=f"See: narf endpoints show {endpoint['name']}",
                code="deployment_failed",
            )
        word = "starting a replica" if revision["replicas"] else "waiting for its package or for room"
        if word != said:
            say(f"revision {newest}: {word} ...")
            said = word
        time.sleep(_LOOK_SECONDS)
    raise NarfError(
        f"Revision {newest} of {endpoint['name']!r} is not ready after {seconds:g} s.",
        remedy=f"See: narf endpoints show {endpoint['name']}",
        code="not_ready",
    )


def _plain(inputs: Any) -> Any:
    if hasattr(inputs, "tolist"):
        return inputs.tolist()
    return {name: _plain(value) for name, value in inputs.items()} if isinstance(inputs, Mapping) else inputs
