# Two commands for a newcomer: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready
# Drawn performers by default; footage: make demo ARGS="--target T.mp4 --source S.mp4 --out runs/mine"
ARGS ?=

.PHONY: demo serve test test-cluster lint bench clean

demo: $(RUNS)
	$(BIN)/dancedist demo $(ARGS)

# The render service on this machine alone: http://127.0.0.1:8000, settings in docs/http.md.
serve: $(RUNS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[serve]"
	$(BIN)/serve run serving.app:app

test: $(READY) lint
	$(BIN)/python -m pytest -m "not slow and not cluster" --durations=15

test-cluster: $(READY)
	$(BIN)/python -m pytest -m "slow or cluster" --durations=15

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

# Weights are fetched here, once: everything after it works offline.
$(RUNS): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	$(BIN)/dancedist weights --fetch quick
	touch $@

# Tests need Ray, an S3 server and more, which a demo does not wait for.
$(READY): $(RUNS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) runs
