"""The console in headless Chromium: how soon it is there, how soon it answers, what a tab costs; its compare chart beside MLflow's.

    python benchmarks/console.py [--runs 5000] [--curves 10] [--points 100000] [--no-mlflow]

Goals, warm, on 2 cores: first contentful paint under 0.8 s, interactive under 1.5 s, under 400 kB compressed at first, a change of page
under 100 ms, filtering 5,000 runs under 100 ms, 20 open tabs under 20 MB of the server's memory; a finished chart of 10 runs of 100,000
points at least 5 times sooner than in MLflow's own interface over the same store. The server lives as long as this program.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/web"))
from browser import context, launched
from playwright.sync_api import Browser, BrowserContext, Page
from served import Served

from narf.tracking.points import record_bytes

TIMES = 5
P = "/p/default"


def timed(page: Page, act: str, done: str) -> float:
    """Milliseconds in the page from `act` (a statement) until `done` (an expression) holds and has been painted."""
    return float(
        page.evaluate(
            f"""() => new Promise((resolve) => {{
              const begin = performance.now();
              {act};
              const look = () => ({done})
                ? requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - begin)))
                : requestAnimationFrame(look);
              look();
            }})"""
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5_000)
    parser.add_argument("--curves", type=int, default=10)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--no-mlflow", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        served = Served(Path(folder))
        served.start()
        try:
            curves = fill(served, given.runs, given.curves, given.points)
            with launched() as browser:
                measure(served, browser, given.runs)
                compare(served, browser, curves, given.points, with_mlflow=not given.no_mlflow)
        finally:
            served.stop()


def fill(served: Served, count: int, curves: int, points: int) -> list[str]:
    """Runs with parameters, the last `curves` of them with a curve each. Their ids."""
    begin = time.perf_counter()
    with httpx.Client(base_url=served.url + "/api/v1", headers={"Authorization": f"Bearer {served.known['token']}"}, timeout=120) as http:

        def one(number: int) -> str:
            params = {"lr": str(10 ** -(1 + number % 5)), "layers": str(number % 7), "optimizer": ("sgd", "adam", "lion")[number % 3]}
            made = http.post("/projects/default/runs", json={"name": f"run-{number:05d}", "params": params})
            return str(made.raise_for_status().json()["id"])

        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(one, range(count)))
        steps = np.arange(points)
        for number, run in enumerate(made[-curves:]):
            path = f"/runs/{run}/spools/{number:016x}"
            http.post(
                f"{path}/events", params={"offset": 0}, content=b'{"type": "key", "time": 0, "id": 0, "name": "loss"}\n'
            ).raise_for_status()
            values = np.exp(-steps / points * 4) + np.random.default_rng(number).normal(size=points) * 0.03
            body = record_bytes(np.zeros(points, int), steps, 1.7e9 + steps * 0.01, values)
            offset = 0
            while offset < len(body):
                offset = (
                    http.post(f"{path}/points", params={"offset": offset}, content=body[offset : offset + (1 << 20)])
                    .raise_for_status()
                    .json()["offset"]
                )
    print(f"{count} runs, {curves} of them with {points:,} points, in {time.perf_counter() - begin:.0f} s")
    return made[-curves:]


def signed_in(served: Served, browser: Browser) -> tuple[BrowserContext, Page]:
    tab = context(browser, served.url)
    page = tab.new_page()
    page.goto(served.link())
    page.wait_for_url("**/home")
    return tab, page


def measure(served: Served, browser: Browser, count: int) -> None:
    tab, page = signed_in(served, browser)
    page.wait_for_load_state("networkidle")
    cold = browser.new_context(base_url=served.url, storage_state=tab.storage_state(), viewport={"width": 1440, "height": 900})
    first = cold.new_page()
    devtools = cold.new_cdp_session(first)
    devtools.send("Network.enable")
    received: list[float] = []
    devtools.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    first.goto("/home")
    first.wait_for_load_state("networkidle")
    report("initial transfer, cold", sum(received) / 1000, "kB", 400)
    cold.close()

    paints, ready = [], []
    for _ in range(TIMES):
        page.goto("/home")
        page.get_by_role("heading", level=1).wait_for()
        ready.append(page.evaluate("performance.now()"))
        paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    report("first contentful paint, warm", statistics.median(paints), "ms", 800)
    report("interactive (the page's own heading and links), warm", statistics.median(ready), "ms", 1500)

    page.goto(f"{P}/workloads")
    page.get_by_role("heading", name="Workloads", exact=True).wait_for()
    page.wait_for_load_state("networkidle")
    go = "document.querySelector('nav a[href=\"/p/default/%s\"]').click()"
    there = "document.querySelector('h1')?.textContent === '%s'"
    changes = []
    for noun, name in [("models", "Models"), ("workloads", "Workloads"), ("tuning", "Tuning")] * 3:
        changes.append(timed(page, go % noun, there % name))
    report("change of page, seen before (median of the last six)", statistics.median(changes[3:]), "ms", 100)
    report("change of page, its bundle not loaded yet", max(changes[0], changes[2]), "ms", None)

    page.goto(f"{P}/runs")
    begin = time.perf_counter()
    page.get_by_text(f"{count:,} runs", exact=True).wait_for(timeout=120_000)
    report(f"{count:,} runs in the table, from the click", (time.perf_counter() - begin) * 1000, "ms", None)
    type_in = "{const e = document.querySelector('input[aria-label=\"Filter Runs\"]'); Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(e, '%s'); e.dispatchEvent(new Event('input', {bubbles: true}))}"
    shown = "/^%s of /.test([...document.querySelectorAll('[role=status]')].map(e => e.textContent).join('|'))"
    filters = []
    for text in ("run-0001", "run-0002", "run-0003", "run-0004", "run-0000"):
        filters.append(timed(page, type_in % text, shown % "10"))
        timed(page, type_in % "params.optimizer:adam params.layers>3", shown % r"[\d,]{3,}")
        page.wait_for_timeout(400)
    report(f"filtering {count:,} runs", statistics.median(filters), "ms", 100)

    process = psutil.Process(int(served.known["pid"]))
    before = process.memory_info().rss
    pages = []
    for _ in range(20):
        pages.append(tab.new_page())
        pages[-1].goto(f"{P}/workloads")
    for each in pages:
        each.get_by_role("heading", name="Workloads", exact=True).wait_for()
    time.sleep(3)
    report("the server's memory for 20 tabs", (process.memory_info().rss - before) / 1e6, "MB", 20)
    tab.close()


def compare(served: Served, browser: Browser, curves: list[str], points: int, *, with_mlflow: bool) -> None:
    tab, page = signed_in(served, browser)

    def ours() -> None:
        page.goto(f"{P}/compare?runs={','.join(curves)}")
        page.locator("figure[data-metric=loss] canvas").wait_for(timeout=120_000)
        page.wait_for_function("Number(document.querySelector('figure[data-metric=loss]').dataset.points) > 0", timeout=120_000)
        lines = page.locator("figure[data-metric=loss] [role=img]").get_attribute("aria-label") or ""
        assert f"{len(curves)} lines" in lines, lines

    narf = median(ours)
    report(f"a finished chart of {len(curves)} runs of {points:,} points", narf, "ms", None)
    if not with_mlflow:
        return
    experiment = served.ask("GET", "/projects/default/experiments")["items"][0]["id"]
    query = f"runs={quote(json.dumps(curves))}&metric={quote(json.dumps('loss'))}&experiments={quote(json.dumps([experiment]))}"
    query += f"&plot_metric_keys={quote(json.dumps(['loss']))}&workspace=default"

    def theirs() -> None:
        page.goto("about:blank")
        page.goto(f"{served.url}/mlflow/#/metric?{query}")
        page.wait_for_function(f"document.querySelectorAll('.scatterlayer .trace').length >= {len(curves)}", timeout=120_000)

    mlflow = median(theirs, times=3)
    report("the same chart in MLflow's own interface", mlflow, "ms", None)
    print(f"{'ratio':<62}{mlflow / narf:>10.1f}x   goal 5x")
    tab.close()


def median(action: Callable[[], Any], times: int = TIMES) -> float:
    """Milliseconds, the first time left out: both come warm."""
    taken = []
    for _ in range(times + 1):
        begin = time.perf_counter()
        action()
        taken.append((time.perf_counter() - begin) * 1000)
    return statistics.median(taken[1:])


def report(what: str, value: float, unit: str, goal: float | None) -> None:
    print(f"{what:<62}{value:>10.1f} {unit}" + (f"   goal {goal} {unit}{'' if value <= goal else '  MISSED'}" if goal else ""), flush=True)


if __name__ == "__main__":
    main()
