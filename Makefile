# Qorgan: `make demo` shows it, `make test` proves it. Everything else is here too: `make help`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
CONSOLE := api/console/vendor/.ready
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup console demo test check advisories sbom format bench lock clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) console ## Make .venv with every dependency, pinned by hash, and the console's assets

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Qorgan needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up $(VENV) (about a minute, once) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

console: $(STAMP)
	@$(BIN)/python -m infra.console_assets

demo: setup ## Run the main job on embedded stores: a breach and a panic, live, until Ctrl-C
	@exec $(BIN)/qorgan demo

test: setup check ## Check the code and run every test on real stores
	@$(BIN)/pytest -q -n $(WORKERS) --dist loadgroup

check: setup ## What CI looks at before the tests: style, types, import directions
	@$(BIN)/ruff format --check --quiet . || { echo "Not formatted: run make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > $(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }
	@$(BIN)/python -m infra.advisories

advisories: setup ## Look up known weaknesses of the pinned dependencies, where a network is
	@$(BIN)/python -m infra.advisories

sbom: setup ## Write the software bill of materials (CycloneDX) of what is pinned
	@mkdir -p dist
	@PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --of JSON --output-reproducible -o dist/sbom.json
	@echo "dist/sbom.json"

format: setup ## Format the code and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## Measure everything beside a bare baseline (minutes); writes bench.json
	@exec $(BIN)/qorgan bench all --json bench.json

lock: ## Pin every dependency anew, with hashes and without registry addresses (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--no-emit-index-url --extra dev pyproject.toml -o requirements.lock

clean: ## Remove what was made here, the demo's data too
	@rm -rf $(VENV) .qorgan .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
		build dist *.egg-info api/console/vendor api/console/node_modules bench.json
