"""Sizes, times and scripts as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from narf.cli.run import _program, _with_defaults
from narf.client.amounts import parse_size, parse_time
from narf.domain.errors import BadInput


@pytest.mark.parametrize(("text", "size"), [("4Gi", 4 << 30), ("500M", 500_000_000), ("1000", 1000), ("1.5k", 1500), ("2GiB", 2 << 30)])
def test_sizes(text: str, size: int):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "4 gigs", "-1", "Gi", "1e9"])
def test_what_is_no_size_is_refused(text: str):
    with pytest.raises(BadInput):
        parse_size(text)


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("12h", 43_200), ("45", 45), ("2d", 172_800)])
def test_times(text: str, seconds: float):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-5m"])
def test_what_is_no_time_is_refused(text: str):
    with pytest.raises(BadInput):
        parse_time(text)


def test_a_script_below_the_current_folder_brings_that_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text("pass")
    monkeypatch.chdir(tmp_path)
    body, folder = _program(["src/train.py", "--lr", "0.1"])
    assert body == {"script": "src/train.py", "arguments": ["--lr", "0.1"]}
    assert folder == tmp_path


def test_a_script_elsewhere_brings_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "there" / "train.py").write_text("pass")
    monkeypatch.chdir(tmp_path / "here")
    body, folder = _program([str(tmp_path / "there" / "train.py")])
    assert body["script"] == "train.py"
    assert folder == tmp_path / "there"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: None, "There is no script"),
        (lambda p: p.mkdir(), "is a folder"),
        (lambda p: p.write_text("def f(:\n"), "syntax error in line 1"),
        (lambda p: p.write_bytes(b"\x00\x01"), "no Python source"),
    ],
)
def test_a_script_that_cannot_run_is_refused_before_it_is_sent(tmp_path: Path, make, says: str):
    make(tmp_path / "train.py")
    with pytest.raises(BadInput) as refused:
        _program([str(tmp_path / "train.py")])
    assert says in str(refused.value) or "syntax error" in str(refused.value)


def test_what_narf_toml_says_holds_where_the_command_line_says_nothing():
    resources = {"cpu": 1.0, "memory_bytes": 0, "gpu": 0.5, "gpu_memory_bytes": 0, "flavor": "", "node_selector": {}}
    body = {"resources": resources, "replicas": 1, "priority": 0, "preemptible": True, "time_limit_seconds": None}
    body |= {"experiment": "", "name": "", "data": [], "requirements": ""}
    said = {"gpu": 2, "gpu_memory": "10Gi", "labels": {"zone": "b"}, "preemptible": False, "time_limit": "1h", "nodes": 2}
    merged = _with_defaults(body, said)
    assert merged["resources"] == resources | {"gpu_memory_bytes": 10 << 30, "node_selector": {"zone": "b"}}  # the GPUs were given
    assert (merged["preemptible"], merged["time_limit_seconds"], merged["replicas"]) == (False, 3600.0, 2)
    assert body["resources"]["node_selector"] == {}
