# What a person can ask for. `make` alone prints this list.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PY := .venv/bin/python
export PYTHONPATH := .

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/ready: requirements/dev.txt app/sdk/pyproject.toml $(wildcard app/sdk/*.py)
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	rm -rf build/sdk && .venv/bin/python -m build --wheel --no-isolation --outdir build/sdk app/sdk >/dev/null
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall build/sdk/*.whl
	touch .venv/ready

system-runtime:
	@bash .ci/system runtime

system-tests:
	@bash .ci/system tests

install: system-runtime .venv/ready ## install system libraries and the locked Python environment

demo: install ## run the main job on real input, print its evidence, keep the pages open (FRESH=1: anew)
	$(PY) -m app.cli.entry demo $(if $(FRESH),--fresh)

serve: install ## serve the pages and the API (web and worker together)
	$(PY) -m app.cli.entry serve

worker: install ## run a worker alone
	$(PY) -m app.cli.entry worker

migrate: install ## bring both databases to the newest schema
	$(PY) -m app.cli.entry db upgrade

policies: install ## check the policy pack and its released notices
	$(PY) -m app.cli.entry policy check

check: .venv/ready ## ruff, mypy, import contracts, locks, policies
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PY) -m app.cli.entry policy check
	@! grep -n '://' requirements/*.txt || (echo 'a lock file names an address' >&2; exit 1)

test: install system-tests check ## everything: checks, both databases, browser, journeys
	$(PY) -m pytest -n 3 --dist loadgroup

test-fast: .venv/ready ## the quick tests alone
	$(PY) -m pytest -n 2 -m 'not browser and not slow'

prove: install system-tests ## the long proofs: 200 histories killed on each database, every fault at every point
	REGARD_TEST_PROVE=1 $(PY) -m pytest -n 3 --dist loadgroup tests/mechanism tests/contract

bench: install ## benchmarks, each as a ratio to a floor measured in the same run
	$(PY) -m bench

lock: ## write the hashed lock files anew (needs uv)
	cd requirements && for name in runtime dev; do \
	  uv pip compile --universal --generate-hashes --no-annotate --no-header --python-version 3.11 $$name.in -o $$name.txt; done

clean: ## remove what make has made (not the data in var/)
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help install system-runtime system-tests demo serve worker migrate policies check test test-fast prove bench lock clean
