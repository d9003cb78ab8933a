# Needs only Python >= 3.11 and make; everything else goes into .venv.
# The first interpreter that runs and is new enough; name another with make PYTHON=...
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
  $$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
RUN := env -u PYTHONPATH $(BIN)/python

.PHONY: help demo test test-slow lint types check notebooks figures benchmark clean

help:
	@echo "make demo       set up and align the example recordings; the result is in demo/"
	@echo "make test       set up and run the tests"
	@echo "make test-slow  the tests that take longer, as well"
	@echo "make check      tests, lint, format and types: what continuous integration runs"
	@echo "make notebooks  execute the notebooks, at their small setting"
	@echo "make figures DATA=folder   measure the figures of the README"
	@echo "make benchmark  measure speed and memory against SciPy, torchlpc and dasp-pytorch"

$(VENV)/.base: pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "jaxapf needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(VENV)/.base
	$(RUN) -m jaxapf demo -o demo

test: $(VENV)/.dev
	$(RUN) -m pytest -n auto --dist worksteal -m "not slow" -q

test-slow: $(VENV)/.dev
	$(RUN) -m pytest -n auto --dist worksteal -q

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/pyright --pythonpath $(BIN)/python

check: lint types test

$(VENV)/.notebooks: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,notebooks]'
	@touch $@

notebooks: $(VENV)/.notebooks
	$(RUN) experiments/notebooks/run.py

DATA ?=
figures: $(VENV)/.dev
	@test -n "$(DATA)" || { echo "name the folder of recordings: make figures DATA=folder" >&2; exit 2; }
	$(RUN) experiments/alignment/run.py --data "$(DATA)" --update README.md

$(VENV)/.peers: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[peers,plot]'
	@touch $@

benchmark: $(VENV)/.peers
	$(RUN) experiments/benchmark/run.py --update experiments/benchmark/README.md

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .ruff_cache .hypothesis
