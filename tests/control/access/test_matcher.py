"""The rule of a request is found by its path, and nothing else is let through."""

from __future__ import annotations

from narf.control.access.matcher import Matcher
from narf.control.access.rules import PUBLIC, SIGNED_IN, in_project, of
from narf.domain.access import Role

MATCHER = Matcher(
    {
        ("GET", "/api/v1/me"): SIGNED_IN,
        ("GET", "/api/v1/projects/{project}/runs"): in_project(Role.VIEWER),
        ("POST", "/api/v1/projects/{project}/runs"): in_project(Role.DEVELOPER),
        ("GET", "/api/v1/runs/{run}"): of("run", Role.VIEWER),
        ("GET", "/api/v1/runs/search"): SIGNED_IN,
        ("GET", "/api/v1/runs/{run}/artifacts/{path:path}"): of("run", Role.VIEWER),
        ("GET", "/assets/{path:path}"): PUBLIC,
    }
)


def test_parameters_are_found():
    match = MATCHER.find("GET", "/api/v1/projects/vision/runs")
    assert match
    assert match.rule == in_project(Role.VIEWER)
    assert match.parameters == {"project": "vision"}


def test_a_literal_goes_before_a_parameter():
    match = MATCHER.find("GET", "/api/v1/runs/search")
    assert match
    assert match.rule == SIGNED_IN


def test_the_rest_of_a_path_is_one_parameter():
    match = MATCHER.find("GET", "/api/v1/runs/r1/artifacts/model/weights.pt")
    assert match
    assert match.parameters == {"run": "r1", "path": "model/weights.pt"}


def test_another_method_has_no_rule():
    match = MATCHER.find("DELETE", "/api/v1/projects/vision/runs")
    assert match
    assert match.rule is None


def test_an_unknown_path_is_not_found():
    assert MATCHER.find("GET", "/api/v1/nothing") is None
    assert MATCHER.find("GET", "/api/v1/projects//runs") is None


def test_head_is_read_as_get():
    match = MATCHER.find("HEAD", "/api/v1/me")
    assert match
    assert match.rule == SIGNED_IN
