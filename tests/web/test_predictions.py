"""From an answer in the console to where it came from, on a wide and on a narrow screen."""

from __future__ import annotations

import re

import pytest
from browser import problems
from playwright.sync_api import Browser, Page, Route, expect
from served import Served, until
from test_journeys import P, tiny_model

pytestmark = [pytest.mark.browser, pytest.mark.slow]
NAME = "looked-into"


@pytest.fixture(scope="module")
def endpoint(served: Served) -> str:
    """An endpoint that keeps what it is asked. Its address on the page."""
    run = served.ask("POST", "/projects/default/runs", json={"name": NAME})["id"]
    served.ask("PUT", f"/runs/{run}/artifacts/model.onnx", content=tiny_model(2.0))
    served.ask("POST", "/projects/default/models", json={"run": run, "name": NAME, "artifact": "model.onnx"})
    until(lambda: served.ask("GET", f"/projects/default/models/{NAME}/versions/1")["package"]["state"] == "ready", 120)
    keep = {"percent": 100, "errors": True, "days": 2}
    served.ask("POST", "/projects/default/endpoints", json={"name": NAME, "model": f"{NAME}/1", "least": 1, "keep": keep})
    return f"{P}/endpoints/{NAME}"


def test_from_an_answer_to_its_model_run_and_what_was_asked(page: Page, served: Served, endpoint: str) -> None:
    page.goto(f"{endpoint}?tab=predictions")
    expect(page.get_by_role("heading", name="No prediction is recorded")).to_be_visible()
    page.get_by_role("tab", name="Try it").click()
    page.get_by_label("Body of the request").fill('{"inputs": [[1.0, 10.0]]}')
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_label("Answer", exact=True)).to_contain_text("20", timeout=60_000)
    page.get_by_role("button", name="Where it came from").click()
    page.wait_for_url(re.compile("prediction=pred-"))
    expect(page.get_by_role("link", name=f"{NAME}/1", exact=True)).to_be_visible(timeout=30_000)
    expect(page.get_by_role("link", name=NAME, exact=True).first).to_be_visible()
    page.get_by_role("button", name="Show it").click()
    expect(page.get_by_label("Request", exact=True)).to_contain_text("[1.0, 10.0]".replace(".0", ""))
    expect(page.get_by_label("Answer, status 200")).to_contain_text("20")
    assert any(entry["action"] == "read_payload" for entry in served.ask("GET", "/audit")["items"])
    page.get_by_label("Find a prediction by its id").fill("pred-nothing")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("There is no prediction", timeout=20_000)


def test_an_example_that_comes_late_changes_nothing_under_the_hand_and_is_asked_for_once(page: Page, endpoint: str) -> None:
    held: list[Route] = []
    page.route("**/schema", lambda route: held.append(route))
    with page.expect_request("**/schema"):
        page.goto(f"{endpoint}?tab=try")
    body = page.get_by_label("Body of the request")
    body.focus()
    held[0].continue_()
    expect(page.get_by_text("The example comes from the model's own signature.")).to_be_visible()
    expect(body).to_have_value('{"inputs": [[0]]}')
    body.fill('{"inputs": [[1.0, 10.0]]}')
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_label("Answer", exact=True)).to_contain_text("20", timeout=60_000)
    page.get_by_role("tab", name="Traffic").click()  # shown anew with the events of that request
    expect(page.get_by_role("img", name=re.compile("^Requests a minute"))).to_be_visible()
    assert len(held) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_an_endpoints_page_can_be_used_on_any_screen(
    served: Served, browser: Browser, endpoint: str, scheme: str, size: tuple[int, int]
) -> None:
    places = [f"{endpoint}?tab={tab}" for tab in ("traffic", "try", "predictions", "revisions", "drift")]
    assert problems(served, browser, places, scheme=scheme, size=size) == []
