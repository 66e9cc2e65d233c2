"""The registry over HTTP: what MLflow sees, what a package needs, and what bad input gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from narf.control.workloads import store as workloads_store

BASE = "/api/v1/projects/default/models"


def test_a_registered_version_has_lineage_aliases_and_after_packaging_its_evidence(served):
    version = served.register("iris", alias="champion", package=False)
    assert served.http.get(f"{BASE}/iris/versions/{version}").json()["package"]["state"] == "packaging"
    workload = served.http.get(f"{BASE}/iris").json()["versions"][0]["package"]["workload_id"]
    asked = served.http.get(f"/api/v1/workloads/{workload}").json()
    assert asked["arguments"][0] == "package" and any(part.startswith("runs:/") for part in asked["arguments"])
    assert served.send_package("iris", version).status_code == 200
    found = served.http.get(f"{BASE}/iris/versions/{version}").json()
    assert found["package"]["state"] == "ready" and found["package"]["runtime"] == "onnx" and found["aliases"] == ["champion"]
    assert found["package"]["signature"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    lineage = served.http.get(f"{BASE}/iris/versions/{version}/lineage").json()
    assert lineage["run"] == found["run_id"] and lineage["code"] == {"commit": "abc123"} and lineage["parameters"] == {"lr": "0.1"}


def test_mlflows_own_api_sees_the_same_models_and_aliases(served):
    version = served.register("wine", alias="champion")
    found = served.http.get("/api/2.0/mlflow/registered-models/alias", params={"name": "wine", "alias": "champion"}).json()
    assert found["model_version"]["version"] == str(version)
    assert {tag["key"]: tag["value"] for tag in found["model_version"]["tags"]}["narf.runtime"] == "onnx"
    served.http.post("/api/2.0/mlflow/registered-models/alias", json={"name": "wine", "alias": "blue", "version": str(version)})
    assert served.http.get(f"{BASE}/wine").json()["aliases"] == {"champion": version, "blue": version}


def test_versions_count_up_and_aliases_move(served):
    first, second = served.register("boats"), served.register("boats")
    assert second == first + 1
    assert served.http.put(f"{BASE}/boats/aliases/prod", json={"version": first}).status_code == 200
    assert served.http.put(f"{BASE}/boats/aliases/prod", json={"version": second}).json()["aliases"]["prod"] == second
    assert served.http.delete(f"{BASE}/boats/aliases/prod").status_code == 204
    assert (
        served.http.patch(f"{BASE}/boats/versions/{first}", json={"description": "slow", "tags": {"a": "b"}}).json()["description"]
        == "slow"
    )
    assert served.http.delete(f"{BASE}/boats/versions/{first}").status_code == 204
    assert [v["version"] for v in served.http.get(f"{BASE}/boats").json()["versions"]] == [second]


def test_the_one_model_of_a_run_is_found_and_several_are_named_in_the_refusal(served):
    run = served.run("notes.txt", "checkpoints/epoch=1.ckpt", "checkpoints/best.ckpt", "last.ckpt")
    answer = served.http.post(BASE, json={"run": run, "name": "net"})
    assert answer.status_code == 201 and answer.json()["source"].endswith("checkpoints/best.ckpt")
    several = served.http.post(BASE, json={"run": served.run("a.onnx", "b.onnx"), "name": "net"})
    assert several.status_code == 422 and "a.onnx, b.onnx" in several.json()["detail"] and ":a.onnx" in several.json()["remedy"]


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"run": "0" * 32}, 404, "run"),
        ({"artifact": "missing.onnx"}, 404, "missing.onnx"),
        ({"artifact": "../../etc/passwd"}, 422, ""),
        ({"name": "No Spaces!"}, 422, "No Spaces!"),
        ({"name": ""}, 422, "name"),
        ({"aliases": ["latest"]}, 422, "latest"),
        ({"aliases": ["a b"]}, 422, "a b"),
        ({"packaging": {"only": "magic"}}, 422, "only"),
    ],
)
def test_a_registration_that_cannot_be_is_refused_and_changes_nothing(served, changes, status, says):
    before = served.http.get(BASE).json()
    answer = served.http.post(BASE, json={"run": served.run("model.onnx"), "name": "refused"} | changes)
    assert answer.status_code in (status, 404) and says in answer.text, answer.text
    assert served.http.get(BASE).json() == before


def test_a_run_without_a_model_and_unknown_things_say_so(served):
    assert "no model" in served.http.post(BASE, json={"run": served.run("log.txt"), "name": "x"}).text
    assert served.http.get(f"{BASE}/nope").status_code == 404
    assert served.http.get(f"{BASE}/nope/versions/1").status_code == 404
    assert served.http.get(f"{BASE}/nope/versions/0").status_code == 422
    assert served.http.put(f"{BASE}/nope/aliases/a", json={"version": 1}).status_code == 404


@pytest.mark.parametrize("body", [b"", b"not a tar", b"\x1f\x8b broken", b"x" * 100_000])
def test_a_package_that_is_none_is_refused_and_the_real_one_still_taken(served, body):
    version = served.register("cars", package=False)
    path = f"{BASE}/cars/versions/{version}/package"
    assert served.http.put(path, content=body).status_code == 422
    assert served.send_package("cars", version).status_code == 200
    assert served.send_package("cars", version).status_code == 409


def test_a_tar_that_points_outside_is_refused(served, tmp_path):
    import io
    import tarfile

    version = served.register("ships", package=False)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("../../evil.txt")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"evil"))
    assert served.http.put(f"{BASE}/ships/versions/{version}/package", content=buffer.getvalue()).status_code == 422
    assert not list(tmp_path.parent.rglob("evil.txt"))


def test_a_packaging_that_ended_without_a_package_has_failed(served):
    version = served.register("planes", package=False)
    workload = served.http.get(f"{BASE}/planes/versions/{version}").json()["package"]["workload_id"]
    served.fail(workload)
    next(loop._reconciler for loop in served.platform.loops if loop._reconciler.name == "packaging").pass_once(served.now)
    package = served.http.get(f"{BASE}/planes/versions/{version}").json()["package"]
    assert package["state"] == "failed" and workload in package["error"]
    refused = served.http.post("/api/v1/projects/default/endpoints", json={"model": f"planes/{version}"})
    assert refused.status_code == 409 and "could not be packaged" in refused.json()["detail"]


def test_a_whole_file_is_predicted_by_a_workload(served):
    version = served.register("lily", package=False)
    path, body = f"{BASE}/lily/versions/{version}/predict-file", {"input": "/data/in.parquet", "output": "/data/out.parquet"}
    assert served.http.post(path, json=body).status_code == 409
    served.send_package("lily", version)
    answer = served.http.post(path, json=body)
    assert answer.status_code == 201, answer.text
    workload = served.http.get(f"/api/v1/workloads/{answer.json()['workload_id']}").json()
    assert workload["kind"] == "batch_prediction" and workload["arguments"][-4:] == [
        "--input",
        "/data/in.parquet",
        "--output",
        "/data/out.parquet",
    ]
    for wrong in ({"input": "in.parquet"}, {"output": "../out.parquet"}, {"cpu": 0}, {"input": "/a\0b"}):
        assert served.http.post(path, json=body | wrong).status_code == 422
    assert served.http.post(f"{BASE}/lily/versions/99/predict-file", json=body).status_code == 404


def test_a_model_is_served_where_it_was_packaged_whatever_becomes_of_its_registry_entry(served):
    version = served.register("rose")
    models = served.reconciler._models
    package = models.package("default", "rose", version)
    workload = served.platform.workloads.workload(package.workload_id)
    own = replace(workload, program=replace(workload.program, requirements="xgboost==3.0", snapshot="abc"))
    with served.platform.workloads._database.write() as connection:
        workloads_store.save(connection, own, served.now)
    assert models.environment_of(package).is_the_platforms  # it was exported to ONNX
    pickled = replace(package, manifest={**package.manifest, "runtime": "pyfunc"})
    served.http.delete("/api/2.0/mlflow/model-versions/delete", params={"name": "rose", "version": str(version)})
    assert models.environment_of(pickled).requirements == "xgboost==3.0"
    assert models.environment_of(replace(pickled, workload_id=None)).is_the_platforms
