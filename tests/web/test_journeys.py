"""What people do with the console, in a real browser against a real platform."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import context, problems
from playwright.sync_api import Browser, Page, expect
from served import Served, until
from tests import git_http

pytestmark = pytest.mark.browser
slow = pytest.mark.slow
P = "/p/default"
Submit = Callable[..., dict[str, Any]]
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def points(page: Page) -> int:
    return int(page.locator("figure[data-metric=loss]").get_attribute("data-points") or 0)


def test_the_first_visit_by_the_one_time_link_and_never_again(served: Served, browser: Browser) -> None:
    link = served.link()
    tab = context(browser, served.url)
    page = tab.new_page()
    page.goto(link)
    page.wait_for_url("**/home")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Hello")
    assert "code=" not in page.url
    other = context(browser, served.url)
    again = other.new_page()
    again.goto(link)
    expect(again.get_by_role("alert")).to_contain_text("used before")
    tab.close()
    other.close()


def test_a_run_started_in_the_browser_shows_its_curve_and_output_as_they_grow(page: Page, code: Path) -> None:
    page.goto(f"{P}/new")
    page.locator("input[type=file]").set_input_files(code)
    expect(page.get_by_role("combobox", name="Script").or_(page.get_by_label("Script")).first).to_have_value("train.py")
    page.get_by_label("Arguments").fill("--steps 400 --pause 0.02")
    page.get_by_label("Run", exact=True).fill("moving")
    page.get_by_role("button", name="Start").click()
    page.wait_for_url(re.compile(r"/workloads/wl-"))
    expect(page.get_by_role("log")).to_contain_text("step", timeout=60_000)
    page.get_by_role("link", name="Open run").click()
    page.wait_for_url(re.compile(r"/runs/"))
    expect(page.locator("figure[data-metric=loss]")).to_be_visible(timeout=60_000)
    first = until(lambda: points(page))
    until(lambda: points(page) > first)


@slow
@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_run_is_started_from_a_git_repository_and_says_from_which_commit(page: Page, served: Served, code: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(code, work)
    for command in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "-m", "one")):
        git_http.run_git(work, *command)
    git_http.run_git(work, "clone", "--quiet", "--bare", str(work), str(tmp_path / "code.git"))
    commit = git_http.run_git(work, "rev-parse", "HEAD")
    with git_http.served(tmp_path) as address:
        page.goto(f"{P}/new")
        page.get_by_text("Git repository").click()
        page.get_by_label("Address").fill(f"{address}/code.git")
        page.get_by_role("button", name="Fetch").click()
        expect(page.get_by_text(commit[:12])).to_be_visible()
    page.get_by_label("Arguments").fill("--steps 3")
    page.get_by_role("button", name="Start").click()
    page.wait_for_url(re.compile(r"/workloads/wl-"))
    expect(page.get_by_role("log")).to_contain_text("step 2", timeout=60_000)
    page.get_by_role("link", name="Open run").click()
    page.wait_for_url(re.compile(r"/runs/"))
    page.get_by_role("tab", name="Code").click()
    expect(page.get_by_text(commit)).to_be_visible()


@slow
def test_a_killed_server_comes_back_and_the_page_has_neither_gap_nor_duplicate(page: Page, served: Served, submit: Submit) -> None:
    made = submit("--steps", "300", "--pause", "0.03", name="survivor")
    page.goto(f"{P}/workloads/{made['id']}")
    expect(page.get_by_role("log")).to_contain_text("step", timeout=60_000)
    served.kill()
    expect(page.get_by_text("Reconnecting")).to_be_visible()
    served.start()
    expect(page.get_by_text("Reconnecting")).to_be_hidden(timeout=60_000)
    until(lambda: served.ask("GET", f"/workloads/{made['id']}")["state"] == "succeeded", 90)
    expect(page.get_by_text(re.compile(r"^300 lines"))).to_be_visible(timeout=30_000)
    expect(page.get_by_role("log")).to_contain_text("step 299")
    page.goto(f"{P}/runs/{made['run_id']}")
    until(lambda: points(page) == 300)


@slow
def test_the_best_run_is_found_by_filter_and_sort_and_compared(page: Page, served: Served, submit: Submit) -> None:
    made = [submit("--lr", lr, "--steps", "20", name=f"candidate-{lr}") for lr in ("0.01", "0.1", "0.5")]
    for each in made:
        until(lambda each=each: served.ask("GET", f"/workloads/{each['id']}")["state"] == "succeeded", 90)
    page.goto(f"{P}/runs?q=candidate&sort=loss")
    rows = page.get_by_role("table", name="Runs").locator("[data-row]")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("candidate-0.5")
    page.get_by_label("Filter Runs").fill("candidate params.lr<0.3")
    expect(rows).to_have_count(2)
    page.wait_for_url(re.compile("params.lr"))
    rows.first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Compare 2").click()
    page.wait_for_url(re.compile("/compare"))
    expect(page.locator("figure[data-metric=loss]")).to_be_visible()
    page.get_by_role("tab", name="Differences").click()
    expect(page.get_by_role("rowheader", name="lr")).to_be_visible()


@slow
def test_a_study_is_started_from_the_wizard_and_finds_a_best_trial(page: Page, code: Path) -> None:
    page.goto(f"{P}/tuning/new")
    page.locator("input[type=file]").set_input_files(code)
    page.get_by_label("Arguments that stay the same").fill("--steps 5")
    page.get_by_role("button", name="Find its parameters").click()
    row = page.locator("[data-parameter=lr]")
    expect(row).to_be_visible(timeout=60_000)
    low = page.get_by_label("Lower end of lr")
    low.fill("5")
    expect(row.get_by_role("alert")).to_contain_text("below")
    expect(page.get_by_role("button", name="Start the search")).to_be_disabled()
    low.fill("")
    expect(low).to_have_value("")
    expect(row.get_by_role("alert")).to_contain_text("both ends")
    low.fill("0.01")
    page.get_by_label("Search pause").uncheck() if page.get_by_label("Search pause").is_checked() else None
    expect(page.get_by_role("combobox", name="Metric")).to_have_value("loss")  # found in the script
    page.get_by_role("textbox", name="Trials").fill("4")
    expect(
        page.get_by_text(re.compile(r"narf tune train.py .*lr=0.01.* --metric loss --minimize --trials 4 .*-- --steps 5"))
    ).to_be_visible()
    page.get_by_role("button", name="Start the search").click()
    page.wait_for_url(re.compile(r"/tuning/st-"), timeout=30_000)
    expect(page.get_by_text("4 of 4 trials")).to_be_visible(timeout=120_000)
    expect(page.get_by_role("button", name="Register the best")).to_be_visible()


@slow
def test_a_script_that_reading_does_not_follow_is_started_from_the_wizard(page: Page, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import argparse, json, pathlib\nparser = argparse.ArgumentParser()\nparser.add_argument('--lr', type=float)\nparser.add_argument('--norm', action='store_true')\n"
        "parser.set_defaults(**json.loads(pathlib.Path(__file__).with_name('defaults.json').read_text()))\n"
        "arguments = parser.parse_args()\nimport narf\nnarf.log(loss=arguments.lr)\n"
    )
    (tmp_path / "defaults.json").write_text('{"lr": 0.25}')
    page.goto(f"{P}/tuning/new")
    page.locator("input[type=file]").set_input_files(tmp_path)
    page.get_by_role("button", name="Find its parameters").click()
    row = page.locator("[data-parameter=lr]")
    expect(row).to_be_visible(timeout=60_000)
    expect(row).not_to_contain_text("0.25")
    expect(page.locator("[data-parameter=norm]")).to_contain_text("true or false")
    page.get_by_role("button", name="Start it to see").click()
    expect(row).to_contain_text("0.25 by itself", timeout=60_000)
    expect(page.get_by_role("button", name="Start it to see")).to_have_count(0)
    expect(page.get_by_role("button", name="Start the search")).to_be_enabled()


@slow
def test_why_something_waits_is_said(page: Page, served: Served, submit: Submit) -> None:
    holder = submit("--steps", "5000", "--pause", "0.1", name="holder", resources={"gpu": 4, "cpu": 0.1})
    until(lambda: served.ask("GET", f"/workloads/{holder['id']}")["state"] == "running", 60)
    waiting = submit("--steps", "5", name="patient", resources={"gpu": 2, "cpu": 0.1}, priority=5)
    page.goto(f"{P}/workloads/{waiting['id']}")
    expect(page.locator("[data-state=queued] p").first).to_contain_text(re.compile("wait", re.IGNORECASE))
    expect(page.get_by_text("takes the place of").get_by_role("link", name=holder["id"])).to_be_visible()
    page.goto(f"{P}/workloads/{holder['id']}")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel it").click()
    expect(page.locator("[data-state=cancelled]")).to_be_visible(timeout=60_000)


@slow
def test_what_users_write_is_never_run(page: Page, served: Served, submit: Submit) -> None:
    made = submit("--steps", "1", name=HOSTILE)
    run = made["run_id"]
    served.ask("PATCH", f"/runs/{run}", json={"tags": {HOSTILE: HOSTILE, "mlflow.note.content": f"[x](javascript:alert(3)) {HOSTILE}"}})
    for name, content in (("x.svg", f'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(4)">{HOSTILE}</svg>'), ("x.html", HOSTILE)):
        served.ask("PUT", f"/runs/{run}/artifacts/{name}", content=content.encode())
    places = [
        f"{P}/workloads", f"{P}/workloads/{made['id']}", f"{P}/runs", f"{P}/runs/{run}?tab=overview",
        f"{P}/runs/{run}?tab=artifacts&path=x.svg", f"{P}/runs/{run}?tab=artifacts&path=x.html", f"{P}/runs?q={HOSTILE}", "/home", f"/p/{HOSTILE}",
    ]  # fmt: skip
    for place in places:
        page.goto(place)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.querySelectorAll('img[src=x], main script, main iframe').length") == 0
    page.goto(f"{P}/runs/{run}?tab=artifacts&path=x.svg")
    expect(page.get_by_role("log")).to_contain_text("onload")


def test_a_session_that_ended_comes_back_to_where_one_was(page: Page, served: Served) -> None:
    page.goto(f"{P}/workloads?q=resnet")
    expect(page.get_by_role("heading", name="Workloads")).to_be_visible()
    page.context.clear_cookies()
    page.keyboard.press("g")
    page.keyboard.press("r")
    page.wait_for_url(re.compile("/login"))
    expect(page.get_by_role("status")).to_contain_text("session has ended")
    back = re.search(r"next=([^&]+)", page.url)
    assert back is not None
    page.goto(f"{served.link()}&next={back[1]}")
    page.wait_for_url(re.compile(P))
    page.context.clear_cookies()
    page.goto(f"{served.link()}&next=//evil.example/")
    page.wait_for_url("**/home")


def test_a_wrong_password_is_said_in_the_apis_own_words(served: Served, browser: Browser) -> None:
    tab = context(browser, served.url)
    page = tab.new_page()
    page.goto("/home")
    page.wait_for_url(re.compile("/login"))
    page.get_by_label("User").fill("admin")
    page.locator("input[type=password]").fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("do not fit")
    tab.close()


def test_bad_input_is_said_beside_its_field(page: Page) -> None:
    page.goto("/admin/projects")
    name = page.get_by_label("Name", exact=True)
    name.fill("Not A Name!")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("cannot name a project")).to_be_visible()
    expect(name).to_have_attribute("aria-invalid", "true")


def test_a_quota_is_set_and_what_is_wrong_with_it_said_beside_its_field(page: Page, served: Served) -> None:
    page.goto(f"{P}/settings?tab=quota")
    quota, limit = (
        page.get_by_role("region", name="Quota of Project default").get_by_label(f"{noun} of GPUs") for noun in ("Quota", "Limit")
    )
    quota.fill("3")
    limit.fill("2")
    page.get_by_role("button", name="Save").first.click()
    expect(quota).to_have_attribute("aria-invalid", "true")
    limit.fill("4")
    page.get_by_role("button", name="Save").first.click()
    expect(page.get_by_text("The quota of default is set.")).to_be_visible()
    found = {each["queue"]: each for each in served.ask("GET", "/quotas")["items"]}["default"]
    assert (found["quota"], found["limit"]) == ({"gpu": 3}, {"gpu": 4})
    served.ask("DELETE", "/quotas/default")


def test_a_repository_that_cannot_be_fetched_is_said_beside_its_address(page: Page) -> None:
    page.goto(f"{P}/new")
    page.get_by_text("Git repository").click()
    address = page.get_by_label("Address")
    address.fill("file:///etc")
    page.get_by_role("button", name="Fetch").click()
    expect(page.get_by_text("is no address of a git repository")).to_be_visible()
    expect(address).to_have_attribute("aria-invalid", "true")


def test_a_note_is_written_and_shown_as_text(page: Page, served: Served) -> None:
    run = served.ask("POST", "/projects/default/runs", json={"name": "noted"})["id"]
    page.goto(f"{P}/runs/{run}?tab=overview")
    page.get_by_role("button", name="Write one").click()
    page.get_by_label("Note", exact=True).fill(HOSTILE)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text(HOSTILE)).to_be_visible()
    until(lambda: served.ask("GET", f"/runs/{run}")["tags"].get("mlflow.note.content") == HOSTILE)


def test_what_another_client_changes_shows_up_without_a_reload(page: Page, served: Served) -> None:
    page.goto(f"{P}/models")
    expect(page.get_by_text("No models yet")).to_be_visible()
    run = served.ask("POST", "/projects/default/runs", json={"name": "heard"})["id"]
    served.ask("PUT", f"/runs/{run}/artifacts/model.onnx", content=tiny_model(2.0))
    served.ask("POST", "/projects/default/models", json={"run": run, "name": "heard", "artifact": "model.onnx"})
    expect(page.get_by_role("link", name="heard")).to_be_visible()


def test_a_page_whose_api_fails_keeps_the_rest_alive(page: Page) -> None:
    page.route("**/api/v1/projects/default/runs*", lambda route: route.fulfill(status=500, json={"detail": "It broke.", "status": 500}))
    page.goto(f"{P}/runs")
    expect(page.get_by_role("alert")).to_contain_text("It broke.")
    page.get_by_role("link", name="Workloads").click()
    expect(page.get_by_role("heading", name="Workloads")).to_be_visible()


def test_an_address_that_leads_nowhere_helps(page: Page) -> None:
    page.goto(f"{P}/nothing/here")
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    page.goto(f"{P}/workloads/wl-nothing")
    expect(page.get_by_role("alert")).to_contain_text("There is no workload")


def test_the_link_that_mlflows_client_prints_leads_to_the_run(page: Page, served: Served) -> None:
    run = served.ask("POST", "/projects/default/runs", json={"name": "printed"})["id"]
    page.goto("about:blank")
    page.goto(f"{served.url}/#/experiments/0/runs/{run}")
    expect(page.get_by_role("heading", name="printed")).to_be_visible()
    assert page.url.endswith(f"/p/default/runs/{run}")


def test_the_keyboard_alone_reaches_everything(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.keyboard.press("Control+k")
    page.get_by_role("combobox", name="Search or jump to").fill("tun")
    expect(page.get_by_role("option").first).to_contain_text("Tuning")
    page.keyboard.press("Enter")
    page.wait_for_url("**/tuning")
    expect(page.get_by_role("heading", name="Tuning")).to_be_visible()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("g")
    page.keyboard.press("w")
    page.wait_for_url("**/workloads")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", "what has the focus is not seen to have it"


@pytest.fixture(scope="module")
def everything(served: Served, submit: Submit, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The address of every page and tab, on a platform that has something of each noun."""
    done = submit("--steps", "30", "--lr", "0.2", name="looked-at")
    failed = submit("--steps", "a", name="failed")
    runs = [done["run_id"], submit("--steps", "30", name="other")["run_id"]]
    run = runs[0]
    for name, content in (("table.csv", b"a,b\n1,2\n"), ("report.md", b"# Well"), ("model.onnx", tiny_model(2.0))):
        served.ask("PUT", f"/runs/{run}/artifacts/{name}", content=content)
    served.ask("POST", "/projects/default/models", json={"run": run, "name": "shown", "artifact": "model.onnx"})
    folder = tmp_path_factory.mktemp("table")
    for rows in ("1,x\n2,y\n", "1,x\n3,z\n"):
        (folder / "t.csv").write_text("number,word\n" + rows)
        command = [sys.executable, "-m", "narf.cli", "data", "add", "shown", str(folder)]
        subprocess.run(command, check=True, env=os.environ | {"NARF_HOME": str(served.home)}, capture_output=True, timeout=120)
    space = [
        {"name": "lr", "type": "float", "low": 0.01, "high": 0.5, "scale": "log"},
        {"name": "steps", "type": "int", "low": 3, "high": 9},
    ]
    study = {
        "script": "train.py",
        "snapshot": done_snapshot(served, done["id"]),
        "metric": "loss",
        "space": space,
        "only_space": True,
        "budget": {"trials": 4},
    }
    study_id = served.ask("POST", "/projects/default/studies", json=study)["id"]
    until(lambda: served.ask("GET", f"/studies/{study_id}")["state"] not in ("running", "pending", "queued"), 180)
    until(lambda: served.ask("GET", "/projects/default/models/shown/versions/1")["package"]["state"] == "ready", 120)
    served.ask("POST", "/projects/default/endpoints", json={"name": "shown", "model": "shown", "least": 0})
    until(lambda: all(served.ask("GET", f"/workloads/{each['id']}")["state"] in ("succeeded", "failed") for each in (done, failed)), 90)
    tabs = {
        f"{P}/runs/{run}": ("overview", "system", "code", "environment", "artifacts", "artifacts&path=table.csv", "artifacts&path=report.md", "output"),
        f"{P}/compare?runs={','.join(runs)}": ("differences", "parallel", "scatter"),
        f"{P}/tuning": ("board",), f"{P}/tuning/{study_id}": ("parallel", "slice", "settings"), f"{P}/endpoints/shown": ("try", "revisions", "drift"),
        f"{P}/data": ("sources",), f"{P}/data/shown": ("preview", "diff", "lineage", "about"),
        f"{P}/settings": ("invitations", "secrets", "quota", "tokens"),
    }  # fmt: skip
    nouns = (
        "",
        "/workloads",
        "/runs",
        "/runs?charts=1",
        "/runs?group=params.lr",
        "/tuning/new",
        "/models",
        "/models/shown",
        "/endpoints",
        "/new",
        "/compare",
        "/none",
    )
    places = [
        "/login",
        "/home",
        "/cluster",
        *(f"/admin/{section}" for section in ("users", "projects", "quotas", "audit")),
        *(P + noun for noun in nouns),
    ]
    places += [f"{P}/workloads/{each['id']}" for each in (done, failed)]
    for page, names in tabs.items():
        places += [page, *(f"{page}{'&' if '?' in page else '?'}tab={name}" for name in names)]
    return places


def done_snapshot(served: Served, workload: str) -> str:
    return str(served.ask("GET", f"/workloads/{workload}")["snapshot"])


@slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("scheme", "size"), [("light", (1440, 900)), ("dark", (1440, 900)), ("light", (1024, 700)), ("dark", (1024, 700))])
def test_every_page_can_be_used_by_everybody(
    served: Served, browser: Browser, everything: list[str], scheme: str, size: tuple[int, int]
) -> None:
    assert problems(served, browser, everything, scheme=scheme, size=size) == []


def tiny_model(scale: float) -> bytes:
    """A model that multiplies two numbers by `scale`."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 2]) for name in ("x", "y"))
    factor = helper.make_tensor("factor", TensorProto.FLOAT, [1], [scale])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "factor"], ["y"])], "tiny", [x], [y], [factor])
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString())


@slow
def test_a_model_is_deployed_tried_and_rolled_back(page: Page, served: Served) -> None:
    for version, scale in ((1, 2.0), (2, 3.0)):
        run = served.ask("POST", "/projects/default/runs", json={"name": f"tiny-{scale:g}"})["id"]
        served.ask("PUT", f"/runs/{run}/artifacts/model.onnx", content=tiny_model(scale))
        served.ask("POST", "/projects/default/models", json={"run": run, "name": "tiny", "artifact": "model.onnx"})
        state = lambda version=version: served.ask("GET", f"/projects/default/models/tiny/versions/{version}")["package"]  # noqa: E731
        package = until(lambda state=state: (found := state()) and found["state"] in ("ready", "failed") and found, 120)
        assert package["state"] == "ready", package
        page.goto(f"{P}/models/tiny/{version}")
        page.get_by_role("button", name="Deploy").click()
        page.get_by_role("dialog").get_by_role("button", name="Deploy").click()
        page.wait_for_url(re.compile("/endpoints/tiny"))
        active = re.compile(rf"tiny/{version}(?!.*%)")
        expect(page.locator("h1 + div")).to_contain_text(active, timeout=120_000)
    page.get_by_role("tab", name="Try it").click()
    page.get_by_label("Body of the request").fill('{"inputs": [[1.0, 10.0]]}')
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_label("Answer", exact=True)).to_contain_text("30", timeout=60_000)
    page.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.locator("h1 + div")).to_contain_text(re.compile(r"tiny/1(?!.*%)"), timeout=120_000)
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_label("Answer", exact=True)).to_contain_text("20", timeout=60_000)
    served.ask("DELETE", "/endpoints/tiny")
