"""Secrets are encrypted where they lie, read by workloads alone, and a key that does not fit is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import text

from narf.control.access.service import AccessService
from narf.control.database import Database
from narf.control.projects.service import ProjectService
from narf.control.secrets.service import SecretService, read_key
from narf.domain.access import Principal
from narf.domain.errors import BadInput, NotFound, Unavailable

ADA = Principal(user="ada", is_admin=True)


@pytest.fixture
def secrets(database: Database, clock, tmp_path: Path) -> SecretService:
    access = AccessService(database, clock)
    access.create_user("ada", by="test")
    projects = ProjectService(database, access, clock)
    for name in ("vision", "speech"):
        projects.create(name, by=ADA)
    return SecretService(database, read_key(tmp_path / "secret.key"), clock)


def test_a_secret_is_read_as_it_was_set_and_set_anew(secrets: SecretService):
    secrets.set("vision", "TOKEN", "first", by=ADA)
    secrets.set("vision", "TOKEN", "sécond\n", by=ADA)
    assert secrets.value("vision", "TOKEN") == "sécond\n"
    assert [secret.name for secret in secrets.of_project("vision")] == ["TOKEN"]


def test_another_project_does_not_have_it(secrets: SecretService):
    secrets.set("vision", "TOKEN", "value", by=ADA)
    with pytest.raises(NotFound, match="narf secret set TOKEN --project speech"):
        secrets.value("speech", "TOKEN")


def test_its_value_is_not_in_the_database_nor_in_the_audit_log(secrets: SecretService, database: Database):
    secrets.set("vision", "TOKEN", "correct-horse", by=ADA)
    with database.read() as connection:
        for table in ("secrets", "audit"):
            assert "correct-horse" not in str(connection.execute(text(f"SELECT * FROM {table}")).fetchall())


def test_a_row_moved_to_another_name_does_not_decrypt(secrets: SecretService, database: Database):
    secrets.set("vision", "TOKEN", "value", by=ADA)
    with database.write() as connection:
        connection.execute(text("UPDATE secrets SET name = 'OTHER'"))
    with pytest.raises(Unavailable):
        secrets.value("vision", "OTHER")


def test_another_key_is_said_with_what_to_do(secrets: SecretService, database: Database, clock, tmp_path: Path):
    secrets.set("vision", "TOKEN", "value", by=ADA)
    others = SecretService(database, read_key(tmp_path / "other.key"), clock)
    with pytest.raises(Unavailable, match="another key"):
        others.value("vision", "TOKEN")


def test_a_removed_secret_is_gone(secrets: SecretService):
    secrets.set("vision", "TOKEN", "value", by=ADA)
    secrets.remove("vision", "TOKEN", by=ADA)
    with pytest.raises(NotFound):
        secrets.remove("vision", "TOKEN", by=ADA)
    assert secrets.of_project("vision") == []


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "../A", "A" * 64, "LD\0"])
def test_a_name_that_no_variable_can_have_is_refused(secrets: SecretService, name: str):
    with pytest.raises(BadInput):
        secrets.set("vision", name, "value", by=ADA)


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path):
    place = tmp_path / "run" / "secret.key"
    assert read_key(place) == read_key(place)
    assert os.stat(place).st_mode & 0o777 == 0o600
