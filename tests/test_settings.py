"""Settings are read from the environment, and what is no value is said with its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from narf.domain.errors import BadInput
from narf.settings import read_settings


def test_nothing_set_is_a_platform_on_this_machine(tmp_path: Path):
    found = read_settings({"NARF_HOME": str(tmp_path)})
    assert found.database == f"sqlite:///{tmp_path}/narf.db"
    assert found.mlflow_database == f"sqlite:///{tmp_path}/mlflow.db"
    assert (found.host, found.artifacts, found.preload) == ("127.0.0.1", str(tmp_path / "artifacts"), None)


def test_engines_elsewhere_are_a_matter_of_settings(tmp_path: Path):
    variables = {"NARF_HOME": str(tmp_path), "NARF_DATABASE_URL": "postgresql://db/narf", "NARF_ARTIFACT_ROOT": "s3://bucket/runs"}
    found = read_settings(variables | {"NARF_PRELOAD": "numpy, jax"})
    assert (found.database, found.artifacts, found.preload) == ("postgresql://db/narf", "s3://bucket/runs", ("numpy", "jax"))
    assert read_settings({"NARF_PRELOAD": ""}).preload == ()


@pytest.mark.parametrize("value", ["eighty", "-1", "65536", "1e3", "80 80"])
def test_a_value_that_is_no_port_is_refused_by_name(value: str):
    with pytest.raises(BadInput, match="NARF_PORT"):
        read_settings({"NARF_PORT": value})
