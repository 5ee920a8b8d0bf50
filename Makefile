# Two commands for a newcomer: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready
SERVES := $(VENV)/.serves
SBOM := $(VENV)/sbom
ARGS ?=
# Ray and the service are many processes, and each would compile all of this repository anew.
unexport PYTHONDONTWRITEBYTECODE

# The image's platform. With ARGS=--upgrade to the newest versions that pyproject.toml allows.
LOCK := $(BIN)/uv pip compile --quiet --no-header --generate-hashes --python-version 3.11 \
	--python-platform x86_64-manylinux_2_28 $(ARGS)

.PHONY: demo serve test test-cluster lint audit lock sbom bench clean

# The whole system on this machine; `dancedist demo` is the way without a cluster, and with footage of one's own.
demo: $(SERVES)
	$(BIN)/python jobs/run_demo.py $(ARGS)

# The render service on this machine alone: http://127.0.0.1:8000, settings in docs/operations.md.
serve: $(SERVES)
	$(BIN)/serve run serving.app:app

test: $(READY) lint
	$(BIN)/python -m pytest -m "not slow and not cluster" --durations=15 --numprocesses 2 --dist loadfile

# What needs no cluster runs on both cores, a thread each: threads of two trainings would wait for each other.
test-cluster: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and not cluster" --durations=15 --numprocesses 2 --dist loadfile
	$(BIN)/python -m pytest -m cluster --durations=15

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Known holes in what the image installs, and secrets in what git holds. What is none is marked in its line:
# "pragma: allowlist secret".
audit: $(READY)
	$(BIN)/python scripts/audit.py
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --no-verify --baseline .secrets.baseline

# What the image installs. torch's CPU build is taken from where pip finds it by itself.
lock: $(READY)
	UV_FIND_LINKS="$${UV_FIND_LINKS-$$PIP_FIND_LINKS}" $(LOCK) pyproject.toml --extra serve -o k8s/image/cpu.lock
	UV_FIND_LINKS= $(LOCK) pyproject.toml --extra serve -o k8s/image/cuda.lock
	grep -o 'cyclonedx-bom[^"]*' pyproject.toml | $(LOCK) - -o k8s/image/sbom.lock

# What is in the image's Python, as CycloneDX; the image has its own, made of what was installed, in /opt/sbom.cdx.json.
sbom: $(SBOM)
	mkdir -p build
	for flavour in cpu cuda; do $(SBOM)/bin/cyclonedx-py requirements k8s/image/$$flavour.lock --pyproject pyproject.toml \
		--output-reproducible --output-file build/sbom-$$flavour.cdx.json || exit 1; done

bench: $(READY)
	for file in benchmarks/*.py; do echo $$file; $(BIN)/python $$file || exit 1; done
	$(BIN)/python benchmarks/tools/table.py

# Weights are fetched here, once: everything after it works offline.
$(RUNS): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	$(BIN)/dancedist weights --fetch quick
	touch $@

# Ray, MLflow and what the service needs.
$(SERVES): $(RUNS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[serve]"
	touch $@

# Tests need an S3 server, a browser's driver and more, which a demo does not wait for.
$(READY): $(RUNS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

$(SBOM): k8s/image/sbom.lock
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	touch $@

clean:
	rm -rf $(VENV) runs
