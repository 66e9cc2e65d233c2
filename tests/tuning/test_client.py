"""What `narf.tune` and narf.toml make of their words, without a platform."""

from __future__ import annotations

import pytest

from narf.client.tune_settings import FIELDS, SETTINGS, check_words, over, read_settings, study_body
from narf.client.tuning import _listed, rest_between_looks, space_form
from narf.domain.errors import BadInput


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[tune]\ntrials = "many"', "it is a whole number"),
        ("[tune]\nspeed = 3", "unknown settings under [tune]: speed"),
        ('[tune]\nspace = "lr"', "it is a table"),
        ('[tune]\nskip = "lr"', "it is a list"),
        ("[tune]\nonly = 1", "it is true or false"),
        ("[tune]\nmetric = 3", "it is a text"),
        ("[tune]\ntime = []", '"90m"'),
        ("tune = 3", "where a table is meant"),
        ("[tune", "cannot be read"),
    ],
)
def test_what_is_wrong_in_narf_toml_is_said(tmp_path, text, says):
    (tmp_path / "narf.toml").write_text(text + "\n")
    with pytest.raises(BadInput) as refused:
        read_settings(tmp_path)
    assert says in refused.value.sentence and refused.value.remedy


def test_what_is_asked_outweighs_narf_toml_range_by_range(tmp_path):
    (tmp_path / "narf.toml").write_text('[tune]\ntrials = 5\ntime = "2h"\nmemory = "1Gi"\n[tune.space]\nlr = "1..2"\nhidden = "3..4"\n')
    settings = over(read_settings(tmp_path), {"trials": 9, "space": {"lr": "5..6"}})
    body = study_body(settings, tmp_path)
    assert body["budget"] == {"trials": 9, "seconds": 7200.0}
    assert body["space"] == {"lr": "5..6", "hidden": "3..4"} and body["only_space"] is False
    assert body["resources"] == {"memory_bytes": 1 << 30}


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ((1e-4, 0.1, "log"), "0.0001..0.1 log"),
        ((1, 5), "1..5"),
        (("adam", "sgd"), ["adam", "sgd"]),
        ([1, 2, 4], [1, 2, 4]),
        ([True, False, None], [True, False, None]),
        ("1..5", "1..5"),
        ({"low": 1, "high": 2}, {"low": 1, "high": 2}),
    ],
)
def test_ranges_are_written_as_python_has_them(value, form):
    assert space_form(value, "x") == form


@pytest.mark.parametrize(
    ("given", "meant"), [("lr", ["lr"]), ({"lr": 0.1}, [{"lr": 0.1}]), (("a", "b"), ["a", "b"]), (["a"], ["a"]), ({"a"}, ["a"]), (3, 3)]
)
def test_one_text_or_table_is_a_list_of_one(given, meant):
    assert _listed(given) == meant


def test_numbers_of_numpy_are_numbers():
    numpy = pytest.importorskip("numpy")
    assert space_form([numpy.float32(0.5), numpy.int64(3)], "x") == [0.5, 3]
    assert space_form((numpy.int64(1), numpy.int64(3)), "x") == "1..3"


@pytest.mark.parametrize("value", [3, object(), None, [object()], [[1], [2]]])
def test_what_makes_no_range_is_refused(value):
    with pytest.raises(BadInput) as refused:
        space_form(value, "lr")
    assert "'lr'" in refused.value.sentence and refused.value.remedy


def test_every_field_of_a_study_has_a_word_and_others_are_refused():
    from narf.wire.studies import StudyIn

    elsewhere = {"script", "snapshot"}  # the first argument of narf.tune, and the folder that it sends
    check_words(set(StudyIn.model_fields) - elsewhere)
    assert set(FIELDS) <= set(StudyIn.model_fields) and not set(FIELDS) & set(SETTINGS)
    with pytest.raises(BadInput) as refused:
        check_words(["trails"])
    assert refused.value.sentence == "A study has no 'trails'." and refused.value.remedy == "Did you mean 'trials'?"


def test_looks_at_a_study_come_closer_together_as_its_end_comes_nearer() -> None:
    assert rest_between_looks(0.0, 0, 16) == 0.1
    assert rest_between_looks(1.0, 5, 15) == 1.0  # two seconds are left: half of that
    assert rest_between_looks(1.0, 12, 15) == pytest.approx(0.125)
    assert rest_between_looks(600.0, 999, 1000) == pytest.approx(0.3003, abs=1e-3)
    assert rest_between_looks(1.2, 7, None) == pytest.approx(0.3)  # how long it goes on is not known
    assert rest_between_looks(3600.0, 0, None) == 1.0
    assert rest_between_looks(3.0, 15, 15) == 0.1
