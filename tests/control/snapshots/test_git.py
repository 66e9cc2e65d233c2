"""Code from git repositories, out of a real git server on the loopback."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.git_http import run_git, served

from narf.control.hosts import Hosts
from narf.control.snapshots import git
from narf.control.snapshots.service import SnapshotService
from narf.data.objects import ObjectStore
from narf.domain.errors import BadInput, LimitReached, NarfError

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
TRAIN = b"print('trained')\n"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits on main (the first one tagged), a folder, a link that leads out, a program."""
    work = tmp_path_factory.mktemp("work")
    run_git(work, "init", "--quiet")
    (work / "train.py").write_bytes(b"print('first')\n")
    run_git(work, "add", ".")
    run_git(work, "commit", "--quiet", "-m", "first")
    run_git(work, "tag", "-a", "v1", "-m", "one")
    (work / "train.py").write_bytes(TRAIN)
    (work / "models").mkdir()
    (work / "models/net.py").write_text("width = 8\n")
    (work / "run.sh").write_text("python train.py\n")
    (work / "run.sh").chmod(0o755)
    (work / "passwords").symlink_to("/etc/passwd")
    run_git(work, "add", ".")
    run_git(work, "commit", "--quiet", "-m", "second")
    root = tmp_path_factory.mktemp("served")
    run_git(work, "clone", "--quiet", "--bare", str(work), str(root / "repo.git"))
    return root


@pytest.fixture(scope="module")
def url(repository: Path) -> Iterator[str]:
    with served(repository) as address:
        yield f"{address}/repo.git"


@pytest.fixture
def snapshots(tmp_path: Path) -> SnapshotService:
    return SnapshotService(ObjectStore(tmp_path / "objects"), Hosts(("127.0.0.1",)))


def test_the_default_branch_becomes_a_snapshot_without_what_leads_out_of_it(snapshots: SnapshotService, url: str, repository: Path) -> None:
    made = snapshots.from_git(url)
    assert made.commit == run_git(repository / "repo.git", "rev-parse", "HEAD")
    assert made.paths == ("models/net.py", "run.sh", "train.py")
    assert snapshots.read(made.id, "train.py") == TRAIN
    assert {file.path: file.mode for file in snapshots.files(made.id)}["run.sh"] == 0o755
    assert snapshots.from_git(url).id == made.id


def test_a_tag_a_branch_and_a_commit_name_what_is_fetched(snapshots: SnapshotService, url: str, repository: Path) -> None:
    first = run_git(repository / "repo.git", "rev-parse", "v1^{commit}")
    for ref in ("v1", first):
        made = snapshots.from_git(url, ref)
        assert (made.commit, made.paths) == (first, ("train.py",))
    assert snapshots.from_git(url, "main").paths == snapshots.from_git(url).paths


def test_one_folder_of_a_repository_is_enough(snapshots: SnapshotService, url: str) -> None:
    assert snapshots.from_git(url, folder="models/").paths == ("net.py",)
    with pytest.raises(BadInput, match="no folder 'elsewhere'") as wrong:
        snapshots.from_git(url, folder="elsewhere")
    assert wrong.value.field == "folder"


@pytest.mark.parametrize(
    "address",
    [
        "/etc", "file:///etc", "../repo.git", "git://host/repo", "ext::sh -c touch% /tmp/x", "-uuploadpack=touch", "--upload-pack=touch x", "ssh://-oProxyCommand=touch/x",
        "ssh://-ouser@host/x", "http://host", "https://host/a b", "-oProxyCommand=x@host:path", "host:path", "user@host:-path", "fd::17/foo", "https://", "", "ftp://host/x",
        "http://host/x\nfile:///etc", "https://user@-host/x", "http://[::1/x",
    ],
)  # fmt: skip
def test_only_addresses_of_the_network_are_taken(address: str) -> None:
    with pytest.raises(BadInput) as wrong:
        git.checked_url(address)
    assert wrong.value.field == "url"


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(BadInput) as wrong:
        git.checked_url("https://ann:hunter2@host/x.git")
    assert "hunter2" not in str(wrong.value)


def test_the_short_form_of_ssh_is_understood() -> None:
    assert git.checked_url("git@github.com:owner/name.git") == "ssh://git@github.com/owner/name.git"


@pytest.mark.parametrize(
    "ref", ["--upload-pack=x", "-x", "a..b", "a b", "main:refs/heads/x", "+main", "a/", "x.lock", "HEAD^{commit}", "@{1}", "a\n"]
)
def test_only_names_of_git_are_taken(ref: str) -> None:
    if ref == "a\n":
        assert git.checked_ref(ref) == "a"
        return
    with pytest.raises(BadInput) as wrong:
        git.checked_ref(ref)
    assert wrong.value.field == "ref"


@pytest.mark.parametrize(
    ("change", "ref", "code", "field"),
    [
        (("repo.git", "absent.git"), "", "no_repository", "url"),
        (("repo.git", "moved/repo.git"), "", "redirected", "url"),
        (("repo.git", "private/repo.git"), "", "not_let_in", "url"),
        (("", ""), "no-such-branch", "unknown_ref", "ref"),
    ],
)
def test_what_cannot_be_fetched_is_said_beside_its_field(
    snapshots: SnapshotService, url: str, change: tuple[str, str], ref: str, code: str, field: str
) -> None:
    with pytest.raises(BadInput) as wrong:
        snapshots.from_git(url.replace(*change), ref)
    assert (wrong.value.code, wrong.value.field) == (code, field)
    assert wrong.value.remedy


def test_a_host_that_is_not_there_is_said(snapshots: SnapshotService) -> None:
    with pytest.raises(BadInput) as wrong:
        snapshots.from_git("http://127.0.0.1:1/x.git")
    assert wrong.value.code == "unreachable"


@pytest.mark.parametrize("limits", [git.Limits(files=2), git.Limits(fetched_bytes=20)])
def test_too_many_files_and_too_many_bytes_are_refused(snapshots: SnapshotService, url: str, limits: git.Limits, tmp_path: Path) -> None:
    with pytest.raises(LimitReached):
        snapshots.from_git(url, limits=limits)
    assert not any((tmp_path / "objects").rglob("[0-9a-f]" * 62))


def test_a_host_that_never_answers_is_left(snapshots: SnapshotService) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(LimitReached, match=r"did not come within 0\.5 seconds"):
        snapshots.from_git(f"http://127.0.0.1:{silent.getsockname()[1]}/x.git", limits=git.Limits(seconds=0.5))


def test_nothing_stays_of_what_was_fetched(snapshots: SnapshotService, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(room))
    snapshots.from_git(url)
    with pytest.raises(NarfError):
        snapshots.from_git(url, "absent")
    assert list(room.iterdir()) == []


def test_without_a_list_nothing_is_asked_of_this_machine(tmp_path: Path, url: str) -> None:
    with pytest.raises(BadInput) as refused:
        SnapshotService(ObjectStore(tmp_path / "objects")).from_git(url)
    assert refused.value.code == "host_not_allowed" and refused.value.field == "url"


def test_git_connects_to_the_address_that_was_looked_at_whatever_the_name_means_now(tmp_path: Path, url: str) -> None:
    port = int(url.rpartition(":")[2].partition("/")[0])
    program = shutil.which("git")
    assert program is not None
    there = git.Destination("http", "code.invalid", port, "127.0.0.1")
    checkout = git.Checkout(program, tmp_path, git.Limits(), there)
    checkout.fetch(url.replace("127.0.0.1", "code.invalid"), "HEAD")
    assert "train.py" in [blob.path for blob in checkout.blobs()]
