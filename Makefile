# Needs Python 3.11 or later with venv and pip; everything else is installed into .venv.
TORCH ?= 2.13.0
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/torch-$(TORCH).installed
DEMO ?= demo-out
PYTEST_ARGS ?=
CASES ?= 5000

.PHONY: help install demo quick test coverage fuzz sanitize lint docs check

help:
	@echo "make demo      train and score both heads on the embedded data, into $(DEMO)/"
	@echo "make quick     run the tests that are not marked slow"
	@echo "make test      run all tests; PYTEST_ARGS=... passes options to pytest"
	@echo "make coverage  the same, with a report of the lines reached"
	@echo "make fuzz      run hostile inputs, CASES=$(CASES) of each kind"
	@echo "make sanitize  run the kernels' tests with AddressSanitizer and UBSan (GCC)"
	@echo "make lint      ruff, mypy --strict, import-linter"
	@echo "make docs      run the tutorials and build the site into docs/_build/html"
	@echo "make check     lint and test"
	@echo "TORCH=$(TORCH) is the version of torch to install"

install: $(STAMP)

$(STAMP): pyproject.toml $(wildcard titans_seq/ops/cpu/src/*)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet torch==$(TORCH) --editable '.[all,dev,docs]'
	rm -f .venv/torch-*.installed
	touch $@

demo: $(STAMP)
	$(BIN)/titans-seq demo --out $(DEMO)

quick: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow" $(PYTEST_ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST_ARGS)

coverage: $(STAMP)
	$(MAKE) test PYTEST_ARGS="--cov --cov-report=term $(PYTEST_ARGS)"

fuzz: $(STAMP)
	TITANS_SEQ_HOSTILE_CASES=$(CASES) $(BIN)/python -m pytest -q -n auto tests/hostile $(PYTEST_ARGS)

# Python itself is not built with the sanitizers, so theirs is loaded before it; torch's own
# leaks at exit are not ours to report.
SANITIZED := .venv/sanitized/kernels.so
sanitize: $(STAMP)
	mkdir -p $(dir $(SANITIZED))
	$(CC) -std=gnu11 -O1 -g -fPIC -shared -fno-trapping-math -fno-math-errno \
	  -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
	  titans_seq/ops/cpu/src/memory.c -o $(SANITIZED) -lm
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 TITANS_SEQ_TEST_LIBRARY=$(CURDIR)/$(SANITIZED) OMP_NUM_THREADS=2 \
	  $(BIN)/python -m pytest -q -p no:cacheprovider -m "not slow" $(PYTEST_ARGS) \
	  tests/ops/cpu tests/ops/test_features.py tests/hostile/test_states.py \
	  tests/nn/test_single_tokens.py tests/nn/test_state.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Runs the tutorials one after another, then builds the pages in parallel; warnings are errors.
docs: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -j 2 docs docs/_build/html

check: lint test
