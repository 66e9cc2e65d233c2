"""Replicas in threads of the test process."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from narf.serving.model import ServedModel
from narf.serving.replica import start_in_thread


@pytest.fixture
def serve():
    """`serve(folder, ...)` starts a replica and gives an httpx client of it."""
    started = []

    def start(*folders, policy=None, limits=None, timeout=30.0, revision=""):
        models = [ServedModel(folder, policy=policy) for folder in folders]
        for model in models:
            model.start()
        server = start_in_thread(models, limits=limits, timeout=timeout, revision=revision)
        client = httpx.Client(base_url=server.url, timeout=30)
        client.server, client.models = server, models
        started.append((server, client, models))
        return client

    yield start
    for server, client, models in started:
        client.close()
        server.close()
        for model in models:
            model.stop()
