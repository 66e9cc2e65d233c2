"""Our tables beside MLflow's, in MLflow's database: what is written here commits or fails together with MLflow's rows.

They have a schema of their own and no part in MLflow's Alembic history; `create` makes what is missing.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# MLflow's own tables, as far as they are read or written here. MLflow makes them.
runs = Table(
    "runs",
    metadata,
    Column("run_uuid", String(32), primary_key=True),
    Column("name", String(250)),
    Column("source_type", String(20)),
    Column("source_name", String(500)),
    Column("entry_point_name", String(50)),
    Column("user_id", String(256)),
    Column("status", String(9)),
    Column("start_time", BigInteger),
    Column("end_time", BigInteger),
    Column("deleted_time", BigInteger),
    Column("source_version", String(50)),
    Column("lifecycle_stage", String(20)),
    Column("artifact_uri", String(200)),
    Column("experiment_id", Integer),
)
experiments = Table(
    "experiments",
    metadata,
    Column("experiment_id", Integer, primary_key=True),
    Column("name", String(256)),
    Column("artifact_location", String(256)),
    Column("lifecycle_stage", String(32)),
    Column("creation_time", BigInteger),
    Column("last_update_time", BigInteger),
    Column("workspace", String(63)),
)
latest_metrics = Table(
    "latest_metrics",
    metadata,
    Column("key", String(250), primary_key=True),
    Column("run_uuid", String(32), primary_key=True),
    Column("value", Float(53)),
    Column("timestamp", BigInteger),
    Column("step", BigInteger),
    Column("is_nan", Boolean),
)
params = Table(
    "params",
    metadata,
    Column("key", String(250), primary_key=True),
    Column("run_uuid", String(32), primary_key=True),
    Column("value", String(8000)),
)
tags = Table(
    "tags",
    metadata,
    Column("key", String(250), primary_key=True),
    Column("run_uuid", String(32), primary_key=True),
    Column("value", String(8000)),
)

inputs = Table(
    "inputs",
    metadata,
    Column("source_type", String(36), primary_key=True),
    Column("source_id", String(36), primary_key=True),
    Column("destination_type", String(36), primary_key=True),
    Column("destination_id", String(36), primary_key=True),
)

_Id = BigInteger().with_variant(Integer, "sqlite")

# One row a metric of a run: what is known without reading a point.
series = Table(
    "narf_series",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("run_uuid", String(32), ForeignKey("runs.run_uuid", ondelete="CASCADE"), nullable=False),
    Column("key", String(250), nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("least", Float(53)),  # of the values that are numbers; null if there is none
    Column("greatest", Float(53)),
    Column("first_step", BigInteger, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("first_time", BigInteger, nullable=False),
    Column("last_time", BigInteger, nullable=False),
    Column("next_seq", BigInteger, nullable=False),
    Column("loose", Integer, nullable=False),  # chunks appended since the last compaction
    UniqueConstraint("run_uuid", "key", name="narf_series_of_run"),
    Index("narf_series_loose", "loose"),
)
# `seq` orders the chunks of a series as their points arrived. The pyramid stands before the data, so that SQLite reads
# it without walking over the pages of the data.
chunks = Table(
    "narf_chunks",
    metadata,
    Column("series_id", _Id, ForeignKey("narf_series.id", ondelete="CASCADE"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("count", Integer, nullable=False),
    Column("first_step", BigInteger, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("first_time", BigInteger, nullable=False),
    Column("last_time", BigInteger, nullable=False),
    Column("pyramid", LargeBinary),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("series_id", "seq"),
)
# How much of each spool file is stored for good.
spools = Table(
    "narf_spools",
    metadata,
    Column("run_uuid", String(32), ForeignKey("runs.run_uuid", ondelete="CASCADE"), nullable=False),
    Column("spool_id", String(16), nullable=False),
    Column("stream", String(8), nullable=False),
    Column("offset", BigInteger, nullable=False),
    PrimaryKeyConstraint("run_uuid", "spool_id", "stream"),
)
spool_keys = Table(
    "narf_spool_keys",
    metadata,
    Column("run_uuid", String(32), ForeignKey("runs.run_uuid", ondelete="CASCADE"), nullable=False),
    Column("spool_id", String(16), nullable=False),
    Column("key_id", BigInteger, nullable=False),
    Column("name", String(250), nullable=False),
    PrimaryKeyConstraint("run_uuid", "spool_id", "key_id"),
)
# What happened in a run besides numbers: phases, notes, metrics that are text.
run_events = Table(
    "narf_run_events",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("run_uuid", String(32), ForeignKey("runs.run_uuid", ondelete="CASCADE"), nullable=False, index=True),
    Column("time", BigInteger, nullable=False),
    Column("type", String(16), nullable=False),
    Column("name", String(250), nullable=False),
    Column("text", Text, nullable=False),
)

OURS = (series, chunks, spools, spool_keys, run_events)
# Indexes on MLflow's tables that its searches lack: they hold what a search reads of a row, so that a search need not fetch rows.
INDEXES = (
    Index("narf_latest_metrics_search", latest_metrics.c.key, latest_metrics.c.run_uuid, latest_metrics.c.value, latest_metrics.c.is_nan),
    Index("narf_runs_search", runs.c.run_uuid, runs.c.experiment_id, runs.c.lifecycle_stage, runs.c.start_time),
    Index("narf_runs_started", runs.c.experiment_id, runs.c.lifecycle_stage, runs.c.start_time.desc(), runs.c.run_uuid),
)


def refresh_statistics(engine: Engine, rows: int) -> int:
    """Have SQLite look at samples of the tables that are searched, if they have grown by a quarter since they had `rows` rows; how many they
    had at the last look. Without statistics SQLite passes over the covering indexes. Takes milliseconds; PostgreSQL does it by itself."""
    if engine.dialect.name != "sqlite":
        return rows
    with engine.connect() as connection:
        found: int = connection.exec_driver_sql(
            "SELECT coalesce((SELECT max(rowid) FROM runs), 0) + coalesce((SELECT max(rowid) FROM latest_metrics), 0)"
        ).scalar_one()
    if found <= rows * 1.25:
        return rows
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA analysis_limit=1000")
        for table in (runs, latest_metrics, params, tags):
            connection.exec_driver_sql(f"ANALYZE {table.name}")
    return found


def create(engine: Engine) -> None:
    """Make our tables and indexes where they are missing. MLflow's tables must be there."""
    metadata.create_all(engine, tables=list(OURS))
    for index in INDEXES:
        index.create(engine, checkfirst=True)
