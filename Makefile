# Everything a machine needs is installed from here: Debian packages, a virtual environment, the stand's binaries.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: setup packages built tools demo test lint unit component stand-tests checks lock bench-stand bench-load bench-statistics bench-demo crash-matrix

setup: packages $(READY)

packages:
	@sh hotfire/stand/embedded/packages.sh

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "virtual environment: installing the hash-locked requirements"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

built: setup
	@$(BIN)/hotfire stand build

tools: built
	@$(BIN)/python -m tests.helm

demo: setup
	@$(BIN)/hotfire demo $(if $(KEEP),--keep)

test: setup lint tools
	@$(BIN)/python -m pytest tests

lint: $(READY)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m hotfire.check --check
	@$(BIN)/python -m hotfire.scenario --check

unit component: tools
	@$(BIN)/python -m pytest tests/$@

stand-tests: tools
	@$(BIN)/python -m pytest tests/stand

checks: $(READY)
	@$(BIN)/python -m hotfire.check
	@$(BIN)/python -m hotfire.scenario

bench-stand bench-load bench-statistics bench-demo: built
	@$(BIN)/python bench/$(@:bench-%=%).py $(ARGS)

crash-matrix: built
	@$(BIN)/python bench/crash_matrix.py $(ARGS)

lock:
	uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --extra dev pyproject.toml -o requirements.lock
	@$(BIN)/python -m hotfire.stand.own
