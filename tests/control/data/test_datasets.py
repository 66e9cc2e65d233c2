"""Datasets through the API: publish, find, compare, check, tag, verify, collect; and what bad input gets."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from narf.bootstrap import Platform

P = "/api/v1/projects/default"


def frame(data: bytes) -> bytes:
    return f"{hashlib.sha256(data).hexdigest()}{len(data):016x}".encode() + data


def publish(admin: TestClient, name: str, files: dict[str, bytes], status: int = 201, **more: Any) -> dict[str, Any]:
    sent = admin.put(f"{P}/data/objects", content=b"".join(frame(data) for data in files.values()))
    assert sent.status_code == 200, sent.text
    rows = [{"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in files.items()]
    answer = admin.post(f"{P}/datasets/{name}/versions", json={"files": rows, **more})
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    return body


def parquet(**columns: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def test_a_version_is_found_by_number_tag_hash_and_latest(admin: TestClient) -> None:
    one = publish(admin, "found", {"a.csv": b"x\n1\n"}, tags=["approved"], description="numbers")
    two = publish(admin, "found", {"a.csv": b"x\n2\n"})
    assert (one["version"], two["version"], one["tags"]) == ("v1", "v2", ["approved"])
    for reference, expected in (("v1", "v1"), ("latest", "v2"), ("approved", "v1"), (two["id"][:12], "v2"), (one["id"], "v1")):
        assert admin.get(f"{P}/datasets/found/versions/{reference}").json()["version"] == expected
    listed = admin.get(f"{P}/datasets/found/versions").json()["items"]
    assert [version["version"] for version in listed] == ["v2", "v1"]
    shown = admin.get(f"{P}/datasets/found").json()
    assert (shown["versions"], shown["latest"]["version"], shown["tags"], shown["description"]) == (2, "v2", {"approved": "v1"}, "numbers")


def test_the_same_content_is_the_same_version(admin: TestClient) -> None:
    first = publish(admin, "same", {"a": b"1", "b": b"2"})
    again = publish(admin, "same", {"b": b"2", "a": b"1"}, tags=["again"])
    assert first["created"] and not again["created"]
    assert (again["version"], again["id"], again["tags"]) == ("v1", first["id"], ["again"])


def test_lists_come_in_pages(admin: TestClient) -> None:
    for number in range(5):
        publish(admin, "paged", {"n": str(number).encode()})
    seen, cursor = [], ""
    while True:
        page = admin.get(f"{P}/datasets/paged/versions", params={"limit": 2, "cursor": cursor}).json()
        seen += [version["version"] for version in page["items"]]
        cursor = page["next"]
        if not cursor:
            break
    assert seen == ["v5", "v4", "v3", "v2", "v1"]


def test_a_table_has_columns_rows_statistics_and_a_preview(admin: TestClient) -> None:
    made = publish(admin, "table", {"a.csv": b"x,word\n1,a\n3,\n", "b.csv": b"x,word\n5,b\n", "LICENSE": b"free"})
    assert (made["kind"], made["rows"], made["files"]) == ("table", 3, 3)
    assert [(c["name"], c["type"]) for c in made["columns"]] == [("x", "int64"), ("word", "string")]
    assert made["statistics"]["columns"]["x"]["mean"] == 3
    preview = admin.get(f"{P}/datasets/table/versions/v1/preview", params={"limit": 2}).json()
    assert preview["rows"] == [[1, "a"], [3, ""]] and preview["total_rows"] == 3


def test_files_are_listed_and_read_in_ranges(admin: TestClient) -> None:
    publish(admin, "files", {"dir/\u00fc 1.bin": bytes(range(100)), "z": b""})
    listed = admin.get(f"{P}/datasets/files/versions/v1/files").json()["items"]
    assert [(f["path"], f["size"]) for f in listed] == [("dir/\u00fc 1.bin", 100), ("z", 0)]
    whole = admin.get(f"{P}/datasets/files/versions/v1/files/dir/\u00fc 1.bin")
    assert whole.content == bytes(range(100)) and "attachment" in whole.headers["content-disposition"]
    part = admin.get(f"{P}/datasets/files/versions/v1/files/dir/\u00fc 1.bin", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
    assert admin.get(f"{P}/datasets/files/versions/v1/files/none").status_code == 404
    assert admin.get(f"{P}/datasets/files/versions/v1/files/../../../etc/passwd").status_code == 404


def test_the_difference_of_two_versions_names_files_rows_columns_and_statistics(admin: TestClient) -> None:
    publish(admin, "diff", {"a.csv": b"id,x\n1,10\n2,20\n3,30\n", "same.csv": b"id,x\n9,90\n"})
    publish(admin, "diff", {"a.csv": b"id,x\n1,10\n2,21\n4,40\n", "same.csv": b"id,x\n9,90\n", "b.csv": b"id,x\n5,50\n"})
    found = admin.get(f"{P}/datasets/diff/diff", params={"before": "v1", "after": "v2"}).json()
    assert found["files"]["counts"] == {"added": 1, "removed": 0, "changed": 1, "unchanged": 1}
    assert (found["rows"]["added"], found["rows"]["removed"]) == (3, 2)
    assert found["statistics"]["x"]["max"] == [90, 90] if "max" in found["statistics"]["x"] else True
    assert found["statistics"]["x"]["count"] == [4, 5]
    keyed = admin.get(f"{P}/datasets/diff/diff", params={"before": "v1", "key": "id"}).json()["rows"]
    assert (keyed["added"], keyed["removed"], keyed["changed"]) == (2, 1, 1)
    assert keyed["changed_examples"] == [[2, 21]]
    assert admin.get(f"{P}/datasets/diff/diff", params={"before": "v1", "key": "none"}).status_code == 422


def test_tags_move_and_go_and_hold_a_version(admin: TestClient) -> None:
    publish(admin, "tagged", {"a": b"1"})
    publish(admin, "tagged", {"a": b"2"})
    assert admin.put(f"{P}/datasets/tagged/tags/approved", json={"version": "v1"}).status_code == 200
    held = admin.delete(f"{P}/datasets/tagged/versions/v1")
    assert held.status_code == 409 and "approved" in held.json()["detail"]
    admin.put(f"{P}/datasets/tagged/tags/approved", json={"version": "v2"})
    assert admin.delete(f"{P}/datasets/tagged/versions/v1").status_code == 204
    assert "was removed" in admin.get(f"{P}/datasets/tagged/versions/v1").json()["remedy"]
    assert publish(admin, "tagged", {"a": b"3"})["version"] == "v3"  # a number is never given twice
    for tag in ("latest", "v7", "0123456789ab"):
        assert admin.put(f"{P}/datasets/tagged/tags/{tag}", json={"version": "v2"}).status_code == 422


def test_a_flipped_bit_is_found_and_mended_by_the_next_import(admin: TestClient, platform: Platform) -> None:
    made = publish(admin, "flipped", {"a.bin": b"flip me", "b.bin": b"leave me"})
    folder = Path(admin.post(f"{P}/datasets/flipped/versions/v1/folder").json()["folder"])
    digest = hashlib.sha256(b"flip me").hexdigest()
    place = platform.settings.home / "data" / "objects" / digest[:2] / digest[2:]
    place.chmod(0o644)
    place.write_bytes(b"flip mf")
    found = admin.post(f"{P}/datasets/flipped/versions/{made['version']}/verify").json()
    assert found["damaged"] == ["a.bin"]
    assert not folder.exists()  # it holds the same damaged bytes
    for path in ("folder", "files/a.bin"):
        answer = admin.request("POST" if path == "folder" else "GET", f"{P}/datasets/flipped/versions/v1/{path}")
        assert answer.status_code == 503 and "Import the same data again" in answer.json()["remedy"], answer.text
    assert admin.get(f"{P}/datasets/flipped/versions/v1/files/b.bin").content == b"leave me"
    publish(admin, "flipped", {"a.bin": b"flip me", "b.bin": b"leave me"})
    assert admin.post(f"{P}/datasets/flipped/versions/v1/verify").json()["damaged"] == []
    assert Path(admin.post(f"{P}/datasets/flipped/versions/v1/folder").json()["folder"]).joinpath("a.bin").read_bytes() == b"flip me"


def test_collecting_spares_every_version_and_everything_new(admin: TestClient, platform: Platform) -> None:
    publish(admin, "collected", {"a": b"collect: kept"})
    publish(admin, "collected", {"a": b"collect: dropped"})
    admin.delete(f"{P}/datasets/collected/versions/v2")
    root = platform.settings.home / "data" / "objects"
    dropped = hashlib.sha256(b"collect: dropped").hexdigest()
    assert admin.post("/api/v1/data/gc").json()["objects"] == 0  # a day has not passed
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (1, 1))
    assert admin.post("/api/v1/data/gc", params={"dry_run": True}).json()["objects"] >= 1
    assert (root / dropped[:2] / dropped[2:]).exists()
    assert admin.post("/api/v1/data/gc").json()["objects"] >= 1
    assert not (root / dropped[:2] / dropped[2:]).exists()
    assert admin.post(f"{P}/datasets/collected/versions/v1/verify").json()["damaged"] == []


def test_a_program_finds_the_files_in_a_read_only_folder(admin: TestClient) -> None:
    publish(admin, "placed", {"train/a.txt": b"hello"})
    folder = Path(admin.post(f"{P}/datasets/placed/versions/latest/folder").json()["folder"])
    assert (folder / "train" / "a.txt").read_text() == "hello" and not os.stat(folder / "train").st_mode & 0o222


CHECKS = [
    ({"kind": "nulls", "column": "y"}, "1 nulls in 3 rows"),
    ({"kind": "range", "column": "x", "most": 2}, "1 rows have 'x' outside"),
    ({"kind": "unique", "columns": ["k"]}, "1 values of k stand more than once"),
    ({"kind": "values", "column": "k", "values": ["a"]}, "1 rows have 'k' that is none of"),
    ({"kind": "matches", "column": "k", "pattern": "[b-z]"}, "2 rows have 'k' unlike"),
    ({"kind": "rows", "least": 10}, "3 rows, not 10"),
    ({"kind": "columns", "types": {"x": "string", "z": ""}}, "'z' is missing"),
    ({"kind": "sql", "sql": "SELECT * FROM data WHERE x > y"}, "finds 1 rows"),
    ({"kind": "nulls", "column": "none"}, "no column 'none'"),
]


@pytest.mark.parametrize(("check", "sentence"), CHECKS, ids=[c["kind"] + str(i) for i, (c, _) in enumerate(CHECKS)])
def test_a_check_that_fails_stops_the_version_and_says_what_was_found(admin: TestClient, check: dict[str, Any], sentence: str) -> None:
    data = parquet(x=[1, 2, 3], y=[5, None, 1], k=["a", "a", "b"])
    problem = publish(admin, "checked", {"a.parquet": data}, status=422, checks=[check])
    assert problem["code"] == "checks_failed" and sentence in problem["detail"], problem["detail"]
    assert admin.get(f"{P}/datasets/checked").status_code == 404


def test_checks_that_hold_are_kept_with_the_version(admin: TestClient) -> None:
    checks = [{"kind": "range", "column": "x", "least": 1, "most": 3}, {"kind": "unique", "column": "x"}, {"kind": "rows", "least": 1}]
    made = publish(admin, "checked-well", {"a.parquet": parquet(x=[1, 2, 3])}, checks=checks)
    assert [outcome["passed"] for outcome in made["checks"]] == [True] * 3


@pytest.mark.parametrize(
    "check",
    [
        {"kind": "magic"},
        {"kind": "nulls"},
        {"kind": "range", "column": "x"},
        {"kind": "sql", "sql": "DROP TABLE data"},
        {"kind": "sql", "sql": "SELECT * FROM read_csv('/etc/passwd')"},
        {"kind": "sql", "sql": "SELECT * FROM '/etc/passwd'"},
        {"kind": "sql", "sql": "COPY data TO '/tmp/x'"},
        {"kind": "sql", "sql": "SELECT nothing"},
        {"kind": "matches", "column": "k", "pattern": "("},
    ],
)
def test_a_check_that_makes_no_sense_or_reaches_out_is_refused(admin: TestClient, check: dict[str, Any]) -> None:
    publish(admin, "senseless", {"a.parquet": parquet(x=[1], k=["a"])}, status=422, checks=[check])
    assert admin.get(f"{P}/datasets/senseless").status_code == 404


BAD = [
    ({"files": []}, "no files"),
    ({"files": [{"path": "../x", "size": 1, "sha256": "0" * 64}]}, "does not lead"),
    ({"files": [{"path": "/x", "size": 1, "sha256": "0" * 64}]}, "does not lead"),
    ({"files": [{"path": "x", "size": 1, "sha256": "0" * 64}]}, "was not sent"),
    ({"files": [{"path": "x", "size": -1, "sha256": "0" * 64}]}, "files"),
    ({"files": [{"path": "x", "size": 1, "sha256": "zz"}]}, "files"),
    ({"files": [{"path": "x", "size": 1, "sha256": "0" * 64}] * 2}, "Two files"),
    ({"files": [{"path": "x", "size": 1, "sha256": "0" * 64}], "tags": ["latest"]}, "latest"),
    ({}, "files"),
]


@pytest.mark.parametrize(("body", "sentence"), BAD)
def test_a_version_that_makes_no_sense_is_refused_and_leaves_nothing(admin: TestClient, body: dict[str, Any], sentence: str) -> None:
    answer = admin.post(f"{P}/datasets/bad/versions", json=body)
    assert answer.status_code == 422 and sentence in answer.json()["detail"], answer.text
    assert admin.get(f"{P}/datasets/bad").status_code == 404


def test_a_broken_parquet_file_makes_no_version(admin: TestClient) -> None:
    problem = publish(admin, "broken", {"a.parquet": b""}, status=422)
    assert "'a.parquet'" in problem["detail"] and "empty" in problem["detail"]
    assert admin.get(f"{P}/datasets/broken").status_code == 404


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (frame(b"hello")[:-1], "torn_upload"),
        (frame(b"hello")[:50], "torn_upload"),
        (b"x" * 100, "bad_frame"),
        (frame(b"hello")[:-1] + b"O", "changed_while_read"),
    ],
)
def test_an_upload_that_breaks_off_or_lies_is_refused_and_keeps_nothing_half(
    admin: TestClient, platform: Platform, stream: bytes, code: str
) -> None:
    whole = frame(b"whole")
    answer = admin.put(f"{P}/data/objects", content=whole + stream)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert admin.post(f"{P}/data/missing", json={"sha256": [whole[:64].decode()]}).json()["missing"] == []
    assert list((platform.settings.home / "data" / "objects" / "incoming").iterdir()) == []


def test_references_that_are_none_are_a_404_or_a_422_with_a_remedy(admin: TestClient) -> None:
    publish(admin, "here", {"a": b"1"})
    for path, status in (
        ("none/versions/latest", 404),
        ("here/versions/v9", 404),
        ("here/versions/unknown", 404),
        ("here/versions/A@B", 422),
    ):
        answer = admin.get(f"{P}/datasets/{path}")
        assert answer.status_code == status and answer.json()["remedy"], answer.text


def test_others_see_nothing(nobody: TestClient) -> None:
    assert nobody.get(f"{P}/datasets").status_code == 401
    assert nobody.put(f"{P}/data/objects", content=b"").status_code == 401


def test_a_parquet_version_is_an_iceberg_snapshot_that_reads_as_it_was(admin: TestClient, platform: Platform) -> None:
    from pyiceberg.catalog.sql import SqlCatalog

    numbers = {"a.parquet": parquet(x=[1, 2, 3], s=["a", "b", "c"])}
    made = [
        publish(admin, "iced", numbers),
        publish(admin, "iced", numbers | {"b.parquet": parquet(x=[4], s=["d"])}),
        publish(admin, "iced", {"a.parquet": parquet(x=[5], s=["e"], y=[0.5])}),  # a new column
        publish(admin, "iced", {"a.parquet": parquet(x=["text"], y=[1.5])}),  # one is gone, one has another type
        publish(admin, "iced", {"a.parquet": parquet(x=["more"], y=[2.5])}),
    ]
    catalog = SqlCatalog("narf", uri=platform.settings.database, warehouse=f"file://{platform.settings.home}/data/iceberg")
    pinned = [version["iceberg"] for version in made]
    read = [catalog.load_table(pin["table"]).scan(snapshot_id=int(pin["snapshot_id"])).to_arrow() for pin in pinned]
    catalog.close()
    assert [found.column("x").to_pylist() for found in read] == [[1, 2, 3], [1, 2, 3, 4], [5], ["text"], ["more"]]
    assert [found.column_names for found in read] == [["x", "s"], ["x", "s"], ["x", "s", "y"], ["x", "y"], ["x", "y"]]
    assert [pin["table"] for pin in pinned] == ["default.iced"] * 3 + ["default.iced@v4"] * 2
