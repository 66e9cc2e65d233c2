import pytest

pytest.register_assert_rewrite("narf.testing.backend_contract")
