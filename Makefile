# Start with `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready
SERVES := $(VENV)/.serves
SBOM := $(VENV)/sbom
ARGS ?=
# Ray and the service run many processes: without cached bytecode each would compile the whole repository.
unexport PYTHONDONTWRITEBYTECODE

# Locks are for the image's platform. ARGS=--upgrade updates to the newest versions that pyproject.toml allows.
LOCK := $(BIN)/uv pip compile --quiet --no-header --generate-hashes --python-version 3.11 \
	--python-platform x86_64-manylinux_2_28 $(ARGS)

.PHONY: demo serve test test-cluster lint audit lock sbom bench clean

# The whole system on this machine. Without a cluster, or with your own footage, use `dancedist demo`.
demo: $(SERVES)
	$(BIN)/python jobs/run_demo.py $(ARGS)

# The render service, for this machine only: http://127.0.0.1:8000. Settings: docs/operations/settings.md.
serve: $(SERVES)
	$(BIN)/serve run serving.app:app

test: $(READY) lint
	$(BIN)/python -m pytest -m "not slow and not cluster" --durations=15 --numprocesses 2 --dist loadfile

# Tests without a cluster run in two processes with one thread each, because threads of two trainings slow each other.
test-cluster: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and not cluster" --durations=15 --numprocesses 2 --dist loadfile
	$(BIN)/python -m pytest -m cluster --durations=15

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Known vulnerabilities of the image's packages, and secrets in the repository. Mark false positives with
# "pragma: allowlist secret" on their line.
audit: $(READY)
	$(BIN)/python scripts/audit.py
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --no-verify --baseline .secrets.baseline

# Lock the image's packages. torch's CPU build comes from pip's own find-links setting.
lock: $(READY)
	UV_FIND_LINKS="$${UV_FIND_LINKS-$$PIP_FIND_LINKS}" $(LOCK) pyproject.toml --extra serve -o k8s/image/cpu.lock
	UV_FIND_LINKS= $(LOCK) pyproject.toml --extra serve -o k8s/image/cuda.lock
	grep -o 'cyclonedx-bom[^"]*' pyproject.toml | $(LOCK) - -o k8s/image/sbom.lock

# CycloneDX SBOM of the locked packages. The image has one of the installed packages in /opt/sbom.cdx.json.
sbom: $(SBOM)
	mkdir -p build
	for flavour in cpu cuda; do $(SBOM)/bin/cyclonedx-py requirements k8s/image/$$flavour.lock --pyproject pyproject.toml \
		--output-reproducible --output-file build/sbom-$$flavour.cdx.json || exit 1; done

bench: $(READY)
	for file in benchmarks/*.py benchmarks/poses/*.py; do echo $$file; $(BIN)/python $$file || exit 1; done
	$(BIN)/python benchmarks/tools/table.py

# Downloads the weights once; everything afterwards works offline.
$(RUNS): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	$(BIN)/dancedist weights --fetch quick
	touch $@

# Installs Ray, MLflow and the dependencies of the service.
$(SERVES): $(RUNS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[serve]"
	touch $@

# Installs test dependencies (an S3 server, a browser driver and more), which the demo does not need.
$(READY): $(RUNS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

$(SBOM): k8s/image/sbom.lock
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	touch $@

clean:
	rm -rf $(VENV) runs
