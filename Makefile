# Everyday commands; `make` alone lists them. Each makes what it needs: a virtual environment in .venv, with the package
# installed editable. Extra arguments go in ARGS: make test ARGS="-k copy", make demo ARGS="--rows 10000".
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
COUNT ?= 1000000
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# What the installation is made from. The generated _native.c is not among it.
SOURCES := pyproject.toml $(wildcard setup.py) \
	$(wildcard shardproxy/native/*.pyx shardproxy/native/*.pxi) \
	$(shell find shardproxy/native/core -name '*.[ch]' -o -name '*.def')

.DEFAULT_GOAL := help
.PHONY: help dev lint types test test-fast sanitize fuzz demo bench

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

$(STAMP): $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e '.[dev]'
	touch $@

dev: $(STAMP) ## make the development environment; compile the C core again if it has changed

lint: dev ## ruff: rules and format
	$(BIN)/ruff check $(ARGS) .
	$(BIN)/ruff format --check .

types: dev ## mypy --strict
	$(BIN)/mypy --strict $(ARGS)

test: dev ## all tests, on PostgreSQL servers that the tests start
	$(BIN)/pytest $(ARGS)

test-fast: dev ## the unit tests that start no server; a minute or two
	$(BIN)/pytest -q -m 'not server' --ignore=tests/unit/embedded tests/unit $(ARGS)

sanitize: ## the C core under ASan and UBSan, with a short fuzz run
	.ci/sanitize $(ARGS)

fuzz: dev ## COUNT=N damaged inputs for the protocol and for the C core
	$(BIN)/python -m tests.fuzz.protocol --count $(COUNT) $(ARGS)
	$(BIN)/python -m tests.faults.fuzz_core --count $(COUNT) $(ARGS)

demo: dev ## four embedded shards, the proxy, a million rows
	$(BIN)/shardproxy demo $(ARGS)

bench: dev ## all benchmarks; ARGS=--quick for a minute's check that they work
	$(BIN)/python -c 'import matplotlib' 2>/dev/null || $(BIN)/pip install -q -e '.[dev,bench]'
	$(BIN)/python -m benchmarks $(ARGS)
