"""The fake keeps the contract that the real backends keep."""

import pytest

from narf.testing.backend_contract import BackendContract
from narf.testing.fake_backend import FakeBackend


class TestFakeBackend(BackendContract):
    @pytest.fixture
    def backend(self) -> FakeBackend:
        return FakeBackend()
