"""Environments are built once for what they are made from, by the first job that needs them, and collected when unused."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from narf.backends.local.backend import LocalBackend
from narf.backends.local.environments import Environments, environment_key, is_pyproject, uv_environment
from narf.data.objects import ObjectStore
from narf.domain.workload import EndReason
from narf.testing.backend_contract import ended, eventually, job, output, run, store_snapshot


def make_wheel(folder: Path, name: str, version: str) -> None:
    """A package with one module that knows its version."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for version in ("1.0", "2.0"):
        make_wheel(wheels, "tinypackage", version)
    # pip's words: what a bank has set up for pip must do for us.
    base = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_FIND_LINKS": str(wheels), "PIP_NO_INDEX": "1"}
    backend = LocalBackend(tmp_path / "home", base_environment=base, preload=("decimal",))
    yield backend
    backend.close()


SCRIPT = "import sys, tinypackage\nprint(tinypackage.VERSION, sys.prefix != sys.base_prefix)"


def script(backend: LocalBackend, **files: str) -> str:
    return store_snapshot(
        ObjectStore(backend.objects), {"script.py": SCRIPT} | {name.replace("_txt", ".txt"): text for name, text in files.items()}
    )


def started_by(backend: LocalBackend, job_id: str) -> str:
    return str(json.loads((backend.jobs / job_id / "state.json").read_text())["started_by"])


def test_a_job_gets_the_packages_it_asks_for_and_the_next_one_finds_them_warm(backend: LocalBackend) -> None:
    asked = job(backend, script="script.py", snapshot=script(backend), requirements="tinypackage==1.0\n")
    status, text = run(backend, asked)
    assert status.reason is EndReason.COMPLETED, text
    assert "building the Python environment" in text and text.endswith("1.0 True\n")
    again = job(backend, script="script.py", snapshot=script(backend), requirements="tinypackage==1.0")
    assert run(backend, again)[1] == "1.0 True\n"
    assert started_by(backend, again.id) == "fork"
    other = job(backend, script="script.py", snapshot=script(backend), requirements="tinypackage>1")
    assert run(backend, other)[1].endswith("2.0 True\n")


def test_jobs_that_need_the_same_environment_build_it_once(backend: LocalBackend) -> None:
    jobs = [job(backend, script="script.py", snapshot=script(backend), requirements="tinypackage") for _ in range(3)]
    for asked in jobs:
        backend.submit(asked)
    assert [ended(backend, asked.id).reason for asked in jobs] == [EndReason.COMPLETED] * 3
    texts = [output(backend, asked.id).decode() for asked in jobs]
    assert all(text.endswith("2.0 True\n") for text in texts)
    assert sum("is ready" in text for text in texts) == 1


def test_what_cannot_be_installed_ends_the_job_with_the_reason_in_its_output(backend: LocalBackend) -> None:
    asked = job(backend, script="script.py", snapshot=script(backend), requirements="no-such-package-at-all==9")
    status, text = run(backend, asked)
    assert (status.reason, status.exit_code) == (EndReason.ENVIRONMENT_FAILED, None)
    assert "no-such-package-at-all" in text
    assert not status.reason.may_retry


def test_files_beside_the_code_can_be_required(backend: LocalBackend) -> None:
    snapshot = script(backend, base_txt="tinypackage==1.0\n")
    asked = job(backend, script="script.py", snapshot=snapshot, requirements="-r base.txt")
    assert run(backend, asked)[1].endswith("1.0 True\n")
    assert sorted(path.name for path in (backend.jobs / asked.id / "work").iterdir() if path.name != "__pycache__") == [
        "base.txt",
        "script.py",
    ]


def test_a_pyproject_gives_the_dependencies(backend: LocalBackend) -> None:
    text = '[project]\nname = "mine"\nversion = "1"\ndependencies = ["tinypackage<2"]\n'
    asked = job(backend, script="script.py", snapshot=script(backend), requirements=text)
    status, said = run(backend, asked)
    assert said.endswith("1.0 True\n"), (status, said)


def test_a_build_can_be_cancelled(backend: LocalBackend) -> None:
    asked = job(backend, script="script.py", snapshot=script(backend), requirements="tinypackage")
    key = environment_key("tinypackage", asked.snapshot, backend.python)
    backend.environments.root.mkdir()
    with open(backend.environments.root / f"{key}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as if another job were building it
        backend.submit(asked)
        eventually(lambda: b"waiting" in output(backend, asked.id))
        backend.cancel(asked.id, EndReason.CANCELLED)
        assert ended(backend, asked.id).reason is EndReason.CANCELLED


def test_what_a_killed_build_has_left_is_built_again(backend: LocalBackend) -> None:
    key = environment_key("tinypackage", None, backend.python)
    backend.environments.python(key).parent.mkdir(parents=True)
    backend.environments.python(key).touch()
    asked = job(backend, script="script.py", snapshot=script(backend), requirements="tinypackage")
    assert run(backend, asked)[1].endswith("2.0 True\n")


def test_an_environment_in_use_is_not_removed_and_an_unused_one_is(backend: LocalBackend) -> None:
    for version in ("1.0", "2.0"):
        run(backend, job(backend, script="script.py", snapshot=script(backend), requirements=f"tinypackage=={version}"))
    used, unused = (environment_key(f"tinypackage=={version}", None, backend.python) for version in ("1.0", "2.0"))
    environments = backend.environments
    assert {used, unused} <= {key for key, _ in environments.all()}
    held = environments.hold(used)
    eventually(lambda: environments.remove(unused))  # once the job's supervisor has left
    assert not environments.remove(used)
    assert environments.is_ready(used) and not environments.is_ready(unused)
    os.close(held)
    assert not (environments.root / unused).exists()
    shutil.rmtree(environments.root)


def test_the_key_is_the_content() -> None:
    key = environment_key("a==1\nb==2", "s" * 64, "/usr/bin/python3")
    assert key == environment_key("\na==1  \nb==2\n", "t" * 64, "/usr/bin/python3")
    assert key != environment_key("a==1\nb==3", "s" * 64, "/usr/bin/python3")
    assert environment_key("-r x.txt", "s" * 64, "p") != environment_key("-r x.txt", "t" * 64, "p")
    assert is_pyproject("[project]\nname='x'") and not is_pyproject("requests\n") and not is_pyproject("[tool.x]\ny=1")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"PIP_INDEX_URL": "https://mirror/simple"}, {"UV_DEFAULT_INDEX": "https://mirror/simple"}),
        ({"PIP_INDEX_URL": "https://mirror/simple", "UV_INDEX_URL": "https://own"}, {}),
        ({"PIP_EXTRA_INDEX_URL": "https://a https://b"}, {"UV_INDEX": "https://a https://b", "UV_INDEX_STRATEGY": "unsafe-best-match"}),
        ({"PIP_CERT": "/ca.pem", "PIP_PROXY": "http://proxy:3128"}, {"SSL_CERT_FILE": "/ca.pem", "ALL_PROXY": "http://proxy:3128"}),
        ({"REQUESTS_CA_BUNDLE": "/ca.pem"}, {"SSL_CERT_FILE": "/ca.pem"}),
        ({"REQUESTS_CA_BUNDLE": "/ca.pem", "SSL_CERT_FILE": "/own.pem"}, {}),
        ({}, {}),
    ],
)
def test_the_index_proxy_and_certificates_of_pip_are_those_of_uv(
    environ: Mapping[str, str], expected: Mapping[str, str], tmp_path: Path
) -> None:
    assert uv_environment({"HOME": str(tmp_path), **environ}, system=str(tmp_path / "none")) == expected


def test_the_configuration_file_of_pip_is_read(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://bank/simple\ntimeout = 60\n[install]\nfind-links =\n  /a\n  /b\n")
    said = uv_environment({"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}, system="/nonexistent")
    assert said["UV_DEFAULT_INDEX"] == "https://bank/simple" and said["UV_FIND_LINKS"] == "/a,/b"


def test_an_environment_that_is_not_ready_has_no_zygote(tmp_path: Path) -> None:
    environments = Environments(tmp_path)
    assert not environments.is_ready("x" * 32)
    assert environments.python("k").is_relative_to(tmp_path / "k")
