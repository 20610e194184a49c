# Needs Python 3.11 or later with venv and pip; everything else goes into .venv.
TORCH ?= 2.13.0
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/torch-$(TORCH).installed
DEMO ?= demo-out
PYTEST_ARGS ?=
CASES ?= 5000

.PHONY: help install demo test coverage fuzz lint docs check

help:
	@echo "make demo    train and score both heads on the embedded data, into $(DEMO)/"
	@echo "make test    run the tests; PYTEST_ARGS=... is handed on"
	@echo "make coverage    the same, and which lines they reach"
	@echo "make fuzz    hostile inputs, CASES=$(CASES) of each kind"
	@echo "make lint    ruff, mypy --strict, import-linter"
	@echo "make docs    the site, its tutorials run, into docs/_build/html"
	@echo "make check   lint and test"
	@echo "TORCH=$(TORCH) is the version of torch that is installed"

install: $(STAMP)

$(STAMP): pyproject.toml $(wildcard titans_seq/ops/cpu/src/*)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet torch==$(TORCH) --editable '.[all,dev,docs]'
	rm -f .venv/torch-*.installed
	touch $@

demo: $(STAMP)
	$(BIN)/titans-seq demo --out $(DEMO)

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST_ARGS)

coverage: $(STAMP)
	$(MAKE) test PYTEST_ARGS="--cov --cov-report=term $(PYTEST_ARGS)"

fuzz: $(STAMP)
	TITANS_SEQ_HOSTILE_CASES=$(CASES) $(BIN)/python -m pytest -q -n auto tests/hostile $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Tutorials one after another, then pages two at a time; a warning is an error.
docs: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -j 2 docs docs/_build/html

check: lint test
