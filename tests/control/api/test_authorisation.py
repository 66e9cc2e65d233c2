"""Every route of the whole application has a rule, and the rule holds."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from narf.bootstrap import Platform
from narf.control.access.matcher import Matcher
from narf.control.access.rules import Rule, Scope
from narf.domain.access import Role


def paths_of(platform: Platform) -> list[tuple[str, str]]:
    """(method, path template) of all that the application itself answers, as its own document lists it."""
    document = platform.app.openapi()
    return [(method.upper(), path) for path, item in document["paths"].items() for method in item]


def rules_of(platform: Platform) -> dict[tuple[str, str], Rule]:
    """The rules by the paths of the document, which does not say that a parameter is the rest of a path."""
    return {(method, path.replace(":path}", "}")): rule for (method, path), rule in platform.app.state.rules.items()}


def test_every_route_has_a_rule(platform: Platform):
    missing = [route for route in paths_of(platform) if route not in rules_of(platform)]
    assert missing == []


def test_every_rule_has_a_route(platform: Platform):
    known = set(paths_of(platform))
    api = {route for route in rules_of(platform) if route[1].startswith("/api/v1/") and route[0] != "WEBSOCKET"}
    assert sorted(api - known) == []


def test_every_object_rule_has_a_resolver(platform: Platform):
    kinds = {rule.kind for rule in platform.app.state.rules.values() if rule.scope is Scope.OBJECT}
    for kind in kinds:
        rule_path = next(route for route, rule in platform.app.state.rules.items() if rule.kind == kind)
        assert kind in platform.app.state.resolvers, f"no resolver finds the project of a {kind} ({rule_path})"


def test_without_a_sign_in_nothing_but_the_public_answers(platform: Platform, nobody: TestClient):
    rules = rules_of(platform)
    for method, path in paths_of(platform):
        rule = rules[method, path]
        if rule.scope is Scope.PUBLIC:
            continue
        answer = nobody.request(method, fill(path))
        assert answer.status_code == 401, f"{method} {path} answered {answer.status_code} to nobody"


def test_a_viewer_of_one_project_reaches_no_other_and_changes_nothing(platform: Platform, admin: TestClient):
    from narf.domain.access import Principal

    boss = Principal(user="boss", is_admin=True)
    platform.access.create_user("boss", by="test", is_admin=True)
    platform.access.create_user("vera", by="test")
    for project in ("hers", "other"):
        platform.projects.create(project, by=boss)
    platform.projects.set_member("hers", "vera", Role.VIEWER, by=boss)
    _, token = platform.access.create_token("vera", name="t", by="vera")
    vera = TestClient(platform.app, headers={"Authorization": f"Bearer {token}"}, raise_server_exceptions=False)
    rules = rules_of(platform)
    for method, path in paths_of(platform):
        rule = rules[method, path]
        if rule.scope is Scope.PROJECT:
            assert vera.request(method, fill(path, project="other")).status_code == 404, f"{method} {path}"
            if rule.role is not Role.VIEWER:
                assert vera.request(method, fill(path, project="hers")).status_code == 403, f"{method} {path}"
        elif rule.scope is Scope.ADMIN:
            assert vera.request(method, fill(path)).status_code == 403, f"{method} {path}"
        elif rule.scope is Scope.OBJECT:
            assert vera.request(method, fill(path)).status_code == 404, f"{method} {path}"


def test_a_workloads_token_reaches_only_what_is_meant_for_it(platform: Platform):
    platform.access.create_user("wendy", by="test", is_admin=True)
    _, token = platform.access.create_token("wendy", name="workload", by="test", workload_id="wl-1", run_id="r1")
    program = TestClient(platform.app, headers={"Authorization": f"Bearer {token}"}, raise_server_exceptions=False)
    rules = rules_of(platform)
    for method, path in paths_of(platform):
        rule = rules[method, path]
        if rule.scope is not Scope.PUBLIC and not rule.workload_may:
            assert program.request(method, fill(path)).status_code == 403, f"{method} {path}"


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v2/me", "/api/v1/projects/default/nothing"])
def test_what_nobody_classified_is_refused(admin: TestClient, path: str):
    assert admin.get(path).status_code == 404


def test_a_cookie_without_its_csrf_token_changes_nothing(platform: Platform, admin: TestClient):
    browser = TestClient(platform.app, base_url="http://narf.test", raise_server_exceptions=False)
    code = admin.post("/api/v1/links").json()["code"]
    me = browser.post("/api/v1/session", json={"code": code}).json()
    assert browser.get("/api/v1/me").status_code == 200
    assert browser.post("/api/v1/tokens", json={"name": "t"}).status_code == 403
    assert browser.post("/api/v1/tokens", json={"name": "t"}, headers={"X-CSRF-Token": me["csrf"]}).status_code == 201
    stolen = {"X-CSRF-Token": me["csrf"], "Origin": "http://evil.test"}
    assert browser.post("/api/v1/tokens", json={"name": "t"}, headers=stolen).status_code == 403


def test_the_session_cookie_is_kept_from_scripts_and_other_sites(platform: Platform, admin: TestClient):
    browser = TestClient(platform.app, raise_server_exceptions=False)
    answer = browser.post("/api/v1/session", json={"code": admin.post("/api/v1/links").json()["code"]})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def fill(template: str, **values: str) -> str:
    parts = []
    for part in template.split("/"):
        if part.startswith("{"):
            name = part[1:-1].split(":")[0]
            part = values.get(name, "nothing")
        parts.append(part)
    return "/".join(parts)


def test_the_matcher_agrees_with_the_application_on_every_path(platform: Platform):
    matcher = Matcher(platform.app.state.rules)
    rules = rules_of(platform)
    for method, path in paths_of(platform):
        match = matcher.find(method, fill(path, project="p"))
        assert match is not None, path
        assert match.rule == rules[method, path], f"{method} {path}"
