"""Which models share a process, as properties, and what the platform does about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narf.control.endpoints.sharing import MOST_MODELS, PROVEN, SUSPECTED, Host, apart_until, choose_host, must_be_apart
from narf.domain.workload import EndReason

NOW = datetime(2026, 11, 28, tzinfo=UTC)
HOSTS = st.lists(
    st.builds(
        Host,
        workload_id=st.text("abc", min_size=1, max_size=3),
        project=st.sampled_from(["bank", "shop"]),
        revisions=st.lists(st.text("xyz", min_size=1, max_size=2), max_size=MOST_MODELS + 1, unique=True).map(tuple),
        takes_more=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda host: host.workload_id,
)


@given(HOSTS, st.text("xyz", min_size=1, max_size=2))
def test_a_model_joins_a_process_of_its_project_that_has_room_and_does_not_hold_it_yet(hosts, revision):
    chosen = choose_host(hosts, "bank", revision)
    fitting = [h for h in hosts if h.project == "bank" and h.takes_more and revision not in h.revisions and len(h.revisions) < MOST_MODELS]
    assert (chosen is None) == (not fitting)
    if chosen is not None:
        (host,) = [host for host in fitting if host.workload_id == chosen]
        assert len(host.revisions) == max(len(other.revisions) for other in fitting)
    assert choose_host(hosts[::-1], "bank", revision) == chosen


@given(st.none() | st.timedeltas(timedelta(days=-9), timedelta(days=9)).map(lambda span: NOW + span), st.booleans())
def test_who_was_in_a_process_that_ended_is_apart_for_a_while_and_who_ended_its_own_for_long(before, was_shared):
    until = apart_until(before, NOW, was_shared=was_shared)
    assert until >= NOW + (SUSPECTED if was_shared else PROVEN) and (before is None or until >= before)
    assert must_be_apart(platforms_environment=True, size_bytes=1, apart_until=until, now=NOW)
    assert not must_be_apart(platforms_environment=True, size_bytes=1, apart_until=until, now=until)


def test_large_models_and_those_with_packages_of_their_own_do_not_share():
    assert must_be_apart(platforms_environment=False, size_bytes=1, apart_until=None, now=NOW)
    assert must_be_apart(platforms_environment=True, size_bytes=1 << 30, apart_until=None, now=NOW)


def deploy(served, name, version=1, **more):
    answer = served.http.post(
        "/api/v1/projects/default/endpoints", json={"model": f"small/{version}", "name": name, "shared": True, "least": 1, **more}
    )
    assert answer.status_code == 201, answer.text
    served.look()
    return answer.json()


def hold(served, *names):
    """The shared processes of these endpoints have loaded what they should."""
    for name in names:
        numbers = {revision["number"]: revision["id"] for revision in served.endpoint(name)["revisions"]}
        for replica in served.endpoint(name)["replicas"]:
            if replica["state"] == "starting":
                revision = numbers[replica["revision"]]
                body = {"url": f"http://127.0.0.1:9/hosted/{revision}", "revision": revision}
                assert served.http.post(f"/api/v1/replicas/{replica['workload_id']}/address", json=body).status_code == 204
    served.look(2)


def replicas(served, name):
    return [(replica["workload_id"], replica["revision"], replica["state"]) for replica in served.endpoint(name)["replicas"]]


def held(served, workload):
    answer = served.http.get(f"/api/v1/replicas/{workload}/models")
    assert answer.status_code == 200, answer.text
    return {(model["name"], model["version"]) for model in answer.json()["models"]}


def test_endpoints_that_share_are_in_one_process_which_is_told_what_to_hold(served):
    served.register("small")
    for name in ("a", "b", "c"):
        deploy(served, name)
    (process,) = {workload for name in ("a", "b", "c") for workload, _, _ in replicas(served, name)}
    assert held(served, process) == {("a", "1"), ("b", "1"), ("c", "1")}
    hold(served, "a", "b", "c")
    urls = {served.table(name)["revisions"][0]["replicas"][0]["url"] for name in ("a", "b", "c")}
    assert len(urls) == 3 and all("/hosted/rev-" in url for url in urls)
    ids = {served.table(name)["revisions"][0]["replicas"][0]["id"] for name in ("a", "b", "c")}
    assert len(ids) == 3
    assert served.endpoint("a")["shared"] and served.endpoint("a")["state"] == "ready"


def test_a_rollout_of_one_is_a_second_model_in_the_same_process_and_its_neighbour_is_not_touched(served):
    served.register("small")
    deploy(served, "a")
    deploy(served, "b")
    hold(served, "a", "b")
    (process, _, _) = replicas(served, "a")[0]
    served.register("small")
    deploy(served, "a", version=2)
    assert held(served, process) == {("a", "1"), ("a", "2"), ("b", "1")}
    hold(served, "a")
    for _ in range(4):
        served.look(2)
    retired = [row for row in replicas(served, "a") if row[1] == 1]
    assert all(state != "ready" or workload == process for workload, _, state in retired)  # kept for a rollback, in the same process
    assert [row for row in replicas(served, "a") if row[1] == 2] == [(process, 2, "ready")]
    assert replicas(served, "b") == [(process, 1, "ready")]


def test_when_a_shared_process_ends_each_of_its_models_gets_its_own_for_a_while(served):
    served.register("small")
    for name in ("a", "b"):
        deploy(served, name)
    hold(served, "a", "b")
    (process, _, _) = replicas(served, "a")[0]
    served.fail(process)
    served.look()
    after = {name: replicas(served, name)[0][0] for name in ("a", "b")}
    assert process not in after.values() and after["a"] != after["b"]
    assert not any(replica["shared"] for name in after for replica in served.endpoint(name)["replicas"])
    assert any("ended" in event["sentence"] for event in served.endpoint("b")["events"])


@pytest.mark.parametrize("reason", [EndReason.NODE_LOST, EndReason.PREEMPTED, EndReason.CANCELLED, EndReason.START_FAILED])
def test_when_a_shared_process_ends_by_what_no_model_does_they_go_on_sharing(served, reason):
    served.register("small")
    for name in ("a", "b"):
        deploy(served, name)
    hold(served, "a", "b")
    (process, _, _) = replicas(served, "a")[0]
    served.fail(process, reason)
    served.look()
    (after,) = {replicas(served, name)[0][0] for name in ("a", "b")}
    assert after != process and held(served, after) == {("a", "1"), ("b", "1")}


def test_the_model_that_ends_its_own_process_stays_apart_and_its_neighbour_shares_again(served):
    """Which of the two ended the shared process is not known; each gets its own, and one does it again there."""
    served.register("small")
    for name in ("bad", "good", "third"):
        deploy(served, name)
    hold(served, "bad", "good", "third")
    served.fail(replicas(served, "bad")[0][0])
    served.look()
    for _ in range(3):
        for name in ("bad", "good", "third"):
            served.become_ready(name)
        served.look(2)
    served.fail(replicas(served, "bad")[0][0])
    served.look(601)  # those who were only suspected share again, from their next start on
    for name in ("good", "third"):
        served.fail(replicas(served, name)[0][0], EndReason.NODE_LOST)
    served.look(601)
    alone, *shared = (served.endpoint(name)["replicas"][0] for name in ("bad", "good", "third"))
    assert not alone["shared"] and all(each["shared"] for each in shared)
    assert len({each["workload_id"] for each in shared}) == 1


def test_a_model_that_cannot_be_loaded_fails_alone(served):
    served.register("small")
    deploy(served, "good")
    hold(served, "good")
    deploy(served, "bad")
    for _ in range(3):
        for workload, _, state in replicas(served, "bad"):
            assert state == "starting"
            revision = served.endpoint("bad")["revisions"][0]["id"]
            body = {"revision": revision, "sentence": "ValueError: no such layer"}
            assert served.http.post(f"/api/v1/replicas/{workload}/failed", json=body).status_code == 204
        served.look(60)
    assert served.endpoint("bad")["state"] == "trouble"
    assert any("no such layer" in event["sentence"] for event in served.endpoint("bad")["events"])
    assert served.endpoint("good")["state"] == "ready" and len(replicas(served, "good")) == 1


def test_a_shared_process_that_leaves_for_its_memory_lets_all_of_its_models_be_started_apart(served):
    served.register("small")
    for name in ("a", "b"):
        deploy(served, name)
    hold(served, "a", "b")
    (process, _, _) = replicas(served, "a")[0]
    assert served.http.post(f"/api/v1/replicas/{process}/leaving", json={"sentence": "It has grown."}).status_code == 204
    served.look()
    fresh = [replica for name in ("a", "b") for replica in served.endpoint(name)["replicas"] if replica["state"] == "starting"]
    assert len(fresh) == 2 and not any(replica["shared"] for replica in fresh)


def test_a_model_that_hangs_is_known_and_set_apart_alone(served):
    served.register("small")
    for name in ("hangs", "b", "c"):
        deploy(served, name)
    hold(served, "hangs", "b", "c")
    (process, _, _) = replicas(served, "hangs")[0]
    body = {"sentence": "Model 'hangs' hangs.", "at_once": True, "revision": served.endpoint("hangs")["revisions"][0]["id"]}
    assert served.http.post(f"/api/v1/replicas/{process}/leaving", json=body).status_code == 204
    served.look()
    fresh = {name: next(r for r in served.endpoint(name)["replicas"] if r["state"] == "starting") for name in ("hangs", "b", "c")}
    assert {name: replica["shared"] for name, replica in fresh.items()} == {"hangs": False, "b": True, "c": True}
    assert fresh["b"]["workload_id"] == fresh["c"]["workload_id"] != process
    assert "Model 'hangs' hangs." in served.endpoint("b")["events"][0]["sentence"]


def test_a_model_that_goes_back_to_a_process_that_has_not_let_go_of_it_yet_is_waited_for_there(served):
    served.register("small")
    deploy(served, "stays")
    deploy(served, "flees", least=0)
    hold(served, "stays", "flees")
    (process, _, _) = replicas(served, "flees")[0]

    def asked():
        answer = served.http.get(f"/api/v1/replicas/{process}/models").json()
        return answer["version"], {model["name"]: model["state"] for model in answer["models"]}

    before, states = asked()
    assert states == {"stays": "ready", "flees": "ready"}
    served.now += timedelta(minutes=10)
    for _ in range(3):
        served.look(2)
    assert replicas(served, "flees") == []
    served.report("flees", concurrency=1, waiting=1)
    served.look(0.1)
    assert replicas(served, "flees") == [(process, 1, "starting")]
    after, states = asked()  # the first question since
    assert states == {"stays": "ready", "flees": "starting"} and after != before
    hold(served, "flees")
    assert asked() == (before, {"stays": "ready", "flees": "ready"})


def test_the_process_ends_with_its_last_model(served):
    served.register("small")
    for name in ("a", "b"):
        deploy(served, name)
    hold(served, "a", "b")
    (process, _, _) = replicas(served, "a")[0]
    served.http.delete(f"/api/v1/endpoints/{served.endpoint('a')['id']}")
    served.look()
    assert held(served, process) == {("b", "1")}
    assert not served.platform.workloads.workload(process).state.is_finished
    served.http.delete(f"/api/v1/endpoints/{served.endpoint('b')['id']}")
    served.look()
    assert served.platform.workloads.workload(process).state.is_finished


def test_who_shares_has_no_resources_of_its_own(served):
    served.register("small")
    answer = served.http.post(
        "/api/v1/projects/default/endpoints", json={"model": "small/1", "name": "a", "shared": True, "resources": {"cpu": 2}}
    )
    assert answer.status_code == 422 and "no resources of its own" in answer.text
