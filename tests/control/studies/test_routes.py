"""Studies over HTTP: what is asked and answered, and that bad input is a 4xx with a sentence."""

from __future__ import annotations

import hashlib

import pytest

from narf.control.tracking.gate import PARENT_TAG

SCRIPT = b"""
import argparse
import mlflow
p = argparse.ArgumentParser()
p.add_argument("--lr", type=float, default=0.1)
p.add_argument("--size", type=int, default=32)
args = p.parse_args()
mlflow.log_metric("val_loss", abs(args.lr - 0.3))
"""
STUDIES = "/api/v1/projects/default/studies"


@pytest.fixture(scope="module")
def snapshot(admin):
    digest = hashlib.sha256(SCRIPT).hexdigest()
    assert admin.put(f"/api/v1/projects/default/objects/{digest}", content=SCRIPT).is_success
    files = [{"path": "train.py", "sha256": digest, "size": len(SCRIPT)}]
    return admin.post("/api/v1/projects/default/snapshots", json={"files": files}).json()["id"]


def test_the_form_is_filled_from_discovery(admin, snapshot):
    found = admin.post(f"{STUDIES}/discover", json={"snapshot": snapshot, "script": "train.py"}).json()
    assert found["tunable"] == ["lr", "size"]
    assert found["parameters"][0]["range"] == "0.0033..1.0 log"
    assert (found["metrics"][0]["name"], found["metrics"][0]["direction"]) == ("val_loss", "minimize")


def test_a_study_is_begun_listed_shown_and_steered(admin, snapshot):
    begun = admin.post(STUDIES, json={"snapshot": snapshot, "script": "train.py", "name": "one", "budget": {"trials": 3}})
    assert begun.status_code == 201, begun.text
    study = begun.json()
    assert (study["state"], study["metric"], study["direction"], study["sampler"]) == ("running", "val_loss", "minimize", "tpe")
    assert [parameter["name"] for parameter in study["space"]] == ["lr", "size"]
    assert study["id"] in [item["id"] for item in admin.get(STUDIES).json()["items"]]
    place = f"/api/v1/studies/{study['id']}"
    assert admin.get(f"{STUDIES}/named/one").json()["id"] == study["id"]
    assert admin.get(f"{place}/trials").json() == {"items": [], "next": None}
    for part in ("history", "importance", "parallel", "slice"):
        assert admin.get(f"{place}/{part}").status_code == 200
    assert admin.get(f"{place}/best").status_code == 404
    assert admin.post(f"{place}/pause").json()["state"] == "paused"
    assert admin.post(f"{place}/resume").json()["state"] == "running"
    assert admin.post(f"{place}/extend", json={"budget": {"trials": 9}}).json()["budget"]["trials"] == 9
    assert admin.post(f"{place}/cancel").json()["state"] == "cancelled"
    assert admin.post(f"{place}/pause").status_code == 409
    assert admin.get(f"{STUDIES}/board").json()["groups"][0]["metric"] == "val_loss"


def test_a_driver_begins_trials_and_tells_what_came_of_them(admin, snapshot):
    asked = {"snapshot": snapshot, "script": "train.py", "name": "driven", "engine": "ray", "budget": {"trials": 2}}
    place = f"/api/v1/studies/{admin.post(STUDIES, json=asked).json()['id']}/driver"
    spec = admin.post(f"{place}/begin").json()
    assert (spec["metric"], spec["trials"]) == ("val_loss", [])
    first = admin.post(f"{place}/trials", json={"key": "a", "values": {"lr": 0.1, "size": 32}}).json()
    assert admin.post(f"{place}/trials", json={"key": "a", "values": {"lr": 0.1, "size": 32}}).json() == first
    assert admin.post(f"{place}/trials", json={"key": "b", "values": {"lr": 7.0}}).status_code == 422
    at = "2026-01-01T00:00:00Z"
    told = {"values": {"lr": 0.1, "size": 32}, "state": "succeeded", "started_at": at, "ended_at": at}
    result = admin.post(f"{place}/results", json=told | {"number": first["number"], "reports": [[0, 0.5], [1, 0.25]]})
    assert result.status_code == 200, result.text
    second = admin.post(f"{place}/trials", json={"key": "b", "values": {"lr": 0.5, "size": 64}}).json()
    admin.post(f"{place}/results", json=told | {"number": second["number"], "reports": [[0, None]]})
    trials = admin.get(place.removesuffix("driver") + "trials").json()["items"]
    assert [(trial["state"], trial["value"], trial["fault"]) for trial in trials] == [
        ("succeeded", 0.25, None),
        ("failed", None, "diverged"),
    ]
    lost = admin.post(f"{place}/trials", json={"key": "c", "values": {"lr": 0.2, "size": 64}}).json()
    again = admin.post(f"{place}/begin").json()["trials"]
    assert [trial["state"] for trial in again] == ["succeeded", "failed", "cancelled"]
    assert again[2]["number"] == lost["number"]
    assert admin.post(f"{place}/results", json=told | {"number": 99}).status_code == 404


def test_the_run_of_a_driven_trial_takes_what_its_driver_ships(admin, snapshot):
    asked = {"snapshot": snapshot, "script": "train.py", "name": "shipped", "engine": "ray", "budget": {"trials": 2}}
    study = admin.post(STUDIES, json=asked).json()
    trial = admin.post(f"/api/v1/studies/{study['id']}/driver/trials", json={"key": "a", "values": {"lr": 0.1, "size": 32}}).json()
    assert admin.get(f"/api/v1/runs/{trial['run_id']}").json()["tags"][PARENT_TAG] == study["run_id"]


def test_a_member_of_a_population_that_was_paused_goes_on_with_its_newest_values(admin, snapshot):
    asked = {"snapshot": snapshot, "script": "train.py", "name": "members", "engine": "ray", "sampler": "pbt", "budget": {"trials": 8}}
    study = admin.post(STUDIES, json={**asked, "space": {"lr": "0.1..1"}, "only_space": True}).json()
    place = f"/api/v1/studies/{study['id']}"
    number = admin.post(f"{place}/driver/trials", json={"key": "a", "values": {"lr": 0.1}}).json()["number"]

    def tell(lr, value, minute, state="paused"):
        body = {"number": number, "values": {"lr": lr}, "state": state, "reports": [[0, value]]}
        at = {"started_at": f"2026-01-01T00:0{minute}:00Z", "ended_at": f"2026-01-01T00:0{minute + 1}:00Z"}
        assert admin.post(f"{place}/driver/results", json=body | at).status_code == 200

    tell(0.1, 0.5, 0)
    tell(0.4, 0.25, 2)
    tell(0.4, 0.25, 2)  # the answer was lost, and it is told again
    tell(0.1, 0.5, 0)  # one that comes late
    (trial,) = admin.get(f"{place}/trials").json()["items"]
    assert (trial["values"], trial["value"], trial["state"]) == ({"lr": 0.4}, 0.25, "paused")
    assert trial["sentence"] == "It goes on when its turn comes." and admin.get(place).json()["best_value"] == 0.25
    assert admin.get(f"/api/v1/runs/{trial['run_id']}").json()["status"] not in ("FINISHED", "KILLED")
    # Its driver was lost, and another one begins: nobody goes on with it, and what it reached counts.
    assert [trial["state"] for trial in admin.post(f"{place}/driver/begin").json()["trials"]] == ["succeeded"]
    assert admin.get(f"/api/v1/runs/{trial['run_id']}").json()["status"] == "FINISHED"
    tell(0.4, 0.125, 4, state="succeeded")
    assert admin.get(f"{place}/trials").json()["items"][0]["value"] == 0.125


def test_a_study_says_which_values_its_script_did_not_use_whatever_a_program_writes_there(admin, snapshot):
    asked = {"snapshot": snapshot, "script": "train.py", "name": "unused", "engine": "ray", "budget": {"trials": 3}}
    place = f"/api/v1/studies/{admin.post(STUDIES, json=asked).json()['id']}"
    values = {"lr": 0.1, "size": 32}
    runs = [admin.post(f"{place}/driver/trials", json={"key": key, "values": values}).json()["run_id"] for key in "abc"]
    for run, said in zip(runs, ('["lr"]', "no JSON", "7"), strict=True):
        tag = {"run_id": run, "key": "narf.unused_parameters", "value": said}
        assert admin.post("/api/2.0/mlflow/runs/set-tag", json=tag).status_code == 200
    assert admin.get(place).json()["warnings"] == ["lr was not used by the script in trial 0."]


def test_a_driven_trial_without_the_metric_says_which_it_reported(admin, snapshot):
    asked = {"snapshot": snapshot, "script": "train.py", "name": "other", "engine": "ray", "budget": {"trials": 2}}
    place = f"/api/v1/studies/{admin.post(STUDIES, json=asked).json()['id']}/driver"
    trial = admin.post(f"{place}/trials", json={"key": "a", "values": {"lr": 0.1, "size": 32}}).json()
    metric = {"run_id": trial["run_id"], "key": "val_auc", "value": 0.5, "timestamp": 1, "step": 0}
    assert admin.post("/api/2.0/mlflow/runs/log-metric", json=metric).status_code == 200
    at = "2026-01-01T00:00:00Z"
    told = {"number": trial["number"], "values": {"lr": 0.1, "size": 32}, "state": "succeeded", "started_at": at, "ended_at": at}
    assert admin.post(f"{place}/results", json=told).json()["fault"] == "no_metric"
    (trial,) = admin.get(place.removesuffix("driver") + "trials").json()["items"]
    assert "It reported val_auc." in trial["sentence"]


def test_a_trial_that_its_driver_found_hanging_is_marked_so(admin, snapshot):
    asked = {"snapshot": snapshot, "script": "train.py", "name": "hanging", "engine": "ray", "budget": {"trials": 2}}
    place = f"/api/v1/studies/{admin.post(STUDIES, json=asked).json()['id']}/driver"
    number = admin.post(f"{place}/trials", json={"key": "a", "values": {"lr": 0.1, "size": 32}}).json()["number"]
    at = "2026-01-01T00:00:00Z"
    told = {"number": number, "values": {"lr": 0.1, "size": 32}, "state": "hung", "reports": [[0, 0.5]], "started_at": at, "ended_at": at}
    assert admin.post(f"{place}/results", json=told).json()["fault"] == "hung"
    (trial,) = admin.get(place.removesuffix("driver") + "trials").json()["items"]
    assert (trial["state"], trial["fault"]) == ("failed", "hung")


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"script": "other.py"}, 422, "no file"),
        ({"snapshot": "0" * 64}, 404, "no"),
        ({"space": [{"name": "lr", "low": 1, "high": 2}, {"name": "lr", "low": 1, "high": 2}]}, 422, "Two parameters"),
        ({"space": {"lr": "2..1"}}, 422, "empty range"),
        ({"space": {"rate": "1..2"}}, 422, "no parameter 'rate'"),
        ({"sampler": "oracle"}, 422, "no sampler"),
        ({"pruner": "shears"}, 422, "no pruner"),
        ({"sampler_options": {"speed": 1}}, 422, "no option"),
        ({"budget": {"trials": 0}}, 422, "greater than"),
        ({"budget": {}}, 422, "needs an end"),
        ({"metric": "quux"}, 422, "less or more"),
        ({"name": "Not a name"}, 422, "cannot name"),
        ({"warm_from": ["nothing"]}, 404, "no study"),
        ({"initial": [{"lr": 50}]}, 422, "outside"),
        ({"skip": ["lr", "size"]}, 422, "all are skipped"),
        ({"space": {"lr": "1..2"}, "skip": ["lr"]}, 422, "all are skipped"),
        ({"space": {"lr": "1..2"}, "skip": ["lrr"]}, 422, "no parameter 'lrr'"),
        ({"metric": "val_los"}, 422, "less or more is better"),
        ({"sampler": "pbt", "sampler_options": {"population": 1}}, 422, "2 to 10,000"),
        ({"parallel": 0}, 422, "greater than"),
        ({"engine": "ray", "pruner": "percentile"}, 422, "has no pruner 'percentile'"),
        ({"engine": "ray", "parallel": 900, "resources": {"cpu": 4}}, 422, "900 at once run in one job"),
    ],
)
def test_bad_input_changes_nothing_and_says_what_to_do(admin, snapshot, changes, status, says):
    before = len(admin.get(STUDIES, params={"limit": 500}).json()["items"])
    answer = admin.post(STUDIES, json={"snapshot": snapshot, "script": "train.py"} | changes)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]
    assert len(admin.get(STUDIES, params={"limit": 500}).json()["items"]) == before


def test_strangers_see_nothing(nobody, admin, snapshot):
    assert nobody.get(STUDIES).status_code == 401
    assert admin.get("/api/v1/studies/st-nothing").status_code == 404
    assert admin.get(STUDIES, params={"cursor": "nonsense"}).status_code == 422
