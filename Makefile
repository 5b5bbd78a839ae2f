# Thin: each target is one command, and what it does stands in scripts/ or in the paddock command itself.

PADDOCK = .venv/bin/paddock -i $(or $(INVENTORY),inventory/demo.yml)
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup deploy test test-cuda check format render golden bench verify lab-up lab-down lock clean

help: ## What there is to call
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## The paddock command and what it needs, in .venv
	@scripts/setup

deploy: ## The demo on a lab host, from nothing, and one question that it answers
	@scripts/demo

check: ## Format, lint, types and the tests that need no host (a minute at most)
	@scripts/check

test: ## Every test: those of `check`, whole deploys to lab hosts, other processors and GPUs, and faults
	@scripts/test

test-cuda: ## A whole build for CUDA, its machine code read (its toolkit is 2 GB; once that is cached, `test` does this too)
	@scripts/test tests/builds/test_cuda.py

format: ## Format all code as `check` wants it
	@scripts/setup dev && .venv/bin/ruff format . && .venv/bin/ruff check --fix .

render: setup ## Write the files that would land on the hosts to build/rendered/
	@$(PADDOCK) render --to build/rendered

golden: ## Write tests/golden/ anew, for a review with git diff
	@scripts/setup dev && PADDOCK_GOLDEN=write .venv/bin/python -m pytest -q tests/golden

bench: ## How long a converged run takes, on four lab hosts, beside Ansible and plain pyinfra
	@scripts/setup dev && .venv/bin/python -m tests.bench

verify: setup ## Assert that the lab's hosts are as declared
	@$(PADDOCK) verify --lab

lab-up: setup ## A throw-away host for each of the inventory's
	@$(PADDOCK) lab up

lab-down: setup ## Take them away
	@$(PADDOCK) lab down

lock: ## Write the lock files anew, out of pyproject.toml
	@scripts/lock

clean: ## Remove what can be made again; fleets' state and lab hosts stay
	@rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache && find . -name __pycache__ -prune -exec rm -rf {} +
