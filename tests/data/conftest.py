from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from narf.testing.s3 import S3Server, s3_server

pytest.register_assert_rewrite("narf.testing.connector", "narf.testing.catalogue")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server, from a wheel, for the session."""
    with s3_server(tmp_path_factory.mktemp("swift")) as server:
        yield server


@pytest.fixture(scope="session")
def bucket(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bucket with the files of the contract."""
    import opendal

    from narf.data.sources.files import s3_configuration
    from narf.testing.connector import FILES_THERE

    name = s3.make_bucket("contract")
    operator = opendal.Operator("s3", **s3_configuration(s3.options(name)))
    for path, content in FILES_THERE.items():
        operator.write(path, content)
    return name


@pytest.fixture(scope="session")
def contract_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the contract."""
    from narf.testing.connector import FILES_THERE

    root = tmp_path_factory.mktemp("files")
    for path, content in FILES_THERE.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root
