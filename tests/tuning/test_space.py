"""Search spaces: their text and JSON forms, and what they refuse."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narf.domain.errors import BadInput
from narf.tuning.space import Kind, Parameter, Scale, Space, check_drawable, parameter_from_text, read_space, read_value

NAMES = st.sampled_from(["lr", "model.hidden", "optimizer", "batch_size", "x"])


@st.composite
def parameters(draw, name="x"):
    kind = draw(st.sampled_from(Kind))
    if kind is Kind.BOOL:
        return Parameter(name=name, kind=kind)
    if kind is Kind.CATEGORICAL:
        texts = st.text("abcxyz01-_. ", min_size=1, max_size=8).filter(
            lambda text: text == text.strip() and " if " not in text and ".." not in text
        )
        choice = st.one_of(st.integers(-9, 9), texts.filter(lambda text: text != "bool"), st.none())
        choices = draw(st.lists(choice, min_size=2, max_size=5, unique_by=lambda value: (type(value), value)))
        return Parameter(name=name, kind=kind, choices=tuple(choices))
    scale = draw(st.sampled_from(Scale))
    if scale is Scale.POWER_OF_TWO:
        low = draw(st.integers(0, 8))
        return Parameter(name=name, kind=Kind.INT, low=2**low, high=2 ** draw(st.integers(low + 1, 12)), scale=scale)
    least = 1 if scale is Scale.LOG else -1000
    numbers = st.integers(least, 1000) if kind is Kind.INT else st.floats(1e-6 if scale is Scale.LOG else -1e3, 1e3, allow_nan=False)
    low, high = sorted(draw(st.lists(numbers, min_size=2, max_size=2, unique=True)))
    return Parameter(name=name, kind=kind, low=low, high=high, scale=scale)


@given(parameters())
def test_a_parameter_survives_its_text_form(parameter):
    read = parameter_from_text(parameter.name, parameter.to_text())
    assert read == parameter


@given(parameters())
def test_a_parameter_survives_its_json_form(parameter):
    assert read_space([parameter.to_json()]) == Space((parameter,))


@pytest.mark.parametrize(
    ("text", "kind", "scale"),
    [
        ("1e-4..0.1 log", Kind.FLOAT, Scale.LOG),
        ("0.0001..0.1:log", Kind.FLOAT, Scale.LOG),
        ("16..256 pow2", Kind.INT, Scale.POWER_OF_TWO),
        ("1..5", Kind.INT, Scale.LINEAR),
        ("1..5 float", Kind.FLOAT, Scale.LINEAR),
        ("0..1 step 0.1", Kind.FLOAT, Scale.LINEAR),
        ("adam, sgd", Kind.CATEGORICAL, Scale.LINEAR),
        ("true,false", Kind.BOOL, Scale.LINEAR),
        ("bool", Kind.BOOL, Scale.LINEAR),
    ],
)
def test_the_short_form_is_what_a_person_would_write(text, kind, scale):
    parameter = parameter_from_text("x", text)
    assert (parameter.kind, parameter.scale) == (kind, scale)


def test_a_condition_makes_a_parameter_exist_only_where_it_holds():
    space = read_space({"momentum": "0..0.99 if optimizer=sgd", "optimizer": "adam, sgd"})
    assert space.names == ("optimizer", "momentum"), "what a condition names is proposed first"
    momentum = space.parameters[1]
    assert momentum.is_active({"optimizer": "sgd"})
    assert not momentum.is_active({"optimizer": "adam"})
    assert not momentum.is_active({})


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ([{"name": "x", "low": 0, "high": 1}, {"name": "x", "low": 0, "high": 2}], "Two parameters are named 'x'"),
        ({"x": {"low": 1, "high": 1}}, "empty range"),
        ({"x": ".."}, "must be numbers"),
        ({"x": "1.."}, "must be numbers"),
        ({"x": {"low": 2, "high": 1}}, "empty range"),
        ({"x": {"low": 0, "high": math.inf}}, "finite"),
        ({"x": {"low": 0, "high": "many"}}, "finite number"),
        ({"x": {"low": 0, "high": 1, "scale": "log"}}, "must begin above 0"),
        ({"x": {"low": 3, "high": 9, "scale": "pow2"}}, "powers of two"),
        ({"x": {"low": 0, "high": 1, "scale": "cubic"}}, "linear, log or pow2"),
        ({"x": {"type": "complex", "low": 0, "high": 1}}, "float, int, categorical or bool"),
        ({"x": {"low": 0.5, "high": 2, "type": "int"}}, "whole numbers"),
        ({"x": {"low": 0, "high": 1, "step": 5}}, "step"),
        ({"x": {"choices": ["a"]}}, "at least two"),
        ({"x": {"choices": ["a", "a"]}}, "twice"),
        ({"x": {"choices": [{}, "a"]}}, "neither"),
        ({"x": {"low": 0}}, "both ends"),
        ({"x": "0..1e400"}, "not a finite number"),
        ({"x": {"low": 0, "high": 1, "colour": 3}}, "colour"),
        ({"x": 5}, "neither text nor a table"),
        ({"": "1..2"}, "no name"),
        ([{"low": 1, "high": 2}], "no name"),
        ({"x": "1..2 cubic"}, "cubic"),
        ({"x": "a..b"}, "numbers"),
        ({"x": ""}, "no range"),
        ({"x": "1..2 if"}, "if"),
        ({"x": "1..2 if y=3"}, "'y'"),
        ({"y": "1..2", "x": "1..2 if y=3"}, "never has"),
        ({"y": "1..2 if x=1", "x": "1..2 if y=1"}, "not a parameter before it"),
        ("x", "a list or a table"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused_with_a_sentence(form, says):
    with pytest.raises(BadInput, match=says) as refused:
        read_space(form)
    assert str(refused.value).endswith(".")
    assert refused.value.field.startswith("space")


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("-1e308..1e308", "an end beyond 1e300"),
        ("1..1" + "0" * 400, "an end beyond 1e300"),
        ("1..1" + "0" * 20, "no longer exact"),
        ("0..1 step 1e-300", "lost in its range"),
    ],
)
def test_a_range_that_cannot_be_drawn_from_begins_no_study_and_is_read_from_the_record(form, says):
    space = read_space({"x": form})
    assert read_space(space.to_json()) == space
    with pytest.raises(BadInput, match=says):
        check_drawable(space)


def test_initial_points_must_lie_in_the_space():
    space = read_space({"x": "0..1 step 0.25", "n": "2..16 pow2", "o": "a, b"})
    assert space.check({"x": 0.5, "n": 8}) == {"x": 0.5, "n": 8}
    for wrong in ({"x": 0.3}, {"n": 6}, {"o": "c"}, {"z": 1}, {"x": float("nan")}, {"x": True}):
        with pytest.raises(BadInput):
            space.check(wrong)


def test_values_are_read_as_a_person_means_them():
    assert [read_value(text) for text in ("3", "0.5", "1e-3", "true", "none", "adam", "'3'")] == [3, 0.5, 1e-3, True, None, "adam", "3"]


def test_a_grid_is_counted_where_it_is_finite():
    assert read_space({"n": "2..16 pow2", "o": "a,b,c", "b": "bool", "x": "0..1 step 0.5"}).size == 4 * 3 * 2 * 3
    assert read_space({"x": "0.0..1.0"}).size is None
