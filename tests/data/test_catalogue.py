"""The catalogue of files passes the suite; an enterprise's own is found by its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from narf.data.catalogue import FileCatalogue, Registered, Registration, open_catalogue
from narf.domain.errors import BadInput
from narf.testing.catalogue import CatalogueContract, registration


class TestFileCatalogue(CatalogueContract):
    @pytest.fixture
    def catalogue(self, tmp_path: Path) -> FileCatalogue:
        return FileCatalogue(tmp_path / "catalogue")

    def test_names_do_not_lead_out_of_the_folder(self, tmp_path: Path) -> None:
        FileCatalogue(tmp_path / "in").register(registration("../../key", name="../../../up"))
        assert [path for path in tmp_path.rglob("*.json") if not path.resolve().is_relative_to(tmp_path / "in" / "dataset")] == []
        assert len(list((tmp_path / "in").rglob("*.json"))) == 1

    def test_a_file_that_a_kill_left_half_is_no_registration(self, tmp_path: Path) -> None:
        catalogue = FileCatalogue(tmp_path)
        catalogue.register(registration("a"))
        (tmp_path / "dataset" / "default%2Fdigits" / ".0123").write_text('{"key": "half')
        found = catalogue.resolve(Registered.DATASET, "default/digits")
        assert found is not None and found.key == "a"


class Bank:
    """An enterprise's catalogue, as far as this test needs one."""

    def register(self, registration: Registration) -> None:
        os.environ["NARF_TEST_TOLD"] = registration.key

    def resolve(self, kind: Registered, name: str) -> Registration | None:
        return None


def test_the_setting_names_a_class(tmp_path: Path) -> None:
    assert isinstance(open_catalogue("", tmp_path), FileCatalogue)
    assert type(open_catalogue(f"{__name__}:Bank", tmp_path)).__name__ == "Bank"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no.such.module:X", "No module named"),
        (f"{__name__}:Nobody", "Nobody"),
        ("pathlib:PurePath", "lacks register"),
        (":", "cannot be loaded"),
    ],
)
def test_a_catalogue_that_cannot_be_used_is_said_at_the_start(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        open_catalogue(name, tmp_path)
    assert refused.value.remedy
