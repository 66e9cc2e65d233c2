"""The live service and its WebSocket, on a real database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from narf.control.audit.store import audit, record
from narf.control.database import Database, metadata
from narf.control.live import store
from narf.control.live.recent import Start
from narf.control.live.routes import router
from narf.control.live.service import Chunk, Cursor, Live
from narf.control.live.topics import TOPICS, Topics, tell
from narf.domain.access import Principal, Role
from narf.domain.errors import NotFound

NOW = datetime(2026, 11, 1, tzinfo=UTC)
TOPIC = "projects/vision/workloads"
ANN = Principal(user="ann", roles=(("vision", Role.VIEWER),))


class Counting:
    """A tail of the numbers from 0 to `self.end`."""

    def __init__(self) -> None:
        self.end = 0

    def read(self, parameters: Mapping[str, str], cursor: Cursor | None) -> Chunk:
        at = int(cursor or 0)
        following = range(at, min(self.end, at + 2))
        return Chunk(tuple((str(number + 1), f'"{parameters["workload"]} {number}"') for number in following), more=at + 2 < self.end)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'narf.db'}")
    metadata.create_all(database.engine, tables=[store.live_events])
    yield database
    database.close()


@pytest.fixture
def live(database: Database) -> Iterator[Live]:
    live = Live(database, lambda: NOW)
    yield live
    live.close()


def resolvers() -> dict[str, Callable[[str], str | None]]:
    return {kind: {"wl-1": "vision", "wl-2": "secret"}.get for kind in ("workload", "run", "study", "endpoint")}


class As:
    """Stands where the access check does: says who asks."""

    def __init__(self, app: ASGIApp, principal: Principal) -> None:
        self._app, self._principal = app, principal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["principal"] = self._principal
        await self._app(scope, receive, send)


def page(live: Live, principal: Principal = ANN) -> TestClient:
    app = FastAPI()
    app.include_router(router(live, Topics(resolvers())))
    return TestClient(As(app, principal))


def until_ready(socket: Any) -> list[dict[str, Any]]:
    heard = []
    while True:
        message = socket.receive_json()
        heard.append(message)
        if message.get("ready") or "problem" in message:
            return heard


def test_events_come_in_order_to_those_who_listen_and_to_no_other(live: Live) -> None:
    live.start()
    with page(live).websocket_connect("/api/v1/live") as socket:
        socket.send_json({"subscribe": TOPIC, "cursor": None})
        until_ready(socket)
        live.publish("projects/other/workloads", {"id": "unheard"})
        for number in range(5):
            live.publish(TOPIC, {"id": number})
        heard = [socket.receive_json() for _ in range(5)]
    assert [message["event"]["id"] for message in heard] == [0, 1, 2, 3, 4]
    cursors = [message["cursor"] for message in heard]
    assert cursors == sorted(set(cursors))


def test_a_page_that_comes_back_with_its_cursor_misses_nothing_also_after_a_restart(database: Database) -> None:
    first = Live(database, lambda: NOW)
    first.start()
    with page(first).websocket_connect("/api/v1/live") as socket:
        socket.send_json({"subscribe": TOPIC, "cursor": None})
        until_ready(socket)
        first.publish(TOPIC, {"id": 1})
        cursor = socket.receive_json()["cursor"]
    first.publish(TOPIC, {"id": 2})
    first.close()
    second = Live(database, lambda: NOW)  # the server was started anew
    second.publish(TOPIC, {"id": 3})
    second.pass_once()
    with page(second).websocket_connect("/api/v1/live") as socket:
        socket.send_json({"subscribe": TOPIC, "cursor": cursor})
        heard = until_ready(socket)
    second.close()
    assert [message["event"]["id"] for message in heard if "event" in message] == [2, 3]


def test_a_cursor_that_is_no_longer_kept_begins_anew_and_says_so(live: Live, database: Database) -> None:
    for number in range(10):
        live.publish(TOPIC, {"id": number})
    live.pass_once()
    with database.write() as connection:
        store.forget(connection, before=NOW - timedelta(days=1), keep=3)
    assert live.begin(2) == (Start.RESET, 10)
    assert live.begin(7) == (Start.BACKFILL, 7)
    assert live.begin(99) == (Start.RESET, 10)
    with page(live).websocket_connect("/api/v1/live") as socket:
        socket.send_json({"subscribe": TOPIC, "cursor": 2})
        heard = until_ready(socket)
    assert heard[0] == {"topic": TOPIC, "cursor": 10, "reset": True}


def test_cursors_go_on_after_everything_old_was_forgotten(live: Live, database: Database) -> None:
    live.publish(TOPIC, {"id": 1})
    live.pass_once()
    with database.write() as connection:
        store.forget(connection, before=NOW + timedelta(days=9), keep=0)
    assert Live(database, lambda: NOW).head == live.head == 1


def test_a_tail_is_read_on_from_where_the_page_is(live: Live) -> None:
    tail = Counting()
    live.tails["workloads/{workload}/log"] = tail
    tail.end = 5
    with page(live).websocket_connect("/api/v1/live") as socket:
        socket.send_json({"subscribe": "workloads/wl-1/log", "cursor": "1"})
        heard = until_ready(socket)
        tail.end = 6
        live.wake()
        heard.append(socket.receive_json())
    assert [message["event"] for message in heard if "event" in message] == [f"wl-1 {number}" for number in range(1, 6)]


def test_two_streams_of_one_topic_each_have_their_place(live: Live) -> None:
    for number in range(3):
        live.publish(TOPIC, {"id": number})
    live.pass_once()
    with page(live).websocket_connect("/api/v1/live") as socket:
        socket.send_json({"subscribe": TOPIC, "cursor": 2})
        first = until_ready(socket)
        socket.send_json({"subscribe": f"{TOPIC}#2", "cursor": 1})
        second = until_ready(socket)
    assert [message["event"]["id"] for message in first if "event" in message] == [2]
    assert [message["event"]["id"] for message in second if "event" in message] == [1, 2]


@pytest.mark.parametrize(
    "topic", ["projects/secret/workloads", "workloads/wl-2/log", "workloads/wl-9/log", "nonsense", "", "projects/vision/../x"]
)
def test_what_one_may_not_see_cannot_be_told_from_what_does_not_exist(live: Live, topic: str) -> None:
    with page(live).websocket_connect("/api/v1/live") as socket:
        socket.send_json({"subscribe": topic, "cursor": None})
        message = socket.receive_json()
    assert message["problem"]["code"] == "not_found"


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '"x"', "x" * 5000, '{"subscribe": 1}', '{"subscribe": "projects/vision/workloads", "cursor": [1]}',
                                  '{"subscribe": "projects/vision/workloads", "cursor": "text"}', '{"subscribe": "projects/vision/workloads", "cursor": -1}'])  # fmt: skip
def test_a_bad_message_is_answered_and_the_connection_lives_on(live: Live, text: str) -> None:
    with page(live).websocket_connect("/api/v1/live") as socket:
        socket.send_text(text)
        socket.send_json({"subscribe": TOPIC, "cursor": None})
        heard = [socket.receive_json()]
        while not heard[-1].get("ready"):
            heard.append(socket.receive_json())
    assert len(heard) <= 2


def test_one_page_cannot_listen_to_everything(live: Live) -> None:
    with page(live).websocket_connect("/api/v1/live") as socket:
        for number in range(201):
            socket.send_json({"subscribe": f"{TOPIC}#{number}", "cursor": None})
        while "problem" not in (message := socket.receive_json()):
            pass
    assert message["problem"]["code"] == "limit_reached"


def test_a_workloads_own_token_hears_nothing() -> None:
    with pytest.raises(NotFound):
        Topics(resolvers()).topic(TOPIC, Principal(user="ann", roles=ANN.roles, workload_id="wl-1"))


@pytest.mark.parametrize("template", TOPICS)
def test_every_topic_is_found_by_its_name(template: str) -> None:
    parameters = {"project": "vision", "workload": "wl-1", "run": "wl-1", "study": "wl-1", "endpoint": "wl-1"}
    topic = Topics(resolvers()).topic(template.format_map(parameters) + "#3", ANN)
    assert topic.template == template


def test_publishing_while_the_database_is_away_stays_bounded(live: Live) -> None:
    for number in range(50_000):
        live.publish(TOPIC, {"id": number})
    live.pass_once()
    assert live.head <= 20_001


def test_publishing_does_not_wait_for_the_database(live: Live, database: Database) -> None:
    live.start()
    with database.write():
        begin = time.perf_counter()
        live.publish(TOPIC, {"id": 1})
        assert time.perf_counter() - begin < 0.5


def test_an_audited_change_reaches_its_projects_topic_once_it_is_committed(database: Database, live: Live) -> None:
    metadata.create_all(database.engine, tables=[audit])
    database.changed = partial(tell, live)
    with database.write() as connection:
        record(connection, NOW, "ann", "set_alias", "model", "digits", project="vision")
        record(connection, NOW, "ann", "set", "secret", "TOKEN", project="vision")
        assert not live.pass_once()
    assert live.pass_once()
    assert live.head == 1
    assert [payload for _, payload in live.read("projects/vision/models", 0).events] == ['{"name": "digits"}']


def test_a_change_that_was_rolled_back_is_not_told(database: Database, live: Live) -> None:
    metadata.create_all(database.engine, tables=[audit])
    told: list[str] = []
    database.changed = lambda project, kind, name: told.append(name)
    with suppress(RuntimeError), database.write() as connection:
        record(connection, NOW, "ann", "register", "model", "lost", project="vision")
        raise RuntimeError
    with database.write() as connection:
        record(connection, NOW, "ann", "register", "model", "kept", project="vision")
    assert told == ["kept"]
