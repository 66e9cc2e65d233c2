"""What MLflow's entry points name. It is loaded while MLflow itself is being imported, so it imports MLflow only when called."""

from __future__ import annotations

from typing import Any


def tracking_store(store_uri: str | None = None, artifact_uri: str | None = None) -> Any:
    from narf.tracking.store import NarfTrackingStore

    return NarfTrackingStore(store_uri, artifact_uri)


def registry_store(store_uri: str | None = None) -> Any:
    from narf.tracking.registry import NarfRegistryStore

    return NarfRegistryStore(store_uri)
