# Needs only Python >= 3.11 and make; everything else goes into .venv.
# The first interpreter that runs and is new enough; name another with make PYTHON=...
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
  $$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
RUN := env -u PYTHONPATH $(BIN)/python

# For the environments that the tests are run in besides this one.
PYTHON313 ?= $(shell for p in python3.13 python3 python $(HOME)/.pyenv/versions/3.13*/bin/python; do \
  $$p -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 13))' >/dev/null 2>&1 && echo $$p && break; done)
COLAB := jax==0.7.2 jaxlib==0.7.2 flax==0.11.2 orbax-checkpoint==0.12.4
PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test test-all test-colab test-newest lint types check notebooks docs docs-serve comparison \
  figures benchmark clean

help:
	@echo "make demo       set up and align the example recordings; the result is in demo/"
	@echo "make test       set up and run the tests of core and product (minutes)"
	@echo "make test-all   every test"
	@echo "make test-colab   tests and notebooks with what Colab has: Python 3.13, JAX 0.7.2"
	@echo "make test-newest  tests and notebooks with the newest of everything on Python 3.13"
	@echo "make check      tests, lint, import rules and types"
	@echo "make docs       build the documentation: open site/index.html"
	@echo "make docs-serve the same on http://127.0.0.1:8000, with search, built again when a file changes"
	@echo "make notebooks  execute the notebooks, at their small setting"
	@echo "make comparison   recursion against frequency sampling: every figure, table and picture"
	@echo "make figures DATA=folder   measure the figures of the alignment experiment"
	@echo "make benchmark  measure speed and memory against SciPy, torchlpc and dasp-pytorch"
	@echo "make experiment-NAME ARGS=...   any experiment, as python -m experiments.NAME ..."

$(VENV)/.base: pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "jaxapf needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python $(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/python $(PIP) --editable '.[dev]'
	@touch $@

demo: $(VENV)/.base
	$(RUN) -m jaxapf demo -o demo

test: $(VENV)/.dev
	$(RUN) -m pytest -n auto -m "not slow" -q

test-all: $(VENV)/.dev
	$(RUN) -m pytest -n auto -q

# $(call set-up,FOLDER,PACKAGES): packages into an environment of Python 3.13.
define set-up
@test -n "$(PYTHON313)" || \
  { echo "this needs Python 3.13; name it: PYTHON313=/path/to/python3.13" >&2; exit 2; }
"$(PYTHON313)" -m venv $(1)
$(1)/bin/python $(PIP) $(2) --editable '.[dev,notebooks]'
endef

# $(call try,FOLDER): tests and notebooks in it.
define try
env -u PYTHONPATH $(1)/bin/python -m pytest -n auto -m "not slow" -q
env -u PYTHONPATH $(1)/bin/python -m experiments.notebooks
endef

$(VENV)-colab/.ready: pyproject.toml
	$(call set-up,$(VENV)-colab,$(COLAB))
	@touch $@

test-colab: $(VENV)-colab/.ready
	$(call try,$(VENV)-colab)

# Set up every time: what is newest changes.
test-newest:
	$(call set-up,$(VENV)-newest,--upgrade --upgrade-strategy eager)
	$(call try,$(VENV)-newest)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

# With the packages of notebooks and documentation, which their scripts import.
types: $(VENV)/.notebooks $(VENV)/.docs
	$(BIN)/pyright --pythonpath $(BIN)/python

check: lint types test

$(VENV)/.docs: $(VENV)/.base
	$(BIN)/python $(PIP) --editable '.[docs]'
	@touch $@

# The variables silence advertisements that MkDocs Material and a plugin print about successors.
MKDOCS := NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(RUN) -m mkdocs

# Not with --quiet: warnings would no longer be counted.
docs: $(VENV)/.docs
	$(MKDOCS) build --strict
	@echo "wrote site/index.html"

docs-serve: $(VENV)/.docs
	$(MKDOCS) serve --strict

$(VENV)/.notebooks: $(VENV)/.dev
	$(BIN)/python $(PIP) --editable '.[dev,notebooks]'
	@touch $@

notebooks: $(VENV)/.notebooks
	$(RUN) -m experiments.notebooks

# make experiment-phaser ARGS="fit --data DIR"
experiment-%: $(VENV)/.dev
	$(RUN) -m experiments.$* $(ARGS)

DATA ?=
figures: $(VENV)/.dev
	@test -n "$(DATA)" || { echo "name the folder of recordings: make figures DATA=folder" >&2; exit 2; }
	$(RUN) -m experiments.alignment measure --data "$(DATA)" --update

$(VENV)/.peers: $(VENV)/.dev
	$(BIN)/python $(PIP) --editable '.[peers,plot]'
	@touch $@

comparison: $(VENV)/.dev
	$(RUN) -m experiments.gradient_comparison --update

benchmark: $(VENV)/.peers
	$(RUN) -m experiments.benchmark --update

clean:
	rm -rf $(VENV) $(VENV)-colab $(VENV)-newest demo site build dist .pytest_cache .ruff_cache .hypothesis
