"""Artifacts in a real S3 server: through our service, and as MLflow's repository."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from narf.domain.errors import BadInput, NotFound
from narf.testing.s3 import s3_server
from narf.tracking.artifacts import Artifacts
from narf.tracking.s3_artifacts import S3Artifacts
from narf.tracking.server import open_stores

RUN = "mlflow-artifacts:/workspaces/default/1/abc/artifacts"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        bucket = server.make_bucket("runs")
        patch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", server.access_key_id)
        patch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_access_key)
        patch.setenv("AWS_REGION", server.region)
        yield f"s3://{bucket}/some/prefix"


def test_files_are_stored_listed_read_and_removed(root):
    artifacts = Artifacts(root)
    assert artifacts.put(RUN, "plots/a b.png", io.BytesIO(b"picture")) == 7
    artifacts.put(RUN, "empty", io.BytesIO(b""))
    assert [(one.path, one.is_folder, one.size) for one in artifacts.list(RUN)] == [("empty", False, 0), ("plots", True, None)]
    assert [(one.path, one.size) for one in artifacts.list(RUN, "plots")] == [("plots/a b.png", 7)]
    with artifacts.open(RUN, "plots/a b.png") as file:
        assert file.read_bytes() == b"picture"
    artifacts.put(RUN, "plots/a b.png", io.BytesIO(b"new"))
    with artifacts.open(RUN, "plots/a b.png") as file:
        assert file.read_bytes() == b"new"
    artifacts.delete(RUN, "plots")
    for path in ("plots/a b.png", "plots", "never"):
        with pytest.raises(NotFound), artifacts.open(RUN, path):
            pass
    assert [one.path for one in artifacts.list(RUN)] == ["empty"]
    assert artifacts.list(RUN, "never") == []
    with pytest.raises(BadInput):
        artifacts.put(RUN, "../up", io.BytesIO(b"x"))


def test_mlflow_writes_and_reads_folders(root, tmp_path):
    repository = S3Artifacts(root)
    (tmp_path / "model" / "data").mkdir(parents=True)
    (tmp_path / "model" / "MLmodel").write_text("flavors")
    (tmp_path / "model" / "data" / "weights").write_bytes(b"w" * (9 << 20))
    repository.log_artifacts(str(tmp_path / "model"), "1/r/artifacts/model")
    assert [info.path for info in repository.list_artifacts("1/r/artifacts/model")] == [
        "1/r/artifacts/model/MLmodel",
        "1/r/artifacts/model/data",
    ]
    (tmp_path / "back").mkdir()
    repository.download_artifacts("1/r/artifacts/model", str(tmp_path / "back"))
    assert (tmp_path / "back/1/r/artifacts/model/data/weights").read_bytes() == b"w" * (9 << 20)
    repository.delete_artifacts("1/r/artifacts/model")
    assert repository.list_artifacts("1/r/artifacts") == []


def test_another_kind_of_address_is_refused(tmp_path):
    with pytest.raises(BadInput, match="cannot be kept"):
        open_stores(f"sqlite:///{tmp_path}/m.db", "ftp://x/y", lambda _project: True)
