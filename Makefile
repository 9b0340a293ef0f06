# Everything here sets itself up: it needs python3 (3.11 or newer), make and the package index.

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
# The extras that the targets below need; one environment serves them all.
EXTRAS := test,lint,bench
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

.PHONY: help demo test soak sklearn joblib-suite soak-load fuzz faults hosts lint format bench bench-quick bench-report golden behaviours browser namespaces docs clean

help:
	@echo "make demo    run a real job on this machine, on Dask and on Ray, with one shared cache"
	@echo "make test    run the test suite"
	@echo "make soak    run the tests that take long"
	@echo "make fuzz    feed altered bytes to what reads entries and frames, by the million"
	@echo "make faults  break everything that can break, and print what came of it"
	@echo "make hosts   run on several hosts, made of network namespaces, and pull their wires"
	@echo "make soak-load  work at random, under faults, for hours (SECONDS=60 for less)"
	@echo "make sklearn run scikit-learn's own tests with joblib and with jobspan in its place"
	@echo "make joblib-suite run joblib's own tests with joblib and with jobspan in its place"
	@echo "make lint    check style, types and layers"
	@echo "make bench   measure jobspan beside its peers (ONLY=topic for a part; bench-quick in"
	@echo "             five minutes; bench-report writes docs/benchmarks.md from the last run)"
	@echo "make docs    build the documentation"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jobspan needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@rm -f $(VENV)/.installed-*
	@touch $@

demo: $(STAMP)
	$(RUN) -m examples.demo

# Some tests look at pages in a real browser; where none can be had they are skipped and say so.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    { apt-get install -y -qq chromium >/dev/null 2>&1 || \
	      { apt-get update -qq && apt-get install -y -qq chromium; } >/dev/null 2>&1; }; } || true

# Tests wait for servers and clusters more than they compute: three files at once, ARGS=-n0 for one.
# Some tests put several hosts on this machine; without namespaces they are skipped and say so.
namespaces:
	@command -v ip >/dev/null && command -v unshare >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    { apt-get install -y -qq iproute2 util-linux >/dev/null 2>&1 || \
	      { apt-get update -qq && apt-get install -y -qq iproute2 util-linux; } >/dev/null 2>&1; }; } || true

test: $(STAMP) browser namespaces
	$(RUN) -m pytest -n 3 --dist loadfile $(ARGS)

soak: $(STAMP)
	$(RUN) -m pytest -m soak $(ARGS)

# Arguments: how many inputs, and a seed: make fuzz ARGS="1200000 7"
fuzz: $(STAMP)
	$(RUN) tests/hostile/fuzz.py $(ARGS)

# Words choose rows: make faults ARGS="dask SIGKILL"; ARGS=--write puts the table into the documentation.
faults: $(STAMP)
	$(RUN) -m tests.faults $(ARGS)

# An hour on each backend, or so many seconds: make soak-load SECONDS=60 BACKENDS="threads ray"
SECONDS ?= 3600
BACKENDS ?= sequential threads processes dask ray
soak-load: $(STAMP)
	for backend in $(BACKENDS); do $(RUN) -m tests.soak.load $$backend $(SECONDS) || exit 1; done

hosts: $(STAMP) namespaces
	$(RUN) -m pytest tests/hosts -m "soak or not soak" $(ARGS)

sklearn: $(STAMP)
	$(RUN) -m tests.sklearn.compare $(ONLY)

joblib-suite: $(STAMP)
	$(RUN) -m tests.joblib_suite.compare $(ONLY)

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

format: $(STAMP)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# ONLY names a part: topics, or words of cases' names. Exit status 1: not every bound holds.
bench: $(STAMP)
	$(RUN) -m benchmarks --json build/benchmarks$(if $(ONLY),-part).json $(ONLY) $(ARGS)

bench-quick: $(STAMP)
	$(RUN) -m benchmarks --quick --json build/benchmarks-quick.json $(ONLY) $(ARGS)

# The page of the last `make bench`, its plots, and the figures in README.
bench-report: $(STAMP)
	@test -e build/benchmarks.json || $(RUN) -m benchmarks --json build/benchmarks.json || \
	  test -e build/benchmarks.json
	$(RUN) -m benchmarks.runner.report build/benchmarks.json

golden: $(STAMP)
	$(RUN) tests/recompute_golden_keys.py

behaviours: $(STAMP)
	$(RUN) docs/generate_behaviours.py

docs: $(STAMP)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(RUN) -m sphinx -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf $(VENV) build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
