"""The migrations and the tables of the code say the same, from every released revision."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from narf.control import schema
from narf.control.database import Database, metadata
from narf.control.schema import VERSION_TABLE, configuration, upgrade
from narf.domain.errors import Unavailable

REVISIONS = [revision.revision for revision in ScriptDirectory(str(Path(schema.__file__).parent / "migrations")).walk_revisions()]


def test_the_newest_revision_has_exactly_the_tables_of_the_code(database: Database):
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": False})
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_database_of_every_released_revision_is_upgraded(tmp_path: Path, revision: str):
    database = Database(f"sqlite:///{tmp_path / 'narf.db'}")
    with database.write() as connection:
        command.upgrade(configuration(connection), revision)
        connection.execute(text("INSERT INTO projects (name, description, department, created_at) VALUES ('p', '', 'd', '2026-01-01')"))
    upgrade(database)
    with database.read() as connection:
        assert connection.execute(text("SELECT name FROM projects")).scalar() == "p"
        assert set(metadata.tables) <= set(inspect(connection).get_table_names())
    database.close()


def test_upgrading_twice_changes_nothing(database: Database):
    with database.write() as connection:
        connection.execute(text("INSERT INTO projects (name, description, department, created_at) VALUES ('p', '', 'd', '2026-01-01')"))
    upgrade(database)
    with database.read() as connection:
        assert connection.execute(text("SELECT name FROM projects")).all() == [("p",)]


def test_tables_of_others_are_left_alone(database: Database):
    with database.write() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))
    upgrade(database)
    with database.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "theirs"


def test_a_server_that_is_away_is_said_with_what_to_do():
    away = Database("postgresql://nobody:secret@127.0.0.1:9/none")
    with pytest.raises(Unavailable) as refused:
        upgrade(away)
    assert "secret" not in str(refused.value)
    assert "NARF_DATABASE_URL" in str(refused.value)


def test_a_server_that_goes_away_later_is_said_too_and_comes_back(tmp_path: Path):
    place = tmp_path / "gone" / "narf.db"
    database = Database(f"sqlite:///{place}")
    with pytest.raises(Unavailable, match="unable to open database file"), database.read():
        pytest.fail("there is nothing to read")
    place.parent.mkdir()
    upgrade(database)
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM projects")).scalar() == 0
    database.close()


def test_a_cut_connection_is_no_mistake_of_ours(database: Database):
    if database.is_sqlite:
        return
    with pytest.raises(Unavailable, match="terminat"), database.write() as connection:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    with database.read() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_a_mistake_in_our_own_sql_is_not_called_an_outage(database: Database):
    with pytest.raises(DBAPIError), database.read() as connection:
        connection.execute(text("SELECT 1 FROM no_table_of_ours"))
