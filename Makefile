PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FLOORS := cluster deployments fusion tuning
# Strict editable installs link file by file, so the list of files is what decides when to install again.
FILES := $(sort $(shell find quorate $(FLOORS) -type f -not -path '*/__pycache__/*'))

.PHONY: setup demo check test test-units test-cluster test-own-clusters test-fast docs soak coverage gpu test-gpu test-triton test-openapi test-stores test-helm test-prometheus test-autogluon test-servers lint format clean
.DEFAULT_GOAL := setup
# Processes that mostly wait for others, a thread each for torch, since two cores are all that CI has; compiled once, also
# where the environment says not to keep what was compiled: many tests start a process.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile
LANES := test-own-clusters test-cluster test-units

setup: $(VENV)/installed

$(VENV)/python:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/dependencies: $(VENV)/python pyproject.toml constraints.txt
	$(PIP) -c constraints.txt setuptools torch
	$(PIP) -c constraints.txt -e '.[all,dev]' --config-settings editable_mode=strict
# On all cores, which pip does on one; packages' own tests are never imported, and some carry code for other Pythons.
	@$(BIN)/python -m compileall -qq -j 0 -x /tests/ $(VENV)/lib || true
	touch $@

$(VENV)/files: $(VENV)/dependencies .FORCE
	@echo '$(FILES)' | cmp -s - $@ || echo '$(FILES)' > $@

# What pip builds leaves quorate.egg-info here, and Python would read it before what is installed.
$(VENV)/installed: $(VENV)/files
	$(PIP) --no-deps --no-build-isolation -e . --config-settings editable_mode=strict
	@rm -rf quorate.egg-info
	touch $@

demo: setup
	$(BIN)/quorate demo

# Every save: whatever neither starts Ray nor trains, compiles or fills memory for seconds.
test-fast: setup
	$(PYTEST) -n 3 --dist loadfile -m 'not slow and not long and not ray and not gpu'

# Every commit. What needs Ray mostly waits: it runs beside the others, in one process for all that share one cluster,
# and in another for what starts clusters of its own, then for what tunes on one.
test: setup
	@$(MAKE) --no-print-directory -j3 --output-sync=target $(LANES)

# That, and lint beside it: mypy has use for one core.
check: setup
	@$(MAKE) --no-print-directory -j4 --output-sync=target lint $(LANES)

test-units: setup
	$(PYTEST) -n 2 --dist loadfile -m 'not slow and not ray and not gpu'

test-cluster: setup
	$(PYTEST) -m 'ray and not own_cluster and not slow and not docs and not gpu' --ignore tests/tuning

test-own-clusters: setup
	$(PYTEST) -m 'own_cluster and not slow and not docs and not gpu' tests/cluster
	$(PYTEST) -m 'ray and not slow and not docs and not gpu' tests/tuning

# What the README and the pages behind it say, as they say it: after a change of them or of the demo.
docs: setup
	$(BIN)/python -m pytest -m 'docs and not slow'

# Before a release: hours.
soak: setup
	$(BIN)/python -m pytest -m 'slow and not gpu'

coverage: setup
	$(PYTEST) -n 2 -m 'not slow and not ray and not gpu' --cov --cov-report=
	$(PYTEST) -m 'ray and not own_cluster and not slow and not docs and not gpu' --cov --cov-append --cov-report=
	$(PYTEST) -m 'own_cluster and not slow and not docs and not gpu' --cov --cov-append --cov-report=term-missing:skip-covered tests/cluster

# Some minutes on one CUDA card, for RESULTS.md; without one it says so.
gpu: setup
	$(BIN)/python benchmarks/gpu.py

test-gpu: setup
	$(BIN)/python -m pytest -m gpu tests/gpu

# The stock client has an environment of its own: its protobuf need not be ours.
$(VENV)-triton/installed:
	$(PYTHON) -m venv $(VENV)-triton
	$(VENV)-triton/bin/pip install --quiet --disable-pip-version-check 'tritonclient[http,grpc]>=2.73,<3'
	touch $@

# So has the server, which a package of Triton's makers carries; its stub reads NumPy 1's structures.
$(VENV)-tritonserver/installed:
	$(PYTHON) -m venv $(VENV)-tritonserver
	$(VENV)-tritonserver/bin/pip install --quiet --disable-pip-version-check 'nvidia-pytriton>=0.7,<0.8' 'numpy<2'
	touch $@

test-triton: setup $(VENV)-triton/installed $(VENV)-tritonserver/installed
	$(BIN)/python -m pytest -m 'not slow' tests/deployments/server/test_protocol_stock_client.py
	$(BIN)/python -m pytest -m '' -k triton tests/deployments/sources/remote/test_other_servers.py

# AutoGluon asks for an older pandas than ours: it has an environment of its own, with Quorate in it.
$(VENV)-autogluon/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-autogluon
	$(VENV)-autogluon/bin/pip install --quiet --disable-pip-version-check setuptools torch==2.13.0 lightgbm catboost xgboost-cpu
	$(VENV)-autogluon/bin/pip install --quiet --disable-pip-version-check '.[tune,autogluon]' pytest pytest-timeout hypothesis
	touch $@

test-autogluon: $(VENV)-autogluon/installed
	$(VENV)-autogluon/bin/pip install --quiet --disable-pip-version-check --no-deps .
	OMP_NUM_THREADS=1 $(VENV)-autogluon/bin/python -m pytest -m '' tests/cluster/operations/test_import_autogluon.py

# Other servers whose models are members; each pins what it needs.
$(VENV)-mlserver/installed:
	$(PYTHON) -m venv $(VENV)-mlserver
	$(VENV)-mlserver/bin/pip install --quiet --disable-pip-version-check 'mlserver>=1.7,<2' 'mlserver-sklearn>=1.7,<2'
	touch $@

$(VENV)-kserve/installed:
	$(PYTHON) -m venv $(VENV)-kserve
	$(VENV)-kserve/bin/pip install --quiet --disable-pip-version-check 'kserve>=0.15,<1'
	touch $@

test-servers: setup $(VENV)-mlserver/installed $(VENV)-kserve/installed
	$(BIN)/python -m pytest -m '' tests/deployments/sources/remote/test_other_servers.py

$(VENV)-openapi/installed:
	$(PYTHON) -m venv $(VENV)-openapi
	$(VENV)-openapi/bin/pip install --quiet --disable-pip-version-check 'schemathesis>=4,<5'
	touch $@

test-openapi: setup $(VENV)-openapi/installed
	$(BIN)/python -m pytest tests/deployments/server/http/test_openapi_schemathesis.py

# A bucket: servers of S3's and of GCS's protocol, whose packages ask for older ones than ours.
$(VENV)-stores/installed:
	$(PYTHON) -m venv $(VENV)-stores
	$(VENV)-stores/bin/pip install --quiet --disable-pip-version-check 'moto[s3]>=5.2,<6' 'flask>=3,<4' 'flask-cors>=4,<7' 'gcp-storage-emulator>=2026.7,<2027'
	touch $@

test-stores: setup $(VENV)-stores/installed
	$(BIN)/python -m pytest -m '' tests/deployments/records/test_object_stores.py tests/cluster/three_nodes/test_object_store.py

# What Helm renders charts with, Go's templates with sprig's functions, from Debian's sources; Helm itself is not in Debian.
HELM_PACKAGES = github-masterminds-sprig github-masterminds-semver github-masterminds-goutils github-huandu-xstrings \
	github-google-uuid github-imdario-mergo github-shopspring-decimal github-mitchellh-copystructure \
	github-mitchellh-reflectwalk github-spf13-cast golang-x-crypto k8s-sigs-yaml gopkg-yaml.v2
HELM_SOURCES = $(CURDIR)/$(VENV)-helm/usr/share/gocode

$(VENV)-helm/render: tests/cluster/manifest/helm_engine/render.go
	rm -rf $(VENV)-helm && mkdir -p $(VENV)-helm
	cd $(VENV)-helm && apt-get download -q $(HELM_PACKAGES:%=golang-%-dev)
	cd $(VENV)-helm && for package in *.deb; do dpkg -x $$package .; done && rm *.deb
	ln -s . $(HELM_SOURCES)/src/github.com/Masterminds/semver/v3
	GO111MODULE=off GOPATH=$(HELM_SOURCES) GOCACHE=$(CURDIR)/$(VENV)-helm/cache go build -o $@ $<

test-helm: setup $(VENV)-helm/render
	$(BIN)/python -m pytest tests/cluster/manifest/test_manifest.py

# Debian's Prometheus, unpacked and not installed.
$(VENV)-prometheus/installed:
	rm -rf $(VENV)-prometheus && mkdir -p $(VENV)-prometheus
	cd $(VENV)-prometheus && apt-get download -q prometheus && dpkg -x prometheus_*.deb . && rm prometheus_*.deb
	touch $@

test-prometheus: setup $(VENV)-prometheus/installed
	$(BIN)/python -m pytest tests/cluster/dashboards

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p quorate $(addprefix -p quorate.,$(FLOORS)) -p tests -p benchmarks
# From where the links of the editable install are: here, quorate is the front door's folder alone.
	cd build/__editable__.* && $(CURDIR)/$(BIN)/lint-imports --config $(CURDIR)/pyproject.toml

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info

.FORCE:
