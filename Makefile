# `make run` and `make test` set up all they need; Python 3.11 or later, pip and make have to be there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# where history, state and the embedded warehouse are kept between two runs
HOME_DIR := $(CURDIR)/.dw_orchestration

.PHONY: run test check format wheel clean

run: $(VENV)/.local $(HOME_DIR)/dagster/dagster.yaml  ## Start the Dagster UI on http://127.0.0.1:3000
	DAGSTER_HOME=$(HOME_DIR)/dagster $(BIN)/dagster dev --host 127.0.0.1 --port 3000

test: $(VENV)/.dev wheel  ## All tests, against the installed wheel too
	$(BIN)/pytest -n 2 --dist loadfile $(PYTEST_ARGS)

check: $(VENV)/.dev  ## Format, lint, types, directions of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## Put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: $(VENV)/.dev
	rm -rf dist build && $(BIN)/python -m build --wheel --no-isolation --outdir dist . > /dev/null

clean:  ## Remove the environment, the embedded warehouse and everything that was built
	rm -rf $(VENV) $(HOME_DIR) dist build *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.local: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,dev]'
	@touch $@ $(VENV)/.local

$(HOME_DIR)/dagster/dagster.yaml:
	@mkdir -p $(@D) && printf 'telemetry:\n  enabled: false\n' > $@
