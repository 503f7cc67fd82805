# Each target works on a fresh machine that has Python 3.11 or newer and make; nothing is installed outside .venv.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --no-input
DOTS = awk '/^Collecting/ { printf "."; fflush() } /^Installing/ { printf " unpacking "; fflush() } END { print "done" }'
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
ARGS ?=
DATA ?= ../shared/data

.DEFAULT_GOAL := help
.PHONY: help demo serve test check format bench ledger eval pacing train install lock clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

demo: $(VENV)/.runtime ## Sample traffic through simulated models, then the savings report
	@$(BIN)/parsimony demo $(ARGS)

serve: $(VENV)/.runtime ## Start the server with configs/parsimony.yaml and stay up
	@exec $(BIN)/parsimony serve --config configs/parsimony.yaml $(ARGS)

test: $(VENV)/.dev ## Run the whole suite
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev ## Lint, formatting, import contracts, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy

format: $(VENV)/.dev ## Apply the formatting that `make check` asks for
	@$(BIN)/ruff check --fix --select I .
	@$(BIN)/ruff format .

bench: $(VENV)/.dev ## Measure the overhead against a bare pass-through
	@$(BIN)/python -m tests.benchmarks.overhead $(ARGS)

ledger: $(VENV)/.dev ## Measure how fast the ledger is written and reported from, on each database
	@$(BIN)/python -m tests.benchmarks.ledger $(ARGS)

eval: $(VENV)/.dev ## Measure the shipped classifier on prompts it never saw, in DATA=FOLDER
	@test -d "$(DATA)" || { echo "no folder $(DATA); name the one with the data: make eval DATA=FOLDER" >&2; exit 2; }
	@$(EVALUATE) $(addprefix --data $(DEV)/,$(addsuffix .jsonl.gz,mmlu gsm8k mtbench gaokao_zh)) \
	  --markdown $(RESULTS)/exams.md --picture $(RESULTS)/exams.svg $(ARGS)
	@$(EVALUATE) --data $(DEV)/alpacaeval2.jsonl.gz --weak-model mistral-7b-instruct-v0.2 \
	  --markdown $(RESULTS)/chat.md $(ARGS)

DEV = $(DATA)/routing/dev
EVALUATE = $(BIN)/parsimony classifier evaluate
RESULTS := tests/benchmarks/routing

pacing: $(VENV)/.dev ## Simulate what pacing a budget is worth, on the prompts in DATA=FOLDER
	@test -d "$(DATA)" || { echo "no folder $(DATA); name the one with the data: make pacing DATA=FOLDER" >&2; exit 2; }
	@$(BIN)/python -m tests.benchmarks.pacing --data "$(DATA)" \
	  --markdown tests/benchmarks/pacing/results.md --picture tests/benchmarks/pacing/results.svg $(ARGS)

train: $(VENV)/.runtime ## Train the shipped classifier anew, from DATA=FOLDER
	@test -d "$(DATA)" || { echo "no folder $(DATA); name the one with the data: make train DATA=FOLDER" >&2; exit 2; }
	@$(BIN)/python -m classifiers.training.train --data "$(DATA)" $(ARGS)

install: $(VENV)/.runtime ## Make .venv with what serving needs

lock: $(VENV)/.dev ## Resolve the dependencies anew (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv on the PATH" >&2; exit 1; }
	@uv pip compile pyproject.toml --group build $(LOCK_OPTIONS) -o requirements.lock
	@uv pip compile pyproject.toml --group build --group dev -c requirements.lock $(LOCK_OPTIONS) -o requirements-dev.lock

LOCK_OPTIONS := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

clean: ## Remove .venv, caches and build leftovers (never the data folder)
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# The stamps depend on the locks, so a changed lock reinstalls and an unchanged one costs nothing.
$(VENV)/bin/python:
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "Python 3.11 or newer not found: install it, or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$("$(PYTHON)" -V 2>&1); Parsimony needs 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@echo "Making $(VENV) with $$("$(PYTHON)" -V)"
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "could not make a virtual environment (on Debian: apt install python3.11-venv)" >&2; exit 1; }

$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing the locked dependencies (a minute or two, the first time only)"
	@$(PIP_INSTALL) --require-hashes -r requirements.lock | $(DOTS)
	@$(PIP_INSTALL) --quiet --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@echo "Installing the locked development tools"
	@$(PIP_INSTALL) --require-hashes -r requirements-dev.lock | $(DOTS)
	@touch $@
