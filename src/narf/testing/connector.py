"""What every connector must do. An implementation subclasses the suites of its abilities and gives the fixtures."""

from __future__ import annotations

import pyarrow as pa
import pytest

from narf.data.sources.connector import FILES, TABLES, Connector, Selection
from narf.domain.errors import BadInput, NarfError

# What the fixture `files` must hold, below the source's root.
FILES_THERE = {
    "a.txt": b"alpha",
    "empty.bin": b"",
    "sub/b.txt": b"beta",
    "sub/deep/c d.txt": b"gamma",
    "sub/deep/\u00fc.bin": bytes(range(256)) * 5_000,
}
# What the fixture `tables` must hold, in a table named numbers.
ROWS_THERE = 1_000


def numbers() -> pa.Table:
    """The rows of the table `numbers`."""
    return pa.table(
        {
            "id": pa.array(range(ROWS_THERE), pa.int64()),
            "half": pa.array([i / 2 for i in range(ROWS_THERE)], pa.float64()),
            "word": pa.array([None if i % 7 == 0 else f"w{i} ü" for i in range(ROWS_THERE)], pa.string()),
        }
    )


class FileConnectorContract:
    """Fixture `connector`: a source whose root holds `FILES_THERE` and nothing else."""

    def test_it_says_what_is_there(self, connector: Connector) -> None:
        assert FILES in connector.abilities
        assert connector.test().endswith(".")

    def test_it_lists_every_file_once_as_deep_as_it_is(self, connector: Connector) -> None:
        found = {file.path: file.size for file in connector.list_files()}
        assert found == {path: len(content) for path, content in FILES_THERE.items()}

    @pytest.mark.parametrize("path", ["sub", "sub/", "/sub"])
    def test_it_lists_a_folder(self, connector: Connector, path: str) -> None:
        assert sorted(file.path for file in connector.list_files(path)) == sorted(p for p in FILES_THERE if p.startswith("sub/"))

    def test_a_file_lists_as_itself(self, connector: Connector) -> None:
        assert [(file.path, file.size) for file in connector.list_files("sub/b.txt")] == [("sub/b.txt", 4)]

    def test_it_reads_every_file_whole_and_in_pieces(self, connector: Connector) -> None:
        for path, content in FILES_THERE.items():
            with connector.open(path) as stream:
                assert b"".join(iter(lambda: stream.read(100_000), b"")) == content

    def test_lists_and_look_ups_agree_and_stay_so(self, connector: Connector) -> None:
        for file in connector.list_files():
            again = connector.stat(file.path)
            assert (again.path, again.size, again.mark.strip('"')) == (file.path, file.size, file.mark.strip('"'))

    def test_what_is_not_there_is_said_with_the_name_of_the_source(self, connector: Connector) -> None:
        with pytest.raises(BadInput, match=connector.name) as refused:
            list(connector.list_files("nowhere"))
        assert refused.value.remedy
        with pytest.raises(BadInput, match=r"nowhere\.txt"):
            connector.stat("nowhere.txt")
        with pytest.raises(BadInput, match=r"nowhere\.txt"), connector.open("nowhere.txt") as stream:
            stream.read()

    def test_it_refuses_tables(self, connector: Connector) -> None:
        if TABLES not in connector.abilities:
            with pytest.raises(NarfError):
                connector.tables()


class TableConnectorContract:
    """Fixture `connector`: a source with a table `numbers` (see there); `table_name`: how a selection names it."""

    table_name = "numbers"

    def test_it_says_what_is_there(self, connector: Connector) -> None:
        assert TABLES in connector.abilities
        assert connector.test().endswith(".")

    def test_it_names_the_table(self, connector: Connector) -> None:
        assert self.table_name in connector.tables()

    def test_it_reads_every_row_in_batches(self, connector: Connector) -> None:
        for _ in range(2):
            with connector.read(Selection(table=self.table_name)) as reader:
                found = reader.read_all()
            assert found.num_rows == ROWS_THERE
            expected = numbers().to_pydict()
            assert {name: sorted(found.column(name).to_pylist(), key=repr) for name in expected} == {
                name: sorted(values, key=repr) for name, values in expected.items()
            }

    def test_a_reading_can_be_left_early(self, connector: Connector) -> None:
        with connector.read(Selection(table=self.table_name)) as reader:
            reader.read_next_batch()
        assert connector.test()

    def test_a_table_that_is_not_there_is_said(self, connector: Connector) -> None:
        with pytest.raises(NarfError, match=connector.name), connector.read(Selection(table=self.table_name + "_nowhere")) as reader:
            reader.read_all()


class QueryConnectorContract(TableConnectorContract):
    """Also queries, in plain SQL."""

    def test_it_reads_a_query(self, connector: Connector) -> None:
        query = f"-- with a comment\nSELECT id, half FROM {self.table_name} WHERE id < 10 ORDER BY id;"
        with connector.read(Selection(query=query)) as reader:
            assert reader.read_all().to_pydict() == {"id": list(range(10)), "half": [i / 2 for i in range(10)]}

    @pytest.mark.parametrize(
        "query",
        [
            "DELETE FROM {t}",
            "SELECT 1; DROP TABLE {t}",
            "WITH gone AS (DELETE FROM {t} RETURNING id) SELECT * FROM gone",
            "CREATE TABLE other AS SELECT * FROM {t}",
            "SELECT * INTO other FROM {t}",
            "",
            "-- nothing",
            "EXPLAIN ANALYZE DELETE FROM {t}",
        ],
    )
    def test_what_does_not_only_read_is_refused_and_changes_nothing(self, connector: Connector, query: str) -> None:
        with pytest.raises(BadInput), connector.read(Selection(query=query.format(t=self.table_name) or " ")) as reader:
            reader.read_all()
        with connector.read(Selection(table=self.table_name)) as reader:
            assert reader.read_all().num_rows == ROWS_THERE

    def test_a_wrong_query_is_said_with_the_name_of_the_source(self, connector: Connector) -> None:
        with pytest.raises(BadInput, match=connector.name), connector.read(Selection(query="SELECT nothing FROM nowhere_at_all")) as reader:
            reader.read_all()
