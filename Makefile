# Every habit of this project is a target. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FUZZ_RUNS ?= 200000

.DEFAULT_GOAL := help
.PHONY: help install run test exhaustive lint check fix cov vectors docs fuzz examples dp-check metrics-check accuracy accuracy-1000 bench bench-encrypted bench-stacked studies soak tune tune-1000 tune-schemes clean

help:  ## list the targets
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(STAMP)  ## make .venv and install everything the other targets need

# The stamp is written last: a .venv without one is a set-up that broke off, and is rebuilt.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "This project needs Python 3.11 or newer; '$(PYTHON)' is not. Install it (Debian, Ubuntu: apt install python3), or run: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "The venv module of '$(PYTHON)' is missing. Install the package python3-venv (Debian, Ubuntu: apt install python3-venv), then run make again." >&2; exit 2; }
	@echo "Setting up $(VENV): about 400 MB to download with a CPU build of torch (README.md, Installation)."
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[learn,dev]'
	@touch $@

run: install  ## watch private, personalized federated learning on handwritten digits
	$(BIN)/secagg run

test: install  ## the whole test suite
	$(BIN)/python -m pytest -n 2

exhaustive: install  ## every dropout pattern, every partition of small cohorts, long runs of both implementations (about six minutes)
	$(BIN)/python -m pytest -q -n 2 -m exhaustive --durations=0

lint: install  ## format, lint, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint  ## the same, and the fast tests
	$(BIN)/python -m pytest -q -n 2 -m "not slow and not exhaustive"

fix: install  ## format and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

cov: install  ## branch coverage
	$(BIN)/python -m pytest -q --cov --cov-report=term

vectors: install  ## write the published test vectors again; the diff must be empty
	PYTHONPATH=. $(BIN)/python tests/vectors/make.py
	git diff --exit-code tests/vectors/pairwise-1
	@new=$$(git ls-files --others --exclude-standard tests/vectors/pairwise-1); test -z "$$new" || { echo "new: $$new" >&2; exit 1; }

docs: install  ## write the pages that come from the code; the diff must be empty
	$(BIN)/python docs/make.py
	git diff --exit-code docs

examples: install  ## run every example
	@for file in examples/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

bench: install  ## speed beside the hardware's floor, then encrypted sums beside masks (about eleven minutes)
	$(BIN)/python benchmarks/bench.py
	PYTHONPATH=. $(BIN)/python benchmarks/encrypted.py

bench-encrypted: install  ## sums under encryption beside masks and a widespread set, with verdicts (about two minutes)
	PYTHONPATH=. $(BIN)/python benchmarks/encrypted.py

dp-check: install  ## noise, samplers, accountants and refusals against what is promised, with verdicts (about four minutes)
	PYTHONPATH=. $(BIN)/python benchmarks/dp_check.py

metrics-check: install  ## private evaluation: errors, coverage over 4,000 simulations, a scan, with verdicts (about five minutes)
	PYTHONPATH=. $(BIN)/python benchmarks/metrics_check.py

bench-stacked: install  ## a round of up to 1,000 clients in one process: stacked beside one by one (about a minute)
	$(BIN)/python benchmarks/stacked.py

studies: install  ## every comparison over three seeds, with verdicts (about twenty minutes)
	@for study in least-squares tasks-40 multitask rotations; do echo "== $$study"; $(BIN)/secagg run $$study || exit 1; done

soak: install  ## 2,000 rounds with dropouts: sums, memory, sealing keys, with verdicts (about two minutes)
	$(BIN)/python benchmarks/soak.py

# Heavy, and wheels for few systems: the fuzzer is no part of the set-up.
fuzz: install  ## every decoder under coverage-guided fuzzing, 200,000 inputs each (about ten minutes)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet --only-binary atheris --constraint constraints.txt --editable '.[fuzz]' || { \
	  echo "atheris has wheels for Python 3.11 to 3.13 on Linux (x86-64) only." >&2; exit 2; }
	$(BIN)/python -m tests.fuzz.drive --runs $(FUZZ_RUNS) $(FUZZ)

accuracy: install  ## the digits scenario over five seeds, with verdicts (about six minutes)
	$(BIN)/python benchmarks/accuracy.py

accuracy-1000: install  ## the digits-1000 scenario over two seeds, with verdicts (about twenty minutes)
	$(BIN)/python benchmarks/accuracy.py digits-1000

tune: install  ## how the learning settings were chosen, on validation splits (about ten minutes)
	$(BIN)/python benchmarks/tune.py

tune-1000: install  ## the same for digits-1000 (about half an hour)
	$(BIN)/python benchmarks/tune.py digits-1000

tune-schemes: install  ## what other rates give the gradient schemes, on validation splits (about half an hour)
	$(BIN)/python benchmarks/tune_schemes.py

clean:  ## remove the environment and what the tools left
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info .coverage
