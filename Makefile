# `make help` lists the targets. Each makes what it needs of the others and is quick when there is nothing to do.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV_PYTHON := .venv/bin/python

# make demo SEED=7 RUN_DIR=runs/seed7
SEED ?=
RUN_DIR ?=
RUN_OVERRIDES = $(if $(SEED),--seed=$(SEED)) $(if $(RUN_DIR),--run_dir=$(RUN_DIR))

# make test PYTEST_ARGS="-k manifest"
PYTEST_ARGS ?=

# Where `make lock` finds the CPU build of torch.
TORCH_WHEELS ?= https://download.pytorch.org/whl/cpu/torch/
UV_COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile --quiet --upgrade --python-version 3.11 \
	--python-platform x86_64-manylinux_2_28 pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help setup demo-set demo test test-slow lint format lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: ## make the environment .venv: CPU builds of torch and vLLM, and all else at locked versions
	@$(PYTHON) setup/environment.py

demo-set: setup ## build the demo's clips
	@$(VENV_PYTHON) launch.py make-demo-set

demo: demo-set ## train the tiny model on two cores and show what it learned (SEED=7 RUN_DIR=path)
	$(VENV_PYTHON) launch.py train configs/demo.toml $(RUN_OVERRIDES)

test: demo-set ## the tests, without those marked slow or gpu
	$(VENV_PYTHON) -m pytest -m "not slow and not gpu" $(PYTEST_ARGS)

test-slow: demo-set ## the tests marked slow
	$(VENV_PYTHON) -m pytest -m "slow and not gpu" $(PYTEST_ARGS)

lint: setup ## ruff and mypy
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy

format: setup ## bring the code into the form that lint asks for
	$(VENV_PYTHON) -m ruff check --fix .
	$(VENV_PYTHON) -m ruff format .

lock: ## resolve pyproject.toml anew into setup/cpu.lock and setup/gpu.lock (needs uv)
	$(UV_COMPILE) --extra cpu --extra demo --extra dev --find-links $(TORCH_WHEELS) -o setup/cpu.lock
	$(UV_COMPILE) --extra gpu --extra demo -o setup/gpu.lock

clean: ## remove the environment, the built clips and all caches; runs/ stays
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache demo/built
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
