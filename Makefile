# Each target is one command. The work is in scripts/ or in the paddock command.

PADDOCK = .venv/bin/paddock -i $(or $(INVENTORY),inventory/demo.yml)
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup deploy test test-cuda soak check format render golden bench bench-gateway verify lab-up lab-down lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install the paddock command and its dependencies in .venv
	@scripts/setup

deploy: ## Deploy the demo to a new lab host and ask its model a question
	@scripts/demo

check: ## Check format, lint and types, and run the tests that need no host and start no programs (three minutes on two cores)
	@scripts/check

test: ## Run `check`, deploys to lab hosts, other processors and GPUs, faults: a share of the long ones (up to an hour; longer the first time)
	@scripts/test

soak: ## Run whole all that `test` runs a share of: every kill, fault and random sequence (hours)
	@scripts/soak

test-cuda: ## Test the full CUDA build (downloads 2 GB once; `test` includes it from then on)
	@scripts/test tests/builds/test_cuda.py

format: ## Format all code
	@scripts/setup dev && .venv/bin/ruff format . && .venv/bin/ruff check --fix .

render: setup ## Write the files that `up` would install to build/rendered/
	@$(PADDOCK) render --to build/rendered

golden: ## Rewrite tests/golden/; review it with git diff
	@scripts/setup dev && PADDOCK_GOLDEN=write .venv/bin/python -m pytest -q tests/golden

bench: ## Time a converged run on four lab hosts, compared with Ansible and plain pyinfra
	@scripts/setup dev && .venv/bin/python -m tests.bench

bench-gateway: ## Measure what the gateway costs a request, compared with none and with LiteLLM (on an idle machine)
	@scripts/setup dev && .venv/bin/python -m tests.bench.gateway

verify: setup ## Verify the lab hosts
	@$(PADDOCK) verify --lab

lab-up: setup ## Start a throw-away host for each host of the inventory
	@$(PADDOCK) lab up

lab-down: setup ## Remove the throw-away hosts
	@$(PADDOCK) lab down

lock: ## Rewrite the lock files from pyproject.toml
	@scripts/lock

clean: ## Remove .venv, build output and caches; keeps fleet state and lab hosts
	@rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache && find . -name __pycache__ -prune -exec rm -rf {} +
