"""The tokens of replicas and gateways last as long as what they serve."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from narf.control.access.service import AccessService
from narf.control.endpoints.feature import _GatewayToken
from narf.control.workloads.jobs import JobMaker
from narf.control.workloads.store import Attempt
from narf.domain.errors import NotSignedIn
from narf.domain.workload import WorkloadKind

YEARS = 20 * 365


@pytest.fixture
def access(database, clock) -> AccessService:
    service = AccessService(database, clock)
    service.create_user("root-admin", by="test", is_admin=True)
    return service


def test_the_gateways_token_is_found_again_for_years_and_made_anew_when_it_was_revoked(access, clock, tmp_path):
    gateway = _GatewayToken(access, tmp_path / "gateway.token")
    first = gateway()
    assert access.principal_of_token(first).is_admin and (tmp_path / "gateway.token").stat().st_mode & 0o077 == 0
    clock.forward(days=YEARS)
    assert gateway() == first
    (token,) = access.list_tokens(None)
    access.revoke_token(token.id, by=access.principal_of_token(first))
    assert gateway() != first and access.principal_of_token(gateway()).is_admin


def test_a_replicas_token_lasts_until_its_workload_ends_and_that_of_others_a_month_at_most(served, clock):
    served.register("lasting")
    answer = served.http.post("/api/v1/projects/default/endpoints", json={"model": "lasting/1", "least": 1})
    assert answer.status_code == 201, answer.text
    served.look()
    (replica,) = served.endpoint("lasting")["replicas"]
    workload = served.platform.workloads.workload(replica["workload_id"])
    assert workload.kind is WorkloadKind.REPLICA
    nothing: Any = None
    access = AccessService(served.platform.workloads._database, clock)  # the same accounts, with a clock of ours
    clock.time = served.now
    jobs = JobMaker(access, nothing, nothing, "http://127.0.0.1:1", "/checkpoints")
    attempt = Attempt(workload_id=workload.id, attempt=1, backend="local", placement=(), admitted_at=served.now)
    secret = jobs(workload, attempt).environment["NARF_TOKEN"]
    trained = jobs(replace(workload, id="wl-training", kind=WorkloadKind.TRAINING), attempt).environment["NARF_TOKEN"]
    assert access.principal_of_token(trained).workload_id == "wl-training"
    clock.forward(days=YEARS)
    assert access.principal_of_token(secret).workload_id == workload.id
    with pytest.raises(NotSignedIn):
        access.principal_of_token(trained)
    access.revoke_workload(workload.id)
    with pytest.raises(NotSignedIn):
        access.principal_of_token(secret)
