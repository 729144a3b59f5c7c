# Needs only make and Python 3.11 or newer. The first target that needs it makes .venv; later calls reuse it.
#   make demo | test | lint | fuzz | study | bench | docs | pictures | clean
#   make PYTHON=python3.12 ...                                        another interpreter
#   make TORCH_INDEX=https://download.pytorch.org/whl/cpu ...        where pip should look for torch first, besides its usual index

PYTHON ?= $(or $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done),python3)
TORCH_INDEX ?=
OUT ?= demo
PYTEST_ARGS ?= -n auto --maxprocesses 4 --dist loadfile

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
BENCHMARKS := $(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))

.DELETE_ON_ERROR:
.PHONY: demo test lint fuzz study bench docs pictures clean

demo: $(VENV)/.installed
	$(BIN)/xclimb demo --out $(OUT)
	@echo "Report: $(OUT)/report.html"

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# 1,000 mutated inputs of the command line; counts in docs/results/fuzz.json
fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m tests.fuzz 1000

bench: $(VENV)/.installed
	@set -e; for file in $(BENCHMARKS); do echo "== $$file"; $(BIN)/python "$$file"; done

# every method, three seeds, on the embedded calculations: the table of README.md and docs/results
study: $(VENV)/.installed
	$(BIN)/xclimb study methods --sample dft_pairs --methods scratch,trainable,frozen,refit,residual --seeds 0,1,2 --epochs 15 --set batch_size=8 --workers 2 --out docs/results/methods

docs: $(VENV)/.installed
	$(BIN)/python docs/build.py

# needs a chromium; TEACHER_PAIRS=FOLDER makes the page of pseudo-labels too
pictures: $(VENV)/.installed
	$(BIN)/python docs/build.py --pictures $(TEACHER_PAIRS)

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "xclimb needs Python 3.11 or newer: install it, or name it with 'make PYTHON=/path/to/python3.11 ...'." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "This Python cannot make virtual environments: install python3-venv (Debian, Ubuntu: apt-get install python3-venv)." >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# torch by itself first: a CPU build (2.x.y+cpu), where pip is told of one, wins over the much larger default build
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) torch $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	$(INSTALL) -e '.[fast]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) -e '.[dev]'
	@touch $@
