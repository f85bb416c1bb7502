# One environment in .venv serves every target. It is installed again only when pyproject.toml or
# constraints.txt changes, so a second call starts at once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# `make quick` has a small one of its own.
QUICK := .venv-quick
QUICK_STAMP := $(QUICK)/.installed
CLOCK := $(QUICK)/.clock
# Without a GPU, torch without CUDA, which PyPI has not for Linux.
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi),,--extra-index-url https://download.pytorch.org/whl/cpu)
took = @now=$$(date +%s); echo "$(1): $$((now - $$(cat $(CLOCK)))) s"; echo $$now > $(CLOCK)
check_python = @$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("vaevar needs Python 3.11 or later, and $(PYTHON) is %d.%d: make PYTHON=python3.11 ..." % v[:2])'

# More arguments for the program or the tests:
#   make cycle ARGS="--trainer.accelerator gpu"      make test PYTEST_ARGS="-k onnx"
ARGS ?=
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install cycle quick benchmarks test test-slow mutants docs notebook lint format tensorboard clean

help:  ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	$(check_python)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[world,dev]'
	$(BIN)/python -m pip install --constraint constraints.txt --no-deps onnx2torch
	@touch $@

install: $(STAMP)  ## Create .venv and install vaevar with the embedded world and the developers' tools

cycle: $(STAMP)  ## Run the 15-day assimilation cycle on the embedded world: VAE-Var beside its rivals
	$(BIN)/python main.py predict --config configs/cycle_sparse.yaml $(ARGS)

# Modules are compiled as they are imported: most never are.
$(QUICK_STAMP): requirements-quick.txt constraints.txt
	$(check_python)
	@mkdir -p $(QUICK) && date +%s > $(CLOCK)
	test -x $(QUICK)/bin/python || $(PYTHON) -m venv $(QUICK)
	$(call took,an empty environment)
	$(QUICK)/bin/python -m pip install --quiet --no-compile --no-deps --timeout 30 --retries 2 --constraint constraints.txt $(TORCH_INDEX) torch
	$(call took,torch)
	$(QUICK)/bin/python -m pip install --quiet --no-compile --constraint constraints.txt --requirement requirements-quick.txt
	$(call took,the other packages)
	@touch $@

quick: $(QUICK_STAMP)  ## A first look: 5 days of the cycle and its report, in a small environment of its own
	@date +%s > $(CLOCK)
	$(QUICK)/bin/python main.py predict --config configs/quick.yaml $(ARGS)
	$(call took,the cycle and its report)

benchmarks: $(STAMP)  ## Run every benchmark and write one table: ARGS="--device cuda" on a GPU, ARGS="--quick true" to try
	$(BIN)/python benchmarks/all.py $(ARGS)

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

test: lint  ## Check style and types, then run every test but the slowest
	$(PYTEST) --dist loadfile -m 'not slow' $(PYTEST_ARGS)

test-slow: $(STAMP)  ## Run the slowest tests
	$(PYTEST) --dist load -m slow $(PYTEST_ARGS)

mutants: $(STAMP)  ## Change the code in 240 places, one at a time, and see whether the tests notice: takes hours
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[world,dev,mutants]'
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutants.py $(ARGS)

docs: $(STAMP)  ## Build the documentation site in build/docs; a warning or a broken link is an error
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[world,dev,docs]'
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs
	@echo "open build/docs/index.html"

notebook: $(STAMP)  ## Run docs/library.md as a notebook, build/library.ipynb, and make the pictures of that page
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[world,dev,docs,notebook]'
	$(BIN)/python docs/notebook.py

lint: $(STAMP)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## Put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tensorboard: $(STAMP)  ## Look at the runs
	$(BIN)/tensorboard --logdir runs

clean:  ## Remove .venv, .venv-quick and the tools' caches (data/ and runs/ stay)
	rm -rf $(VENV) $(QUICK) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
