"""Lineage: what came of what, from source over dataset version, run and model version to endpoint, both ways.

Features add edges as things happen; adding one twice is adding it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from sqlalchemy import BigInteger, Column, Connection, Index, Integer, String, Table, Text, UniqueConstraint, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from narf.control.data.outbox import enqueue
from narf.control.database import Database, Timestamp, metadata
from narf.data.catalogue import Registered, Registration

edges = Table(
    "lineage_edges",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("project", String(63), nullable=False),
    Column("from_kind", String(31), nullable=False),
    Column("from_id", String(300), nullable=False),
    Column("to_kind", String(31), nullable=False),
    Column("to_id", String(300), nullable=False),
    Column("relation", String(31), nullable=False),
    Column("detail", Text, nullable=False, default=""),
    Column("created_at", Timestamp, nullable=False),
    UniqueConstraint("project", "from_kind", "from_id", "to_kind", "to_id", "relation", name="uq_lineage_edges"),
    Index("ix_lineage_edges_from", "project", "from_kind", "from_id"),
    Index("ix_lineage_edges_to", "project", "to_kind", "to_id"),
)
_MOST_EDGES = 5_000
_MOST_KEY = 300  # characters of the outbox's column


class NodeKind(StrEnum):
    SOURCE = "source"
    DATASET_VERSION = "dataset_version"  # id: "project/digits@v3"
    RUN = "run"  # id: the run's id
    MODEL_VERSION = "model_version"  # id: "project/digits@7"
    ENDPOINT = "endpoint"  # id: "project/digits"
    FEATURE_VIEW = "feature_view"


_REGISTERED = {NodeKind.MODEL_VERSION.value: Registered.MODEL, NodeKind.FEATURE_VIEW.value: Registered.FEATURES}


@dataclass(frozen=True, slots=True)
class Node:
    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


def model_node(project: str, model: str, version: int) -> Node:
    return Node(NodeKind.MODEL_VERSION, f"{project}/{model}@{version}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """`target` came of `source`: it read it, was trained from it, was deployed from it."""

    project: str
    source: Node
    target: Node
    relation: str = "used_by"
    created_at: datetime | None = None


class Direction(StrEnum):
    UP = "up"  # what it came from
    DOWN = "down"  # what came of it
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Graph:
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    truncated: bool


class Lineage:
    """The service that other features call: `lineage.add(Edge(...))`."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database, self._now = database, now

    def add(self, *new: Edge) -> None:
        with self._database.write() as connection:
            for edge in new:
                add_edge(connection, edge, self._now())

    def graph(self, project: str, start: Node, direction: Direction = Direction.BOTH, *, depth: int = 10) -> Graph:
        """Everything within `depth` steps up of `start`, down of it, or each of both. (Not what else came of its sources.)"""
        found: dict[tuple[Node, Node, str], Edge] = {}
        nodes: dict[Node, None] = {start: None}
        with self._database.read() as connection:
            for upwards in (True, False):
                if direction is (Direction.DOWN if upwards else Direction.UP):
                    continue
                self._walk(connection, project, start, upwards, depth, nodes, found)
        truncated = len(found) >= _MOST_EDGES
        return Graph(tuple(nodes), tuple(found.values()), truncated)

    def _walk(
        self,
        connection: Connection,
        project: str,
        start: Node,
        upwards: bool,
        depth: int,
        nodes: dict[Node, None],
        found: dict[tuple[Node, Node, str], Edge],
    ) -> None:
        seen, frontier = {start}, [start]
        for _ in range(depth):
            following: list[Node] = []
            for edge in _edges_at(connection, project, frontier, upwards):
                found[(edge.source, edge.target, edge.relation)] = edge
                other = edge.source if upwards else edge.target
                nodes[other] = None
                if other not in seen:
                    seen.add(other)
                    following.append(other)
            frontier = following
            if not frontier or len(found) >= _MOST_EDGES:
                return


def add_edge(connection: Connection, edge: Edge, at: datetime) -> None:
    """In the caller's transaction; an edge that is there already is left as it is.

    A model version or feature view that comes of something is told to the catalogue, once, in the same transaction.
    """
    key = {
        "project": edge.project,
        "from_kind": edge.source.kind,
        "from_id": edge.source.id,
        "to_kind": edge.target.kind,
        "to_id": edge.target.id,
        "relation": edge.relation,
    }
    row = {**key, "detail": "", "created_at": edge.created_at or at}
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(insert(edges).values(row).on_conflict_do_nothing())
    if edge.target.kind in _REGISTERED:
        _register(connection, edge, at)


def _register(connection: Connection, edge: Edge, at: datetime) -> None:
    name, _, version = edge.target.id.rpartition("@")
    key = f"{_REGISTERED[edge.target.kind].value}:{edge.target.id}"
    if len(key) > _MOST_KEY:
        key = f"{key[: _MOST_KEY - 65]}:{sha256(key.encode()).hexdigest()}"
    registration = Registration(
        key=key,
        kind=_REGISTERED[edge.target.kind],
        name=name or edge.target.id,
        version=version if name else "",
        body={
            "project": edge.project,
            "from": str(edge.source),
            "relation": edge.relation,
            "created_at": (edge.created_at or at).isoformat(),
        },
    )
    enqueue(connection, registration, at)


def _edges_at(connection: Connection, project: str, nodes: Sequence[Node], upwards: bool) -> Iterable[Edge]:
    kind, id = (edges.c.to_kind, edges.c.to_id) if upwards else (edges.c.from_kind, edges.c.from_id)
    for at in range(0, len(nodes), 200):
        some = [(kind == node.kind) & (id == node.id) for node in nodes[at : at + 200]]
        query = select(edges).where(edges.c.project == project, or_(*some)).order_by(edges.c.id).limit(_MOST_EDGES)
        for row in connection.execute(query).mappings():
            yield Edge(
                project=row["project"],
                source=Node(row["from_kind"], row["from_id"]),
                target=Node(row["to_kind"], row["to_id"]),
                relation=row["relation"],
                created_at=row["created_at"],
            )
