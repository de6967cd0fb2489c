# Two commands do all: `make demo` and `make test`. Both install what they need first.

PYTHON ?= python3
JOBS ?= 2
FUZZ ?= 20000
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Tests start hundreds of processes; each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test test-alone test-lowest test-newest test-small browser lint fuzz \
  mutants audit reliability docs site bench release-check clean

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv with the tllboost command (once; needs Python 3.11 or later)

demo: $(STAMP) ## Run the grid on the bundled demo set and score a new pair
	$(BIN)/tllboost demo --out results/demo
	@$(BIN)/python benchmarks/results_page.py results/demo

test: $(STAMP) browser ## Run the tests (JOBS=2 processes)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test-alone: $(STAMP) ## Run the tests that ask for ../shared as if it were not there
	TLLBOOST_SHARED=nowhere $(BIN)/python -m pytest tests -m shared \
	  -n $(JOBS) --dist loadfile

# Each of these two makes an environment of its own.
test-lowest: browser ## Run the tests on the oldest libraries that are allowed (needs uv)
	uv venv --clear --python $(PYTHON) $(VENV)-lowest
	uv pip compile --quiet --resolution lowest-direct --extra dask --extra docs --extra mlflow \
	  --extra plot --python $(VENV)-lowest -o $(VENV)-lowest/lowest.txt pyproject.toml
	uv pip install --quiet --python $(VENV)-lowest -c $(VENV)-lowest/lowest.txt \
	  -e ".[dask,docs,mlflow,plot,test]"
	$(VENV)-lowest/bin/python -m pytest -n $(JOBS) --dist loadfile \
	  -W default::DeprecationWarning -W default::FutureWarning

test-newest: browser ## Run the tests on the newest libraries, whatever constraints.txt says
	$(PYTHON) -m venv --clear $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet -e ".[dev]"
	$(VENV)-newest/bin/python -m pytest -n $(JOBS) --dist loadfile

test-small: ## Run the tests that need no torch, in an environment that has none
	$(PYTHON) -m venv --clear $(VENV)-small
	$(PYTHON) -c 'import tomllib; of = tomllib.load(open("pyproject.toml", "rb")); \
	  of = of["project"]; all = of["dependencies"] + of["optional-dependencies"]["test"]; \
	  large = "torch", "timm", "open_clip"; \
	  print(*(one for one in all if not one.startswith(large)), sep="\n")' \
	  > $(VENV)-small/small.txt
	$(VENV)-small/bin/python -m pip install --quiet -r $(VENV)-small/small.txt
	$(VENV)-small/bin/python -m pip install --quiet --no-deps -e .
	$(VENV)-small/bin/python -m pytest tests -n $(JOBS) --dist loadfile

browser: ## Install Chromium for the tests of pages, where this may
	@there() { command -v chromium || command -v chromium-browser || \
	  command -v google-chrome; }; \
	if ! there >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Chromium for the tests of pages"; \
	    { apt-get update && apt-get install -y --no-install-recommends chromium; } \
	      >/dev/null 2>&1; \
	  fi; \
	  there >/dev/null || echo "no Chromium: the tests of pages skip"; \
	fi

lint: $(STAMP) ## Check style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(STAMP) ## Feed the readers damaged files (FUZZ=20000 of each kind)
	TLLBOOST_FUZZ=$(FUZZ) $(BIN)/python -m pytest -n $(JOBS) tests/test_fuzz.py

mutants: $(STAMP) ## Change the code place by place: do the tests notice? (an hour)
	nice $(BIN)/python benchmarks/mutants.py --jobs $(JOBS)

audit: $(STAMP) ## Look up known vulnerabilities of what is installed
	-@$(BIN)/python -m pip install --quiet "pip-audit>=2.7"
	@$(BIN)/python benchmarks/audit.py

reliability: $(STAMP) ## Count faults survived and write docs/reliability.md
	$(BIN)/python benchmarks/reliability_page.py

bench: $(STAMP) ## Measure us and others side by side: results/bench (15 minutes)
	$(BIN)/python benchmarks/all_benches.py

docs: $(STAMP) ## Write docs/commands.md and the outputs that the guides show
	$(BIN)/python benchmarks/commands_page.py
	$(BIN)/python benchmarks/scale_out_page.py
	$(BIN)/python benchmarks/guide_outputs.py

site: $(STAMP) ## Build the documentation as a web site: site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

release-check: $(STAMP) ## Build, check and install what a release would be
	$(BIN)/python benchmarks/release_check.py

clean: ## Remove .venv, caches and the demo's cells and images
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-newest $(VENV)-small build dist site *.egg-info
	rm -rf results/demo-images
	rm -rf $(addprefix results/demo/,cells scores projections splits best.tllb)
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Done once, and again when pyproject.toml changes; a stop half way leaves no stamp.
$(STAMP): pyproject.toml constraints.txt
	@echo "Installing into $(VENV): a few minutes, once"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@
