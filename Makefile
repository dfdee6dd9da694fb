# Two commands set everything up on a fresh machine: `make demo` and `make test`.
#
#   PYTHON=python3.12 make env     choose the Python of a new environment (3.11 to 3.13; found by itself otherwise)
#   VENV=/elsewhere make test      keep the environment elsewhere
#   PROCESSES=4 make test          run the tests in more processes than two

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints/constraints-py311.txt
INSTALLED := $(VENV)/.installed
REAL_DATA ?= ../shared/data

# Every process has one torch thread and a screen of its own: tests/conftest.py. Each steals from the other's tests once
# its own are done, so that both end together. The windows have processes of their own: with each window that goes,
# Python looks through all that its process holds. They are one more, since a window waits a quarter of its time.
PROCESSES ?= 2
# Of fuzzing, over all kinds of files. What is found is kept in fuzz-findings.
MINUTES ?= 60
PYTEST := $(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal

# Windows of benchmarks open on a virtual screen with OpenGL, not on the developer's own.
ifeq ($(shell uname -s),Linux)
SCREEN := xvfb-run --auto-servernum --server-args="-screen 0 1600x1200x24 +extension GLX"
endif

# What the program's own processes compile, the next of them need not: the tests begin dozens.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: env
env: $(INSTALLED)  ## Create the environment: everything, pinned

$(INSTALLED): pyproject.toml $(CONSTRAINTS) scripts/environment.sh
	scripts/environment.sh $(VENV) $(CONSTRAINTS)
	touch $@

.PHONY: system
system:
	scripts/system-libraries.sh

.PHONY: demo
demo: env  ## Scan the sample slide, print its lesions, draw the overlay, open napari where there is a display
	if [ -n "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ] && ! scripts/system-libraries.sh; then \
	  echo "The scan goes on; the window may not open without the libraries named above." >&2; \
	fi
	$(BIN)/napari-metastasis demo

.PHONY: test
test: env system  ## Everything that has to pass: style, layers, manifest, types, tests
	$(MAKE) --no-print-directory --jobs 3 lint typecheck tests

# The linters take one core, and windows wait a quarter of their time: side by side they cost little.
.PHONY: tests
tests: env system
	$(PYTEST) -n $$(( $(PROCESSES) + 1 )) tests/_napari
	$(PYTEST) --ignore=tests/_napari

.PHONY: quick
quick: env lint  ## The linters and one room's tests (make quick ROOM=lesions), or those of the rooms that git says changed
	tests=$$(scripts/room-tests.sh $(ROOM)); [ -z "$$tests" ] || $(PYTEST) --quiet $$tests

.PHONY: fuzz
fuzz: env  ## Damage files of every kind at random, for an hour, and read them: other inputs each time (MINUTES=5 make fuzz)
	PYTHONPATH=$(CURDIR)/tests/helpers $(BIN)/python tests/fuzz/run.py --minutes $(MINUTES)

.PHONY: lint
lint: env  ## Style, the order of the rooms, napari's manifest
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/npe2 validate napari-metastasis

.PHONY: typecheck
typecheck: env  ## Types, strictly
	$(BIN)/mypy

.PHONY: benchmarks
benchmarks: env  ## Measure again what docs/benchmarks.md states
	for name in dense_scan architectures scan_end_to_end refinement memory lesion_slider napari_window; do \
	  echo "== $$name"; $(SCREEN) $(BIN)/python "benchmarks/$$name.py"; \
	done
	if [ -d $(REAL_DATA) ]; then \
	  $(BIN)/python benchmarks/accuracy.py $(REAL_DATA); \
	  $(BIN)/python benchmarks/robustness.py $(REAL_DATA)/pcam_valid.zip; \
	fi

.PHONY: clean
clean:  ## Remove the environment and every cache; results stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
