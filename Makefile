# Everything runs in one virtual environment that this file makes and keeps up to date.
#
#   VENV    the environment; an existing one may be given, its torch is then kept
#   PYTHON  the interpreter that a new environment is made with (3.11 to 3.13)
#   TORCH   the torch to install instead of the pinned one, e.g. TORCH=torch==2.11.0
#   JOBS    how many test processes run at once

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON ?=
TORCH ?=
JOBS ?= 2
DEVICE ?= auto
FEW := --length 16 --learning-rates 1e-3 --c-tr 1 --seeds 3 --iterations 1000 --reft-rates --no-controls \
    --no-third-operand --no-constructed --batch 96 --evaluation-samples 400
PRIORS := --pretrained L H --learning-rates 3e-4 1e-4 --c-tr 0.8 1 --seeds 3 --evaluation-samples 100 \
    --reft-rates --no-controls --no-third-operand
TRUTHS := --constructed --seeds 4 --letters abcde --length 10 --learning-rates 1e-3 --c-tr 1 --iterations 20 \
    --reft-above --reft-iterations 1200
USER_EXTRAS := compile,figures
EXTRAS := dev,$(USER_EXTRAS),transformer-lens,datasets,pandas,huggingface

BIN := $(VENV)/bin
USER_STAMP := $(VENV)/.veneer-installed
DEV_STAMP := $(VENV)/.veneer-installed-dev
TORCH_RECORD := $(VENV)/.veneer-torch
CONSTRAINTS := $(VENV)/.veneer-constraints.txt
PINNED_TORCH := $(shell grep '^torch==' constraints.txt)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
TORCH_VERSION := from importlib.metadata import version; print(version("torch").split("+")[0])

.PHONY: help venv demo docs test-wheel demo-language truths results paper-grids longer-models test test-browser test-slow check bench device-check clean FORCE

help:  ## print this list
	@echo "Veneer: what fine-tuning does to a capability that a small Transformer provably has."
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14 | sed 's/^/  make /'
	@sed -n '2,/^$$/s/^#   /  /p' Makefile

venv: $(DEV_STAMP)  ## make the virtual environment, with what tests need

demo: $(USER_STAMP)  ## what fine-tuning did to a compiled counter: an answer and a report, in runs/demo
	$(BIN)/veneer run counter --out runs/demo
	$(BIN)/veneer analyse runs/demo
	@echo "The report: $(CURDIR)/runs/demo/report.html"

demo-language: $(DEV_STAMP)  ## take capital cities away from SmolLM2-135M in four ways, and seek them; resumes
	OMP_NUM_THREADS=$(JOBS) $(BIN)/python examples/capitals/capitals.py --out runs/language
	@echo "The reports: $(CURDIR)/runs/language/relearn-*/report.html"

truths: $(DEV_STAMP)  ## ask veneer relearn of 48 small text models whose truth is known; resumes
	OMP_NUM_THREADS=1 $(BIN)/python -m veneer.experiments.relearn.truths --out runs/truths

results: $(USER_STAMP)  ## make the runs of results/ again, in runs/results
	$(BIN)/veneer run counter $(FEW) --out runs/results/few-weights
	$(BIN)/veneer analyse runs/results/few-weights --only pruning attention
	$(BIN)/veneer run pcfg-counter $(PRIORS) --out runs/results/learned-priors
	$(BIN)/veneer claims runs/results/few-weights runs/results/learned-priors
	$(BIN)/veneer run counter --seeds 18 --out runs/results/quick
	$(BIN)/veneer analyse runs/results/quick --only pruning grafting
	$(BIN)/python -m benchmarks.stability runs/results/quick --from-seed 9
	$(BIN)/veneer run counter $(TRUTHS) --out runs/results/known-truths
	$(BIN)/veneer analyse runs/results/known-truths --only pruning grafting
	$(BIN)/python -m benchmarks.stability runs/results/known-truths

# Every line goes on where it was interrupted. On two CPU cores this takes days; DEVICE=cuda for a GPU.
paper-grids: $(USER_STAMP)  ## the compiled grids at the paper's size, three seeds (days)
	$(BIN)/veneer run counter --preset paper --seeds 3 --reft-rates --no-controls --no-third-operand \
	    --out runs/paper/table-3 --device $(DEVICE)
	$(BIN)/veneer run counter --preset paper --seeds 3 --learning-rates 1e-2 \
	    --reft-rates 1e-1 1e-2 1e-3 1e-4 --reft-above --constructed --out runs/paper/table-4 --device $(DEVICE) \
	    --reuse runs/paper/table-3
	for pair in "7 2" "7 3" "6 1"; do set -- $$pair; \
	    $(BIN)/veneer run max-identifier --preset paper --seeds 3 --rank-ft $$1 --q $$2 --reft-rates \
	    --no-controls --no-third-operand --out runs/paper/max-5-$$1-$$2 --device $(DEVICE); done

longer-models: $(USER_STAMP)  ## pretrain L, M, H, jailbreak for four times as long, three seeds (hours)
	$(BIN)/veneer pretrain pcfg --seeds 3 --iterations 24000 --keep 6000 --out runs/longer/priors \
	    --device $(DEVICE)
	$(BIN)/veneer pretrain pcfg --priors H --jailbreak --seeds 3 --iterations 24000 --keep 6000 \
	    --out runs/longer/jailbreak --device $(DEVICE)

test: check  ## check, then run all but the slow tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m "not slow"

test-browser: $(DEV_STAMP)  ## open reports in a headless Chromium, if there is one
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser -m "slow or not slow"

test-wheel: $(DEV_STAMP)  ## build the wheel, and use it in a folder with rooms of the same names
	OMP_NUM_THREADS=1 timeout 600 $(BIN)/python -m pytest tests/installed -m "slow or not slow"

test-slow: $(DEV_STAMP)  ## run the slow tests only
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m slow

docs: $(DEV_STAMP)  ## build the documentation into site/ (open site/index.html)
	$(BIN)/zensical build --clean --strict

check: $(DEV_STAMP)  ## lint, formatting, types, the arrows between the rooms, and the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/zensical build --clean --strict

bench: $(DEV_STAMP)  ## run the benchmarks
	$(BIN)/python -m benchmarks

device-check: $(DEV_STAMP)  ## check and measure a GPU in ten minutes, into device-check.json
	$(BIN)/python -m benchmarks.device

clean:  ## remove caches and build outputs (runs and the environment stay)
	@echo "Removing caches and build outputs"
	@rm -rf build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache
	@find . -path ./.venv -prune -o -path ./runs -prune -o -type d -name __pycache__ -print0 | xargs -0 rm -rf

$(BIN)/python:
	@python="$(PYTHON)"; \
	if [ -n "$$python" ]; then candidates="$$python"; else candidates="python3.11 python3"; fi; \
	for python in $$candidates; do \
	    if "$$python" -c '$(SUPPORTED)' 2>/dev/null; then \
	        echo "Making $(VENV) with $$("$$python" --version)"; \
	        exec "$$python" -m venv "$(VENV)"; \
	    fi; \
	done; \
	echo "Veneer needs Python 3.11, 3.12 or 3.13 (tried: $$candidates); name one with make PYTHON=..." >&2; \
	exit 1

# torch comes first and alone: which build of it fits is the machine's affair. The one that is there
# in the end is what the constraints then hold everything else to.
define install
	@if [ -n "$(TORCH)" ]; then \
	    echo "Installing $(TORCH)"; \
	    $(BIN)/python -m pip install --quiet "$(TORCH)"; \
	    rm -f $(TORCH_RECORD); \
	elif [ -e $(TORCH_RECORD) ] || ! $(BIN)/python -c '$(TORCH_VERSION)' >/dev/null 2>&1; then \
	    echo "Installing $(PINNED_TORCH)"; \
	    $(BIN)/python -m pip install --quiet "$(PINNED_TORCH)"; \
	    touch $(TORCH_RECORD); \
	fi
	@{ grep -v '^torch==' constraints.txt; echo "torch==$$($(BIN)/python -c '$(TORCH_VERSION)')"; } > $(CONSTRAINTS)
	@echo "Installing Veneer$(1) with the versions of constraints.txt (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable ".$(1)"
	@touch $@
endef

INSTALLED_FROM := pyproject.toml constraints.txt $(if $(TORCH),FORCE)

$(USER_STAMP): $(INSTALLED_FROM) | $(BIN)/python
	$(call install,[$(USER_EXTRAS)])

# The extras contain all that a user's installation does.
$(DEV_STAMP): $(INSTALLED_FROM) | $(BIN)/python
	$(call install,[$(EXTRAS)])
	@touch $(USER_STAMP)
