# AINO: `make` alone prints what there is.  Python 3.10+ and make are all that must be there.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
BUILD := build
JOBS ?= 2
PYTEST_OPTIONS ?=
TARGET ?= c
SHARD ?= 0/1
PIP := $(PY) -m pip --disable-pip-version-check --no-input install -c constraints.txt
HAVE_CC := $(shell command -v cc || command -v gcc || command -v clang)
# Runs that leave nothing outside build/: their own home, cache and no network look-ups.
HERMETIC := HOME=$(CURDIR)/$(BUILD)/home AINO_CACHE_DIR=$(CURDIR)/$(BUILD)/cache HF_HUB_OFFLINE=1

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint types bench zoo fuzz roundtrip conformance opinfo test-cross docs clean distclean
.DELETE_ON_ERROR:

help: ## print this list
	@echo "AINO, a deep-learning compiler.  Commands:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.core ## build a ResNet-50, compile it, run it, compare with ONNX Runtime
	@mkdir -p $(BUILD)/home
	$(HERMETIC) $(PY) -m benchmarks.demo_resnet50

test: $(VENV)/.test ## set up and run every test
	@mkdir -p $(BUILD)/home
	$(HERMETIC) $(PY) -m pytest -n $(JOBS) $(PYTEST_OPTIONS) tests

check: $(VENV)/.dev lint types ## lint, types and the fast tests: the inner loop
	@mkdir -p $(BUILD)/home
	$(HERMETIC) $(PY) -m pytest -n $(JOBS) -m "not slow" -q $(PYTEST_OPTIONS) tests

lint: $(VENV)/.dev ## check style
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

types: $(VENV)/.dev ## check types
	$(PY) -m tests.typecheck

format: $(VENV)/.dev ## rewrite the code in the house style
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

bench: $(VENV)/.bench ## measure the eight networks against the peers; writes benchmarks/RESULTS.md
	@mkdir -p $(BUILD)/home
	$(HERMETIC) $(PY) -m benchmarks.run

fuzz: $(VENV)/.test ## random graphs against the interpreter and ONNX Runtime (GRAPHS=2000 SEED=0 SHARD=0/1)
	@mkdir -p $(BUILD)/home $(BUILD)/fuzz
	$(HERMETIC) $(PY) -m tests.fuzz.run --graphs $(or $(GRAPHS),2000) --seed $(or $(SEED),0) --shard $(or $(SHARD),0/1) \
	  --jsonl $(BUILD)/fuzz/$(or $(SEED),0).jsonl

roundtrip: $(VENV)/.test ## the ONNX suite and the reference networks through to_onnx and ONNX Runtime (SHARD=0/1)
	@mkdir -p $(BUILD)/home $(BUILD)/roundtrip
	$(HERMETIC) $(PY) -m tests.conformance.round_trip --shard $(or $(SHARD),0/1) --jsonl $(BUILD)/roundtrip/suite.jsonl
	$(HERMETIC) $(PY) -m tests.conformance.round_trip --shard $(or $(SHARD),0/1) --jsonl $(BUILD)/roundtrip/networks.jsonl --workloads

zoo: $(VENV)/.test ## compile and check every reference network and the light models
	@mkdir -p $(BUILD)/home
	$(HERMETIC) $(PY) -m benchmarks.zoo $(if $(shell command -v cmake),--standalone)
	$(HERMETIC) $(PY) -m benchmarks.torch_zoo --write-docs

conformance: $(VENV)/.test ## run the ONNX backend suite (TARGET=reference|c|stablehlo|tvm:llvm|cuda-emu|cuda:sm_80, SHARD=i/n); writes docs/conformance.md
	@mkdir -p $(BUILD)/home
	$(HERMETIC) $(PY) -m tests.conformance.onnx_suite --target $(TARGET) --shard $(SHARD) --write-docs

opinfo: $(VENV)/.test ## run PyTorch's operator samples (PART=samples|dtypes|compile|errors, SHARD=i/n); writes docs/opinfo.md
	@mkdir -p $(BUILD)/home
	$(HERMETIC) $(PY) -m tests.conformance.opinfo $(addprefix --part ,$(PART)) --shard $(SHARD) --write-docs

test-cross: $(VENV)/.test ## libraries for ARM, RISC-V and WebAssembly in emulators (SHARD=i/n)
	@mkdir -p $(BUILD)/home
	$(HERMETIC) $(PY) -m tests.cross.run --shard $(SHARD)

docs: $(VENV)/.core ## write the generated pages: every op, every error
	$(PY) -m docs.generate

clean: ## remove everything that was built, but not the virtual environment
	rm -rf $(BUILD) dist .check *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## remove the virtual environment too
	rm -rf $(VENV)

# -- environments: each stamp adds to the one virtual environment ------------------------------------

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "error: $(PYTHON) is older than Python 3.10; say which to use: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "error: cannot create a virtual environment (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@touch $@

$(VENV)/.core: $(VENV)/.created pyproject.toml setup.py constraints.txt
	$(PIP) -e '.$(if $(HAVE_CC),,[cc])' onnxruntime
	@touch $@

$(VENV)/.test: $(VENV)/.created pyproject.toml setup.py constraints.txt
	$(PIP) torch
	$(PIP) -e '.[cc,test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	$(PIP) -e '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	$(PIP) -e '.[cc,bench]'
	@touch $@
