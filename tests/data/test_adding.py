"""Folders become versions: what is read, what is refused, and what survives a kill."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from narf.data.adding import add_folder
from narf.data.folder import Seen, read_whole, scan
from narf.data.manifest import compare
from narf.data.objects import ObjectStore
from narf.data.placing import forget_unused, materialise
from narf.domain.errors import BadInput, Unavailable


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


def write(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def stored(objects: ObjectStore) -> list[str]:
    return [digest for digest, _ in objects.all()]


def test_the_same_bytes_are_stored_once(tmp_path: Path, objects: ObjectStore) -> None:
    manifest = add_folder(write(tmp_path / "in", a="same", b__c="same", d="other"), objects)
    assert [e.path for e in manifest.files] == ["a", "b/c", "d"]
    assert len(stored(objects)) == 2


def test_only_files_that_changed_are_read_again(tmp_path: Path, objects: ObjectStore) -> None:
    folder = write(tmp_path / "in", a="one", b="two")
    later = time.time_ns() + 10**10
    first = add_folder(folder, objects, seen=Seen(tmp_path / "seen.json"), now_ns=lambda: later)
    (folder / "b").write_text("new")
    seen = Seen(tmp_path / "seen.json")
    assert [seen.digest_of(found) for found in scan(folder)] == [first.files[0].sha256, None]
    assert [e.path for e in compare(first, add_folder(folder, objects, seen=seen)).changed[0]] == ["b", "b"]


def test_a_file_as_young_as_the_reading_is_read_again(tmp_path: Path, objects: ObjectStore) -> None:
    """Its clock may not tick between the reading and the next change."""
    folder = write(tmp_path / "in", a="one")
    add_folder(folder, objects, seen=Seen(tmp_path / "seen.json"))
    assert Seen(tmp_path / "seen.json").digest_of(scan(folder)[0]) is None


def test_a_pattern_chooses_files(tmp_path: Path, objects: ObjectStore) -> None:
    folder = write(tmp_path / "in", **{"a.csv": "1", "b__c.csv": "2", "b__d.txt": "3", "b__e__f.csv": "4"})
    paths = {
        pattern: [e.path for e in add_folder(folder, objects, pattern=pattern).files] for pattern in ("*.csv", "b/*.csv", "b/**/*.csv")
    }
    assert paths == {"*.csv": ["a.csv", "b/c.csv", "b/e/f.csv"], "b/*.csv": ["b/c.csv"], "b/**/*.csv": ["b/c.csv", "b/e/f.csv"]}


def test_an_empty_folder_and_a_missing_one_are_refused_with_a_remedy(tmp_path: Path, objects: ObjectStore) -> None:
    (tmp_path / "in").mkdir()
    for folder in (tmp_path / "in", tmp_path / "none"):
        with pytest.raises(BadInput) as refused:
            add_folder(folder, objects)
        assert str(folder) in refused.value.sentence and refused.value.remedy


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_followed(tmp_path: Path, objects: ObjectStore) -> None:
    folder = write(tmp_path / "in", a="inside")
    (folder / "b").symlink_to("a")
    assert len(add_folder(folder, objects).files) == 2
    for name, target, code in (("c", "/etc/hostname", "link_outside"), ("c", "gone", "link_broken"), ("c", ".", "link_outside")):
        (folder / name).symlink_to(target)
        with pytest.raises(BadInput) as refused:
            add_folder(folder, objects)
        assert refused.value.code == code
        (folder / name).unlink()


def test_a_name_that_is_not_utf8_is_refused_and_shown(tmp_path: Path, objects: ObjectStore) -> None:
    folder = write(tmp_path / "in", a="x")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.csv")).write_text("x")
    with pytest.raises(BadInput, match=r"caf\\xe9.csv.*UTF-8"):
        add_folder(folder, objects)


def test_a_pipe_is_refused(tmp_path: Path, objects: ObjectStore) -> None:
    folder = write(tmp_path / "in", a="x")
    os.mkfifo(folder / "p")
    with pytest.raises(BadInput, match="neither a file nor a folder"):
        add_folder(folder, objects)


def test_a_file_that_grows_while_it_is_read_is_noticed(tmp_path: Path, objects: ObjectStore) -> None:
    folder = write(tmp_path / "in", a="x" * 3_000_000)
    (found,) = scan(folder)

    def take(block: bytes) -> None:
        with (folder / "a").open("a") as file:
            file.write("more")

    with pytest.raises(BadInput, match="'a' was changed while it was being read"):
        objects.put_from(lambda write: read_whole(found, take))
    assert stored(objects) == [] and list((objects.root / "incoming").iterdir()) == []


def test_a_full_disk_keeps_nothing_and_says_so(tmp_path: Path) -> None:
    """The kernel refuses to write past a limit; what happens then is what happens on a full disk."""
    write(tmp_path / "in", a="x" * 200_000, b="y" * 2_000_000)
    program = (
        "import sys, pathlib; from narf.data.adding import add_folder; from narf.data.objects import ObjectStore\n"
        "from narf.domain.errors import LimitReached\n"
        f"root = pathlib.Path({str(tmp_path)!r})\n"
        "try: add_folder(root / 'in', ObjectStore(root / 'objects'))\n"
        "except LimitReached as error: sys.exit(str(error))\n"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = subprocess.run([sys.executable, "-c", program], preexec_fn=limit, capture_output=True, text=True)
    assert "is full; nothing of this import was kept." in done.stderr, done.stderr
    assert list((tmp_path / "objects" / "incoming").iterdir()) == []


def test_killed_at_any_moment_it_resumes_and_nothing_is_half_visible(tmp_path: Path, objects: ObjectStore) -> None:
    rng = random.Random(7)
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number}.bin").write_bytes(rng.randbytes(rng.choice([10, 5_000, 1_500_000 if number % 40 == 0 else 100])))
    program = (
        "import pathlib, sys; from narf.data.adding import add_folder; from narf.data.objects import ObjectStore\n"
        f"root = pathlib.Path({str(tmp_path)!r}); print('go', flush=True)\n"
        "add_folder(root / 'in', ObjectStore(root / 'objects')); print('done')\n"
    )
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None and child.stdout.readline() == "go\n"
        time.sleep(rng.uniform(0, 0.06))  # the moment of the kill is what is being varied
        child.kill()
        child.communicate()
        assert all(objects.is_intact(digest) for digest in stored(objects))
    manifest = add_folder(folder, objects)
    assert sorted({e.sha256 for e in manifest.files}) == sorted(stored(objects))


def test_the_placed_folder_is_what_was_added_read_only_and_shares_its_bytes(tmp_path: Path, objects: ObjectStore) -> None:
    manifest = add_folder(write(tmp_path / "in", a="one", b__c__d="two", b__e="one"), objects)
    place = materialise(manifest.id, lambda: manifest, objects, tmp_path / "folders")
    assert {str(p.relative_to(place)): p.read_text() for p in place.rglob("*") if p.is_file()} == {"a": "one", "b/c/d": "two", "b/e": "one"}
    assert (place / "a").stat().st_ino == objects.path(manifest.files[0].sha256).stat().st_ino
    assert (place / "a").stat().st_mode & 0o222 == 0 and place.stat().st_mode & 0o222 == 0
    assert materialise(manifest.id, lambda: manifest, objects, tmp_path / "folders") == place
    assert forget_unused(tmp_path / "folders", older_than=time.time() - 60) == 0
    assert forget_unused(tmp_path / "folders", older_than=time.time() + 60) == 1 and not place.exists()


def test_a_lost_object_makes_no_half_folder(tmp_path: Path, objects: ObjectStore) -> None:
    manifest = add_folder(write(tmp_path / "in", a="one", b="two"), objects)
    objects.discard(manifest.files[1].sha256)
    with pytest.raises(Unavailable, match="lost"):
        materialise(manifest.id, lambda: manifest, objects, tmp_path / "folders")
    assert not list((tmp_path / "folders").rglob("a"))


def test_a_flipped_bit_is_found(tmp_path: Path, objects: ObjectStore) -> None:
    manifest = add_folder(write(tmp_path / "in", a="one"), objects)
    digest = manifest.files[0].sha256
    assert objects.is_intact(digest)
    place = objects.path(digest)
    place.chmod(0o644)
    place.write_bytes(b"ond")
    assert not objects.is_intact(digest)


def test_sweeping_spares_what_is_wanted_and_what_is_new(objects: ObjectStore) -> None:
    wanted, old, new = objects.put(b"wanted"), objects.put(b"old"), objects.put(b"new")
    for digest in (wanted, old):
        os.utime(objects.path(digest), (1, 1))
    assert objects.sweep({wanted}, unused_for_seconds=60, dry_run=True) == (1, 3)
    assert objects.sweep({wanted}, unused_for_seconds=60) == (1, 3)
    assert objects.has(wanted) and objects.has(new) and not objects.has(old)
    assert objects.touch([wanted, old]) == [old]
