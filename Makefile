# Each target prepares what it needs by itself; see README.md.
SHELL := /bin/bash
PYTHON ?=
export PYTHON
# Where the shell forbids compiled modules, each of some hundred short processes would compile all of them again.
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help demo demo-tv test check bench fuzz lock setup format

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: ## all set-up (no root), then the main job: an order opens a channel on a card
	@scripts/setup run
	@$(BIN)/cad demo

demo-tv: setup ## all set-up (Debian packages by apt), then the proof: a scrambled picture becomes clear
	@$(BIN)/python -m tests.tools.tv

test: setup ## all set-up (Debian packages by apt), then every test
	@$(BIN)/python -m pytest -q -n 2 --dist loadgroup

setup: ## only the set-up of `make test`
	@scripts/setup test

check: setup ## lint, types, import contracts and the quick tests, in under a minute
	@scripts/check

bench: setup ## measure, print a table and write bench/results.json
	@$(BIN)/python -m bench

fuzz: setup ## coverage-guided fuzzing of every parser; SECONDS=60 for each harness
	@scripts/fuzz $(or $(SECONDS),60)

format: setup ## put the code into its canonical form
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lock: setup ## resolve the dependencies again and write requirements/*.txt with hashes
	@scripts/lock
