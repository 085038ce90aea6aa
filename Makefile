# Every target makes .venv and installs on first use; only Python >= 3.11, pip and make are needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all lint bench bench-selection bench-recipes clean

# One thread: on tensors this small a second one gains little, and where other work keeps the cores busy it costs minutes.
demo: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/nextmask demo demo

# A process a core; the tests of one file stay together, since they share what is slow to make.
test: .venv/installed-dev
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto --dist loadfile

# With the optional parts that can be installed here; the tests of the others are skipped.
test-all: .venv/installed-dev
	-$(BIN)/python -m pip install --quiet --editable ".[ray,slurm,multigpu]" --constraint constraints.txt
	$(BIN)/python -m pytest

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed-dev
	$(BIN)/python benchmarks/mixed_precision.py
	$(BIN)/python benchmarks/memory.py runs/memory

# Peers to time, no dependencies: those that do not install here are passed over. Hours; interrupted, it goes on where it was.
bench-selection: .venv/installed-dev
	-$(BIN)/python -m pip install --quiet faiss-cpu tqdm --constraint constraints.txt
	-$(BIN)/python -m pip install --quiet --no-deps submodlib-py apricot-select
	$(BIN)/python benchmarks/selection.py

# Every published system, small; half an hour on two cores. Interrupted, it goes on where it was. See recipes/index.html.
RECIPES := colossal saal sal_smis ceal metric_coreset clasp_pe nextmask
bench-recipes: .venv/installed
	for name in $(RECIPES); do $(BIN)/nextmask recipe $$name --data "$${NEXTMASK_DATA:-../shared/data}" || exit 1; done

clean:
	rm -rf .venv demo build recipes

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --editable . --constraint constraints.txt
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[dev]" --constraint constraints.txt
	touch $@
