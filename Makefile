# Two commands matter: `make demo` and `make test`. Both set up everything they need.
.PHONY: help setup demo down test slow check format web screenshots bench lock
.DEFAULT_GOAL := help
VENV := .venv/bin

help:  ## what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup:  ## make .venv, with everything in it, and build the web console
	@scripts/setup.sh

demo: setup  ## the golden path on real data; leaves the platform running
	@$(VENV)/python scripts/demo.py

down:  ## stop what `make demo` left running
	@$(VENV)/narf down --all

check: setup  ## formatting, lint, types, import rule
	@$(VENV)/ruff format --check --quiet . && $(VENV)/ruff check --quiet .
	@$(VENV)/mypy --no-error-summary
	@$(VENV)/lint-imports --no-logo >.venv/.setup/imports.log 2>&1 || { cat .venv/.setup/imports.log; exit 1; }
	@if [ -x scripts/web.sh ]; then scripts/web.sh check; fi
	@echo "check: formatting, lint, types and imports are as they should be"

test: check  ## everything that CI runs
	@$(VENV)/python -m pytest -q -m "alone and not slow"
	@$(VENV)/python -m pytest -q -n 2 --dist loadfile -m "not slow and not alone"

slow: setup  ## the tests that take minutes: Ray clusters, a thousand forks, the fuzzing of the API
	@$(VENV)/python -m pytest -q -m slow

format:  ## put the code into its form
	@$(VENV)/ruff format . && $(VENV)/ruff check --fix .

web: setup  ## build the web console
	@scripts/web.sh build

screenshots: setup  ## pictures of every page, both themes, in screenshots/
	@scripts/web.sh screenshots

bench: setup  ## every benchmark, beside what one would use instead (long)
	@for file in benchmarks/*.py; do echo "== $$file"; $(VENV)/python $$file || exit 1; done

lock: setup  ## resolve the dependencies anew
	@PATH="$(CURDIR)/$(VENV):$$PATH" scripts/lock.sh --upgrade
