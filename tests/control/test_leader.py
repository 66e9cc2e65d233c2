"""Of several API processes one leads, and when it is gone another does."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from narf.control import leader
from narf.control.database import Database
from narf.control.leader import Leadership


@pytest.fixture
def pair(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Leadership, Leadership]:
    monkeypatch.setattr(leader, "_CHECK_SECONDS", 0.0)
    first, second = Leadership(database, tmp_path), Leadership(database, tmp_path)
    yield first, second
    first.resign()
    second.resign()


def asked_anew(leadership: Leadership) -> bool:
    leadership._checked_at = float("-inf")  # as if the time between two looks had passed
    return leadership.is_leader()


def test_one_leads_and_keeps_leading(pair):
    first, second = pair
    assert first.is_leader() and first.is_leader()
    assert not second.is_leader()


def test_when_it_resigns_the_other_follows(pair):
    first, second = pair
    assert first.is_leader() and not second.is_leader()
    first.resign()
    assert asked_anew(second)
    assert not asked_anew(first)


def test_a_leader_whose_connection_is_cut_no_longer_leads(pair, database: Database):
    if database.is_sqlite:
        return  # its lock is a file's and has no connection to lose
    first, second = pair
    assert first.is_leader()
    with database.write() as connection:
        ended = connection.execute(text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")).all()
    assert ended
    assert asked_anew(second)
    assert not asked_anew(first)
