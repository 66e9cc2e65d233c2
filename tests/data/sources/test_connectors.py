"""Every connector of ours passes the suite of its abilities, against a real server where one can be had."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from narf.data.sources.connector import Connector, Selection
from narf.data.sources.opening import Source, open_source
from narf.domain.errors import BadInput, NarfError, NotFound, Unavailable
from narf.testing.connector import FILES_THERE, FileConnectorContract, QueryConnectorContract, TableConnectorContract, numbers
from narf.testing.iceberg_rest import iceberg_rest_server
from narf.testing.s3 import S3Server
from narf.testing.webhdfs import webhdfs_server


def opened(kind: str, options: dict[str, str], *, secrets: dict[str, str] | None = None, files: Source | None = None) -> Connector:
    known = secrets or {}

    def secret(name: str) -> str:
        if name not in known:
            raise NotFound("secret", name)
        return known[name]

    return open_source(Source(name="the-source", kind=kind, options=options, files=files), secret)


class TestS3(FileConnectorContract):
    @pytest.fixture(scope="class")
    def connector(self, s3: S3Server, bucket: str) -> Iterator[Connector]:
        options = s3.options(bucket) | {"secret_access_key": "secret:KEY"}
        made = opened("s3", options, secrets={"KEY": s3.secret_access_key})
        yield made
        made.close()

    def test_a_wrong_secret_is_refused_and_not_repeated(self, s3: S3Server, bucket: str) -> None:
        options = s3.options(bucket) | {"secret_access_key": "secret:KEY"}
        with pytest.raises(BadInput, match=r"the-source.*refuses the credentials") as refused:
            opened("s3", options, secrets={"KEY": "wrong-secret-value"}).test()
        assert "wrong-secret-value" not in str(refused.value) and "secret set" in refused.value.remedy

    def test_a_missing_bucket_is_named(self, s3: S3Server) -> None:
        with pytest.raises(BadInput, match=r"the-source.*no-such-bucket"):
            opened("s3", s3.options("no-such-bucket")).test()

    def test_an_unreachable_host_is_said(self, s3: S3Server, bucket: str) -> None:
        with pytest.raises(Unavailable, match=r"the-source.*cannot be reached") as refused:
            opened("s3", s3.options(bucket) | {"endpoint": "http://127.0.0.1:9"}).test()
        assert "narf sources test" in refused.value.remedy


class TestWebHdfs(FileConnectorContract):
    """Against our own small server of the protocol."""

    @pytest.fixture(scope="class")
    def connector(self, contract_folder: Path) -> Iterator[Connector]:
        with webhdfs_server(contract_folder, user="ada") as address:
            made = opened("webhdfs", {"endpoint": address, "user_name": "ada", "root": "/"})
            yield made
            made.close()

    def test_another_user_is_refused(self, contract_folder: Path) -> None:
        with webhdfs_server(contract_folder, user="ada") as address, pytest.raises(NarfError, match="the-source"):
            opened("webhdfs", {"endpoint": address, "user_name": "eve", "root": "/"}).test()


class TestFolder(FileConnectorContract):
    @pytest.fixture(scope="class")
    def connector(self, contract_folder: Path) -> Connector:
        return opened("folder", {"path": str(contract_folder)})

    def test_a_link_that_leads_out_is_said_with_the_source(self, tmp_path: Path) -> None:
        (tmp_path / "out").symlink_to("/etc/hostname")
        with pytest.raises(BadInput, match=r"the-source.*'out' leads out of the folder") as refused:
            opened("folder", {"path": str(tmp_path)}).list_files()
        assert refused.value.code == "link_outside" and refused.value.remedy

    @pytest.mark.parametrize("path", ["../etc/passwd", "/../../etc/passwd"])
    def test_a_path_that_leads_out_is_refused(self, connector: Connector, path: str) -> None:
        with pytest.raises(BadInput):
            connector.stat(path)


def test_http_reads_the_files_it_is_told(contract_folder: Path) -> None:
    handler = partial(_Quiet, directory=str(contract_folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        connector = opened("http", {"endpoint": f"http://127.0.0.1:{server.server_address[1]}"})
        assert connector.test()
        assert [file.path for file in connector.list_files("a.txt,sub/b.txt")] == ["a.txt", "sub/b.txt"]
        for path in ("a.txt", "sub/deep/\u00fc.bin"):
            with connector.open(path) as stream:
                assert b"".join(iter(lambda: stream.read(50_000), b"")) == FILES_THERE[path]
        with pytest.raises(BadInput, match="cannot list"):
            list(connector.list_files())
        with pytest.raises(BadInput, match=r"nowhere\.txt"):
            list(connector.list_files("nowhere.txt"))
    finally:
        server.shutdown()
        server.server_close()


def test_an_unreachable_web_server_is_said() -> None:
    with pytest.raises(Unavailable, match=r"the-source.*cannot be reached"):
        opened("http", {"endpoint": "http://127.0.0.1:9"}).test()


@pytest.mark.parametrize("status", [401, 403])
def test_a_web_server_that_refuses_the_token_is_said_without_it(status: int) -> None:
    class Guarded(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404 if self.headers.get("Authorization") == "Bearer right-token-value" else status)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        options = {"endpoint": f"http://127.0.0.1:{server.server_address[1]}", "token": "secret:T"}
        assert opened("http", options, secrets={"T": "right-token-value"}).test()
        with pytest.raises(BadInput, match=r"the-source.*refuses the credentials") as refused:
            opened("http", options, secrets={"T": "wrong-token-value"}).test()
        assert "wrong-token-value" not in str(refused.value)
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "numbers.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE numbers (id INTEGER, half REAL, word TEXT)")
        connection.executemany("INSERT INTO numbers VALUES (?, ?, ?)", list(zip(*numbers().to_pydict().values(), strict=True)))
    connection.close()
    return path


class TestSqlite(QueryConnectorContract):
    @pytest.fixture
    def connector(self, sqlite_file: Path) -> Iterator[Connector]:
        made = opened("sqlite", {"path": str(sqlite_file)})
        yield made
        made.close()

    def test_a_missing_file_is_said_and_not_made(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="the-source"):
            opened("sqlite", {"path": str(tmp_path / "none.db")}).test()
        assert not (tmp_path / "none.db").exists()


class TestDbApi:
    """The protocol, with the one driver that Python brings."""

    def test_rows_and_types_come_through(self, sqlite_file: Path) -> None:
        connector = opened("dbapi", {"module": "sqlite3", "dsn": str(sqlite_file)})
        with connector.read(Selection(query="SELECT id, half, word FROM numbers")) as reader:
            assert reader.read_all().equals(numbers())

    def test_a_column_that_changes_its_type_is_said(self) -> None:
        connector = opened("dbapi", {"module": "sqlite3", "dsn": ":memory:"})
        query = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10001) SELECT CASE WHEN i > 10000 THEN 'x' ELSE i END AS v FROM n"
        with pytest.raises(BadInput, match="changes its type"), connector.read(Selection(query=query)) as reader:
            reader.read_all()


@pytest.mark.postgres
class TestPostgres(QueryConnectorContract):
    table_name = "public.numbers"

    @pytest.fixture
    def connector(self, postgres_url: str) -> Iterator[Connector]:
        from adbc_driver_postgresql import dbapi

        with dbapi.connect(postgres_url) as connection:
            with connection.cursor() as cursor:
                cursor.adbc_ingest("numbers", numbers(), mode="replace")
            connection.commit()
        made = opened("postgresql", {"uri": "secret:URI"}, secrets={"URI": postgres_url})
        yield made
        made.close()

    def test_an_unreachable_host_is_said_without_the_password(self) -> None:
        options = {"host": "127.0.0.1", "port": "9", "database": "d", "user": "u", "password": "secret:PW"}
        with pytest.raises(Unavailable, match=r"the-source.*cannot be reached") as refused:
            opened("postgresql", options, secrets={"PW": "pa ss/word"}).test()
        assert "pa ss/word" not in str(refused.value) and "pa%20ss" not in str(refused.value)

    def test_numbers_of_fixed_scale_are_decimals_and_others_stay_exact_as_text(self, connector: Connector) -> None:
        query = (
            "SELECT 12.50::numeric(12,2) AS amount, 1e20::numeric AS any, 7::numeric(5,0) AS count, 1::numeric(60,30) AS wide, "
            "NULL::numeric(10,2) AS none, id FROM public.numbers ORDER BY id LIMIT 3 -- the end"
        )
        with connector.read(Selection(query=query)) as reader:
            found = reader.read_all()
        assert [str(found.schema.field(name).type) for name in ("amount", "count", "none")] == [
            "decimal128(12, 2)",
            "decimal128(5, 0)",
            "decimal128(10, 2)",
        ]
        assert found.column("amount").to_pylist() == [Decimal("12.50")] * 3 and found.column("none").null_count == 3
        assert found.column("id").to_pylist() == [0, 1, 2]
        assert found.column("any").cast(pa.string()).to_pylist()[0] == "100000000000000000000"

    def test_a_decimal_that_is_no_number_is_said_with_its_column(self, connector: Connector) -> None:
        with pytest.raises(BadInput, match=r"'x' of 'the-source' holds NaN") as refused:
            with connector.read(Selection(query="SELECT 'NaN'::numeric(5,2) AS x")) as reader:
                reader.read_all()
        assert "float8" in refused.value.remedy

    def test_what_the_database_said_is_told_without_the_drivers_wrapping(self, connector: Connector) -> None:
        with pytest.raises(BadInput) as refused, connector.read(Selection(table="public.nowhere")) as reader:
            reader.read_all()
        assert refused.value.sentence == ("The source 'the-source' does not accept the query: relation \"public.nowhere\" does not exist.")

    def test_wrong_credentials_are_refused_and_not_repeated(self, postgres_url: str) -> None:
        """The server trusts this machine, so one role is set apart that must show a password."""
        from adbc_driver_postgresql import dbapi

        with dbapi.connect(postgres_url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE ROLE locked LOGIN PASSWORD 'the-right-one'")
            cursor.execute("SELECT current_setting('hba_file')")
            rules = Path(cursor.fetchall()[0][0])
            rules.write_text("local all locked scram-sha-256\n" + rules.read_text())
            cursor.execute("SELECT pg_reload_conf()")
        for user, password, works in (
            ("locked", "the-right-one", True),
            ("locked", "the-wrong-one", False),
            ("nobody", "the-wrong-one", False),
        ):
            options = {"host": postgres_url.partition("host=")[2], "database": "postgres", "user": user, "password": "secret:PW"}
            connector = opened("postgresql", options, secrets={"PW": password})
            if works:
                assert connector.test()
                connector.close()
                continue
            with pytest.raises(BadInput, match=r"the-source.*refuses the credentials") as refused:
                connector.test()
            assert "the-wrong-one" not in str(refused.value) and "secret set" in refused.value.remedy

    def test_a_function_that_writes_is_refused_by_the_database(self, connector: Connector) -> None:
        with pytest.raises(BadInput), connector.read(Selection(query="SELECT nextval('nowhere')")) as reader:
            reader.read_all()


class TestIceberg(TableConnectorContract):
    """A catalogue in SQL whose table files are on S3: one definition of the S3 source serves both."""

    table_name = "bank.numbers"

    @pytest.fixture(scope="class")
    def connector(self, s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connector]:
        from pyiceberg.catalog import load_catalog

        from narf.data.sources.files import s3_file_io

        uri = f"sqlite:///{tmp_path_factory.mktemp('iceberg') / 'catalog.db'}"
        bucket = s3.make_bucket("lakehouse")
        catalog = load_catalog("the-source", type="sql", uri=uri, warehouse=f"s3://{bucket}/tables", **s3_file_io(s3.options(bucket)))
        catalog.create_namespace("bank")
        table = catalog.create_table("bank.numbers", numbers().schema)
        table.append(numbers())
        catalog.close()
        files = Source(name="lake", kind="s3", options=s3.options(bucket) | {"secret_access_key": "secret:KEY"})
        made = opened("iceberg", {"catalog": "sql", "uri": uri}, secrets={"KEY": s3.secret_access_key}, files=files)
        yield made
        made.close()

    def test_a_snapshot_that_is_none_is_refused(self, connector: Connector) -> None:
        with pytest.raises(BadInput, match="no snapshot"), connector.read(Selection(table="bank.numbers@x")):
            pass
        with pytest.raises(BadInput, match=r"the-source.*Snapshot not found"), connector.read(Selection(table="bank.numbers@5")):
            pass


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A catalogue with tables in nested namespaces, one of them with two snapshots; its files are local."""
    from pyiceberg.catalog import load_catalog

    root = tmp_path_factory.mktemp("warehouse")
    catalog = load_catalog("books", type="sql", uri=f"sqlite:///{root / 'catalog.db'}", warehouse=f"file://{root / 'tables'}")
    for space in (("bank",), ("bank", "cards"), ("empty",), ("other",)):
        catalog.create_namespace(space)
    for name in ("bank.numbers", "bank.grown", "bank.cards.deep"):
        catalog.create_table(name, numbers().schema).append(numbers())
    catalog.load_table("bank.grown").append(numbers())
    yield catalog
    catalog.close()


class TestIcebergRest(TableConnectorContract):
    """Against our own small server of the REST protocol, which asks for a token and a prefix, and answers in pages of two."""

    table_name = "bank.numbers"

    @pytest.fixture(scope="class")
    def address(self, warehouse: Any) -> Iterator[str]:
        with iceberg_rest_server(warehouse, token="bearer-value", credential="narf:client-secret", prefix="prod") as address:
            yield address

    @pytest.fixture(scope="class")
    def connector(self, address: str) -> Iterator[Connector]:
        made = opened("iceberg", {"catalog": "rest", "uri": address, "token": "secret:TOKEN"}, secrets={"TOKEN": "bearer-value"})
        yield made
        made.close()

    def test_tables_of_nested_namespaces_are_found_on_every_page(self, connector: Connector) -> None:
        assert connector.tables() == ["bank.cards.deep", "bank.grown", "bank.numbers"]
        with connector.read(Selection(table="bank.cards.deep")) as reader:
            assert reader.read_all().num_rows == 1_000

    def test_a_namespace_narrows_it(self, address: str) -> None:
        given = {"catalog": "rest", "uri": address, "token": "secret:TOKEN"}
        for namespace, tables in (("bank.cards", ["bank.cards.deep"]), ("empty", [])):
            assert opened("iceberg", given | {"namespace": namespace}, secrets={"TOKEN": "bearer-value"}).tables() == tables
        with pytest.raises(BadInput, match=r"the-source.*namespace 'nowhere'"):
            opened("iceberg", given | {"namespace": "nowhere"}, secrets={"TOKEN": "bearer-value"}).tables()

    def test_a_snapshot_reads_as_it_was(self, connector: Connector, warehouse: Any) -> None:
        first = warehouse.load_table("bank.grown").snapshots()[0].snapshot_id
        for table, rows in (("bank.grown", 2_000), (f"bank.grown@{first}", 1_000)):
            with connector.read(Selection(table=table)) as reader:
                assert reader.read_all().num_rows == rows

    def test_client_credentials_are_exchanged_for_a_token(self, address: str) -> None:
        given = {"catalog": "rest", "uri": address, "credential": "secret:CLIENT"}
        assert opened("iceberg", given, secrets={"CLIENT": "narf:client-secret"}).test() == "3 tables can be read."
        with pytest.raises(BadInput, match=r"the-source.*refuses the credentials") as refused:
            opened("iceberg", given, secrets={"CLIENT": "narf:wrong-secret-value"}).test()
        assert "wrong-secret-value" not in str(refused.value)

    def test_a_wrong_token_is_refused_and_not_repeated(self, address: str) -> None:
        with pytest.raises(BadInput, match=r"the-source.*refuses the credentials") as refused:
            opened("iceberg", {"catalog": "rest", "uri": address, "token": "secret:T"}, secrets={"T": "wrong-token-value"}).test()
        assert "wrong-token-value" not in str(refused.value) and "secret set" in refused.value.remedy

    def test_an_unreachable_catalogue_is_said(self) -> None:
        with pytest.raises(Unavailable, match="the-source"):
            opened("iceberg", {"catalog": "rest", "uri": "http://127.0.0.1:9"}).test()


@pytest.mark.postgres
class TestIcebergInPostgres(TableConnectorContract):
    """A catalogue in PostgreSQL that has a name of its own."""

    table_name = "bank.numbers"

    @pytest.fixture(scope="class")
    def connector(self, postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connector]:
        from pyiceberg.catalog import load_catalog

        root = tmp_path_factory.mktemp("in-postgres")
        uri = "postgresql+psycopg://" + postgres_url.removeprefix("postgresql://")
        catalog = load_catalog("prod", type="sql", uri=uri, warehouse=f"file://{root}")
        catalog.create_namespace("bank")
        catalog.create_table("bank.numbers", numbers().schema).append(numbers())
        catalog.close()
        made = opened("iceberg", {"catalog": "sql", "uri": "secret:URI", "catalog_name": "prod"}, secrets={"URI": postgres_url})
        yield made
        made.close()

    def test_an_unreachable_database_is_said_without_the_password(self) -> None:
        given = {"catalog": "sql", "uri": "secret:URI"}
        with pytest.raises(Unavailable, match=r"the-source.*cannot be reached") as refused:
            opened("iceberg", given, secrets={"URI": "postgresql://u:the-password@127.0.0.1:9/d"}).test()
        assert "the-password" not in str(refused.value)


def test_a_secret_that_is_not_set_is_named() -> None:
    with pytest.raises(NotFound, match="NONE"):
        opened("s3", {"bucket": "b", "secret_access_key": "secret:NONE"})
