# Every recipe runs in .venv, which `setup` makes from requirements.lock: with uv where it is installed, else with pip.
.DEFAULT_GOAL := help
.PHONY: help setup setup-cpu train test test-faults test-all kills lint bench nanonet tensorboard notebooks lock clean

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
RUN := .venv/bin/python -m
# extras in requirements.lock; mlflow and wandb are left out, since they add over 40 packages
EXTRAS := $(addprefix --extra ,export heic inception joblib optuna serve submitit)
SHARED := -n auto --maxprocesses 4 --dist loadfile # the tests of one file share what it makes

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install requirements.lock into .venv; does nothing where that is done
	@cmp -s requirements.lock .venv/installed.lock || { \
	if [ -z "$(PYTHON)" ] && ! command -v uv >/dev/null; then \
		echo "error: no Python 3.11 to 3.13 found; install one, or name it: make setup PYTHON=/path/to/python3.12" >&2; exit 2; fi; \
	echo "installing requirements.lock into .venv (a few minutes the first time)"; \
	if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python "$(or $(PYTHON),3.12)" .venv && \
		uv pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes requirements.lock; \
	else \
		$(PYTHON) -m venv .venv && .venv/bin/python -m pip install --quiet --require-hashes -r requirements.lock; \
	fi && cp requirements.lock .venv/installed.lock; }

setup-cpu: ## setup without CUDA's 4 GB, where there is no NVIDIA GPU (needs uv)
	@uv venv --quiet --allow-existing --python "$(or $(PYTHON),3.12)" .venv
	@sed -E '/^ +--hash/d; s/ *\\$$//' requirements.lock > .venv/versions.txt
	@uv pip install --quiet --compile-bytecode --python .venv/bin/python --torch-backend cpu \
		--constraint .venv/versions.txt --requirements pyproject.toml --group dev $(EXTRAS)
	@cp requirements.lock .venv/installed.lock

train: setup ## train; make train ARGS="model=dcgan data=mnist"
	@$(RUN) src.train $(ARGS)

test: setup ## the tests, under five minutes
	@$(RUN) pytest $(SHARED) -m "not slow and not faults" $(ARGS)

test-faults: setup ## signals, full disks, damaged files: real processes, under five minutes
	@$(RUN) pytest -n 2 --dist loadfile -m "faults and not slow" tests/faults $(ARGS)

kills: setup ## interrupt 200 runs at random, 40 minutes; the table is docs/results/faults.md
	@$(RUN) tests.faults.kills $(ARGS)

test-all: setup ## the slow tests and those of faults too
	@$(RUN) pytest $(SHARED) $(ARGS)

lint: setup ## ruff and mypy
	@$(RUN) ruff check . && $(RUN) ruff format --check . && $(RUN) mypy

bench: setup ## time every family beside other loops, an hour; make bench ARGS="families=[fc,gan]"
	@$(RUN) src.bench.families $(ARGS)

nanonet: setup ## from photos to a classifier and a report; make nanonet ARGS="data.root=PHOTOS"
	@$(RUN) src.nanonet $(ARGS)

tensorboard: setup ## open the runs in TensorBoard; make tensorboard LOGDIR=runs
	@$(RUN) tensorboard.main --logdir $(or $(LOGDIR),runs)

notebooks: setup ## execute the notebooks into runs/notebooks; make notebooks OUT=DIR
	@$(RUN) notebooks.execute $(OUT)

lock: ## make requirements.lock again from pyproject.toml (needs uv)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
		--group dev $(EXTRAS) \
		--no-emit-index-url --no-annotate --no-header --output-file requirements.lock pyproject.toml

clean: ## remove .venv and caches; runs stay
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
