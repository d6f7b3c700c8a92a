# Needs python3 (3.11 to 3.13) and make; everything else is set up here.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test soak check docs lab bench clean
.DEFAULT_GOAL := demo

$(VENV)/.uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.13,<0.14'
	touch $@

$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/.uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.lock
	touch $@

# The whole path on a recorded incident: no cluster and no network beyond installation.
demo: $(VENV)/.runtime
	$(BIN)/python -m examples.demo

# Two processes, each with a control plane of its own: much of the time goes to waiting for a cluster. A module stays in one process.
# Tests start many processes, each of which would compile everything again where bytecode is not to be kept.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

# Kill storms and large sweeps, too long for every commit.
soak: $(VENV)/.dev
	$(BIN)/python -m pytest -m soak

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.suite_names

# What is written from the code: pages' front matter, docs/failures.md and docs/mcp-tools.md.
docs: $(VENV)/.dev
	$(BIN)/python -m tests.runbooks.page_index
	$(BIN)/python -m tests.runbooks.failures_page
	$(BIN)/python -m tests.mcp_server.tools_page

# A disposable real control plane with a scenario loaded; Ctrl-C stops it.
lab: $(VENV)/.dev
	$(BIN)/python -m tests.lab up --scenario $(or $(SCENARIO),rollout-bad-image)

# A scan of 10,000 pods, an inventory of 10,000 GPUs; with CASES=folder also the recorded cases.
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.scan --pods 10000 --broken 25 --runs 5
	$(BIN)/python -m benchmarks.gpu
	$(BIN)/python -m benchmarks.sweep
	$(BIN)/python -m benchmarks.fleet_night
	$(if $(shell command -v npm),$(BIN)/python -m benchmarks.mcp --pods 1000 --load 60)
	$(BIN)/python -m benchmarks.dra
	$(if $(CASES),$(BIN)/python -m benchmarks.diagnosis $(CASES) -o $(or $(OUT),predictions.jsonl) --repeat-check)

clean:
	rm -rf $(VENV)
