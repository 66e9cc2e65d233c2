"""Whatever is sent, the API answers with a sentence and never with a mistake of its own (5xx)."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from starlette.testclient import TestClient

from narf.bootstrap import Platform

schemathesis = pytest.importorskip("schemathesis")

_LEFT_OUT = {"/api/v1/session", "/api/v1/gc"}  # signing out, and deleting, would change what the others are tried on
_PASSED = {"method", "url", "params", "json", "content", "data", "files"}
_QUICK = settings(
    max_examples=8, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)


@pytest.mark.slow
def test_no_input_makes_a_5xx(platform: Platform, admin: TestClient):
    schema = schemathesis.openapi.from_dict(platform.app.openapi())
    faults: list[str] = []
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation is not None and operation.path not in _LEFT_OUT:
            faults += faults_of(operation, admin)
    assert sorted(set(faults)) == []


def faults_of(operation: Any, admin: TestClient) -> list[str]:
    faults: list[str] = []

    @_QUICK
    @given(case=operation.as_strategy())
    def attempt(case: Any) -> None:
        request = case.as_transport_kwargs(base_url="http://testserver")
        headers = {**dict(request.get("headers") or {}), "Authorization": admin.headers["Authorization"]}
        answer = admin.request(headers=headers, **{key: request[key] for key in request if key in _PASSED})
        if answer.status_code >= 500 and answer.status_code not in (501, 503):
            faults.append(f"{operation.method.upper()} {operation.path}: {answer.status_code} {answer.text[:200]}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attempt()
    return faults
