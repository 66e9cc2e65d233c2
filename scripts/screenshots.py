"""Pictures of every page of a running platform, both themes, into screenshots/: `make screenshots`.

Takes the address and token of `narf up` from its home (NARF_HOME). Pages that need an object (a run, a study, ...) show the newest.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from web.browser import context, launched, violations


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(os.environ.get("NARF_HOME") or Path.home() / ".narf"))
    parser.add_argument("--project", default="default")
    parser.add_argument("--out", type=Path, default=Path("screenshots"))
    parser.add_argument("--only", default="", help="a part of the page's name")
    parser.add_argument("--size", default="1440x900,1024x700")
    parser.add_argument("--themes", default="light,dark")
    parser.add_argument("--axe", action="store_true", help="also check accessibility; exit 1 on a violation")
    given = parser.parse_args()
    server = json.loads((given.home / "run/server.json").read_text())
    api = httpx.Client(base_url=server["url"], headers={"Authorization": f"Bearer {server['token']}"})
    given.out.mkdir(parents=True, exist_ok=True)
    wrong = 0
    places = {name: path for name, path in addresses(api, given.project).items() if given.only in name}
    with launched() as browser:
        for size in given.size.split(","):
            width, height = map(int, size.split("x"))
            for scheme in given.themes.split(","):
                tab = context(browser, server["url"], scheme=scheme, width=width, height=height)
                page = tab.new_page()
                page.on("console", lambda message: print("  console:", message.text) if message.type == "error" else None)
                page.on("pageerror", lambda error: print("  error:", error))
                code = api.post("/api/v1/links").json()["code"]
                page.goto(f"/login?code={code}")
                page.wait_for_url("**/home")
                for name, path in places.items():
                    page.goto(path)
                    page.wait_for_load_state("networkidle")
                    page.wait_for_timeout(400)
                    page.screenshot(path=given.out / f"{name}-{scheme}-{width}.png")
                    if given.axe:
                        for each in violations(page):
                            wrong += 1
                            print(f"{name} {scheme} {width}: {each}")
                    too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                    if too_wide > 0:
                        wrong += 1
                        print(f"{name} {scheme} {width}: the page is {too_wide} px too wide")
                tab.close()
    print(f"{len(places)} pages in {given.out}/" + (f", {wrong} problems" if wrong else ""))
    return 1 if wrong else 0


def addresses(api: httpx.Client, project: str) -> dict[str, str]:
    """The pages, by name. Those of one object only where there is such an object."""
    base, places = f"/p/{project}", {"home": "/home", "dashboard": f"/p/{project}"}

    def newest(name: str, path: str, address: str, key: str = "id") -> None:
        answer = api.get(path, params={"limit": 1})
        items = answer.json().get("items", []) if answer.status_code == 200 else []
        if items:
            places[name] = f"{base}/{address}/{items[0][key]}"

    for name in PAGES:
        places[name.replace("/", "-")] = f"{base}/{name}"
    newest("workload", f"/api/v1/projects/{project}/workloads", "workloads")
    newest("run", f"/api/v1/projects/{project}/runs", "runs")
    newest("study", f"/api/v1/projects/{project}/studies", "tuning")
    newest("model", f"/api/v1/projects/{project}/models", "models", "name")
    newest("endpoint", f"/api/v1/projects/{project}/endpoints", "endpoints", "name")
    newest("dataset", f"/api/v1/projects/{project}/datasets", "data", "name")
    places |= {
        "admin-users": "/admin/users",
        "admin-projects": "/admin/projects",
        "admin-audit": "/admin/audit",
        "not-found": "/p/default/nothing/here",
    }
    return places


PAGES = ["workloads", "runs", "compare", "tuning", "tuning/new", "models", "endpoints", "data", "new", "settings"]

sys.exit(main())
