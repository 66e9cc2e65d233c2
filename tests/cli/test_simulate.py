"""`narf simulate`: what is asked for on the command line, and what it prints of a trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from narf.cli.main import main
from narf.cli.simulate import workload_of
from narf.domain.errors import BadInput

TRACE = "id,submitted_at,duration_seconds,gpus,project\na,0,100,8,p\nb,1,-5,1,p\nc,2,50,1,q\nd,3,50,x,q\n"


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("8gpu", {"gpu": 8.0, "replicas": 1}),
        ("8gpu,2h", {"gpu": 8.0, "replicas": 1, "duration_seconds": 7200.0}),
        ("4x8gpu,90m", {"gpu": 8.0, "replicas": 4, "duration_seconds": 5400.0}),
        ("0.5gpu,30s,a100", {"gpu": 0.5, "replicas": 1, "duration_seconds": 30.0, "flavor": "a100"}),
    ],
)
def test_a_workload_to_ask_about_is_written_short(text: str, asked: dict[str, Any]) -> None:
    assert workload_of(text, "p") == {"project": "p", **asked}


@pytest.mark.parametrize("text", ["", "8", "gpu", "8gpu,", "8gpu,1h,a,b", "8gpu,0h", "8gpu,2y", "-1gpu"])
def test_one_that_is_not_written_so_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        workload_of(text, "p")
    assert "2h" in refused.value.remedy or "12h" in refused.value.remedy


def simulated(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *arguments])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_a_trace_gives_the_figures_as_json_and_names_its_broken_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text(TRACE)
    code, out, err = simulated(capsys, str(trace), "--nodes", "1x8", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["policy"], found["jobs"], found["broken_rows"]) == ("narf", 2, 2)
    assert {"mean", "p50", "p99"} <= found["jct"].keys()
    assert {"mean", "p50", "p99", "by_gpus"} <= found["queue"].keys()
    assert found["queue"]["by_gpus"]["1"]["mean"] == 98.0
    assert 0 < found["allocated_percent"] <= 100
    assert "Line 3 of t.csv is left out: a duration of -5 s makes no sense." in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("t.csv", "--add-nodes", "2x8"), "Add --from-now."),
        (("t.csv", "--from-now"), "Leave one of them out."),
        (("t.csv", "--policy", "nosuch"), "Use one of narf, fifo"),
        (("t.csv", "--nodes", "many"), "as 20x8"),
        (("none.csv",), "Check the path."),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "t.csv").write_text(TRACE)
    monkeypatch.chdir(tmp_path)
    code, _, err = simulated(capsys, *arguments)
    assert code == 2
    assert said in err


def test_nodes_of_a_file_may_differ_and_only_some_policies_know_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, nodes = tmp_path / "t.csv", tmp_path / "nodes.csv"
    trace.write_text("id,submitted_at,duration_seconds,gpus\na,0,100,2\nb,1,50,0.5\nc,2,50,4\n")
    nodes.write_text("sn,cpu_milli,memory_mib,gpu,model\nx,8000,1024,2,P100\ny,16000,1024,1,T4\n")
    for policy in ("narf", "best-fit", "fgd"):
        code, out, _ = simulated(capsys, str(trace), "--nodes", str(nodes), "--policy", policy, "--json")
        found = json.loads(out)
        assert (code, found["policy"], found["jobs"]) == (0, policy, 2)
        assert found["queue"]["by_gpus"]["0.5"]["mean"] == 0.0
    code, _, err = simulated(capsys, str(trace), "--nodes", str(nodes), "--policy", "fifo")
    assert (code, "Use --policy narf, best-fit or fgd." in err) == (2, True)
    nodes.write_text("sn,cpu_milli,memory_mib,gpu,model\nx,many,1024,2,P100\n")
    code, _, err = simulated(capsys, str(trace), "--nodes", str(nodes))
    assert (code, "Line 2 of nodes.csv is no node" in err) == (2, True)
