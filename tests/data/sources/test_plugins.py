"""A package brings a kind of source of its own: the guide's example, installed as packages are, passes the suite."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from narf.data.sources.opening import Source, all_kinds, open_source
from narf.data.sources.options import check_options
from narf.domain.errors import BadInput, NarfError

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "data.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", GUIDE.read_text(), re.DOTALL)


def block(language: str, mark: str) -> str:
    (found,) = [text for kind, text in BLOCKS if kind == language and mark in text]
    return found


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path that holds the guide's package and, as an installer would, its entry points."""
    site = tmp_path / "site"
    (site / "bank_narf").mkdir(parents=True)
    (site / "bank_narf" / "__init__.py").touch()
    (site / "bank_narf" / "archive.py").write_text(block("python", "bank_narf/archive.py"))
    (site / "bank_narf" / "broken.py").write_text("import a_package_that_is_not_there")
    (line,) = re.findall(r"^archive = \"(.*)\"$", block("toml", "narf.connectors"), re.MULTILINE)
    points = f"[narf.connectors]\narchive = {line}\nbroken = bank_narf.broken:Broken\nwrong = bank_narf.archive:Nowhere\ns3 = bank_narf.archive:Thief\n"
    (site / "bank_narf-1.0.dist-info").mkdir()
    (site / "bank_narf-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: bank-narf\nVersion: 1.0\n")
    (site / "bank_narf-1.0.dist-info" / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(site))
    all_kinds.cache_clear()
    yield site
    all_kinds.cache_clear()


def opened(kind: str, **options: str) -> object:
    return open_source(Source(name="scans", kind=kind, options=options), lambda name: name)


def test_an_installed_kind_is_used_by_name_and_called_untested(installed: Path, tmp_path: Path) -> None:
    assert not check_options("scans", "archive", {"path": "x", "anything": "goes"}, all_kinds()).tested
    with pytest.raises(BadInput, match=r"'scans' has no archive '/no/such.zip'"):
        opened("archive", path="/no/such.zip")
    with pytest.raises(BadInput, match="holds a secret openly"):
        check_options("scans", "archive", {"password": "open"}, all_kinds())


def test_a_package_cannot_take_the_name_of_a_kind_of_ours(installed: Path) -> None:
    assert all_kinds()["s3"].connector.startswith("narf.")


def test_a_broken_package_is_said_with_what_it_lacks(installed: Path) -> None:
    with pytest.raises(NarfError, match=r"'scans' needs the package 'a_package_that_is_not_there'"):
        opened("broken")
    with pytest.raises(NarfError, match=r"'bank_narf.archive:Nowhere', which is not there") as refused:
        opened("wrong")
    assert "entry point" in refused.value.remedy


def test_the_guides_connector_passes_the_suite_as_the_guide_runs_it(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "test_archive.py").write_text(block("python", "class TestArchive"))
    program = f"import sys; sys.path.insert(0, {str(installed)!r}); import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path / "test_archive.py")]
    bare = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=bare)
    assert done.returncode == 0 and " passed" in done.stdout and "skipped" not in done.stdout, done.stdout + done.stderr
