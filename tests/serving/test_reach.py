"""Where replicas listen, and who may ask them there."""

from __future__ import annotations

import ipaddress

import httpx
import pytest
from packages import linear

from narf.serving.application import ReplicaApplication
from narf.serving.model import ServedModel
from narf.serving.reach import Hidden, is_loopback, own_address, url_of
from narf.serving.replica import InThread

ROW = {"inputs": [[1, 2, 3, 4]]}


@pytest.mark.parametrize(
    "control", ["", "http://127.0.0.1:8321", "http://localhost:8321", "http://[::1]:8321", "http://no-such-host.invalid:1"]
)
def test_beside_the_control_plane_or_without_one_a_replica_is_for_this_machine_alone(control):
    assert own_address(control) == "127.0.0.1"


def test_a_replica_elsewhere_listens_where_the_control_plane_is_reached_from_there():
    found = own_address("http://192.0.2.1:8321")  # nothing is sent
    assert ipaddress.ip_address(found) and (found == "127.0.0.1" or not is_loopback(found))  # without a network there is no other


def test_addresses_of_both_kinds_are_written_as_urls():
    assert url_of("10.0.0.7", 80) == "http://10.0.0.7:80" and url_of("fd00::7", 80) == "http://[fd00::7]:80"


@pytest.fixture
def hidden(tmp_path):
    """A replica as it is in a network: (where it listens, its whole address)."""
    model = ServedModel(linear(tmp_path / "linear"))
    model.start()
    application = Hidden(ReplicaApplication([model]))
    server = InThread(application)
    yield server.url, server.url + application.path
    server.close()
    model.stop()


def test_in_a_network_a_replica_answers_only_who_was_told_its_whole_address(hidden):
    url, address = hidden
    right = httpx.post(f"{address}/predict", json=ROW)
    assert right.status_code == 200 and len(right.json()["outputs"]["y"][0]) == 3
    assert httpx.get(f"{url}/healthz").status_code == 200
    for wrong in (url, address[:-1], address + "x", address[:-1] + "/", f"{url}//", f"{url}/{'x' * 40}"):
        for path in ("/predict", "/v2", "/v2/models/linear", "/metrics", "/openapi.json", "/v2/models/linear/infer", ""):
            answer = httpx.post(wrong + path, json=ROW)
            assert answer.status_code == 404 and answer.json()["code"] == "not_found", wrong + path
    assert httpx.get(address).status_code == 404  # it is the models' addresses that are below it
