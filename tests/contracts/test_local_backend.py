"""The local backend keeps the contract, with every program in a process started from nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from narf.backends.local.backend import LocalBackend
from narf.data.objects import ObjectStore
from narf.testing.backend_contract import ExecutionContract


class TestLocalBackendByExec(ExecutionContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[LocalBackend]:
        backend = LocalBackend(tmp_path, preload=())
        yield backend
        backend.close()

    @pytest.fixture
    def objects(self, tmp_path: Path) -> ObjectStore:
        return ObjectStore(tmp_path / "objects")


class TestLocalBackendByFork(ExecutionContract):
    """The same, with every script in a fork of one zygote."""

    @pytest.fixture(scope="class")
    def home(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("home")

    @pytest.fixture(scope="class")
    def backend(self, home: Path) -> Iterator[LocalBackend]:
        backend = LocalBackend(home)
        backend.warm()
        yield backend
        backend.close()

    @pytest.fixture(scope="class")
    def objects(self, home: Path) -> ObjectStore:
        return ObjectStore(home / "objects")
