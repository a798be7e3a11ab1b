# `make run` and `make test` set up all they need; Python 3.11 or later, pip and make have to be there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# where history, state and the embedded warehouse are kept between two runs
HOME_DIR := $(CURDIR)/.dw_orchestration

# the oldest and the newest Python that the package says it runs on, if the machine has them
OLDEST_PYTHON ?= 3.11
NEWEST_PYTHON ?= 3.13
# a part of the tests that meets each dependency: HTTP, pydantic, Dagster, DuckDB, Arrow, Postgres, FastAPI, typer
DEPENDENCY_TESTS := tests/posthog tests/assets/test_materializing.py tests/assets/test_freshness.py \
  tests/sensors/test_job_status.py tests/sensors/test_terminated_runs.py \
  tests/operations/test_resync.py tests/schedules/test_schedules.py tests/history tests/testing tests/cli

# at the versions that the tests are written for
TEST_TOOLS = $$(grep -E '^(hypothesis|psutil|pytest)==' constraints.txt)
# what a user makes, builds and runs a `dg` project with
PROJECT_TOOLS := create-dagster dagster-dg-cli editables hatchling pip pytest

UV_PIP := $(BIN)/uv pip install --quiet
# for environments in which tests start many processes: each would compile Dagster again where Python may not write bytecode
UV_PIP_COMPILED := $(UV_PIP) --compile-bytecode
COG := $(BIN)/cog --verbosity=1 --markers="<!--cog cog--> <!--end-->" -I docs -p "from generate import api, show, table"
PAGES := README.md $(wildcard docs/*.md docs/reference/*.md examples/*/README.md)
# named, since a comma would end an argument of make's `call`
WITH_LOCAL := -e '.[local]'
WITH_DEV := -e '.[local,dev]'
# from outside the checkout, so that nothing but what is installed can be imported; other people's warnings are no errors
PYTEST_OUTSIDE := -m pytest -c $(CURDIR)/pyproject.toml --rootdir $(CURDIR) -p no:cacheprovider -W default

.PHONY: run test test-thorough test-oldest test-newest check format docs images wheel installed oldest-constraints clean

run: $(VENV)/.local $(HOME_DIR)/dagster/dagster.yaml  ## Start the Dagster UI; its lineage is on http://127.0.0.1:3000/asset-groups
	DAGSTER_HOME=$(HOME_DIR)/dagster $(BIN)/dagster dev --host 127.0.0.1 --port 3000

test: installed  ## The tests, of the installed wheel
	$(VENV)/tests/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-thorough: installed  ## The tests that take too long for each change
	$(VENV)/tests/bin/pytest -n 2 -m thorough $(PYTEST_ARGS)

test-oldest: wheel  ## Tests with the oldest of everything that pyproject.toml allows
	$(call environment,oldest,$(OLDEST_PYTHON))
	$(UV_PIP) --python $(VENV)/oldest -c constraints-oldest.txt "$$(ls dist/*.whl)[local,redis]" $(TEST_TOOLS)
	$(call test_outside,oldest)

test-newest: wheel  ## Tests with the newest of everything that there is today
	$(call environment,newest,$(NEWEST_PYTHON))
	$(UV_PIP) --python $(VENV)/newest --upgrade "$$(ls dist/*.whl)[local,redis]" $(TEST_TOOLS)
	$(call test_outside,newest)

check: $(VENV)/.dev  ## Format, lint, types, directions of imports, plain English, pages up to date
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/plain_english.py
	$(COG) --check --check-fail-msg="Run: make docs" $(PAGES)

format: $(VENV)/.dev  ## Put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.dev  ## Write into the pages what files and the code say
	$(COG) -r $(PAGES)

images: $(VENV)/.dev  ## Take the pictures of the documentation anew, in Chromium
	DW_ORCHESTRATION_IMAGES=$(CURDIR)/docs/images $(BIN)/pytest tests/browser

wheel: $(VENV)/.dev
	@rm -rf dist build && $(BIN)/uv build --wheel --quiet --no-build-isolation --python $(BIN)/python --out-dir dist .

# the wheel for the tests themselves, and for two users: with the embedded warehouse, and with what the package itself needs
installed: wheel $(VENV)/tests/.ready $(VENV)/user/.ready $(VENV)/core/.ready
	@for each in tests user core; do $(UV_PIP_COMPILED) --python $(VENV)/$$each --no-deps --reinstall dist/*.whl || exit; done

oldest-constraints: $(VENV)/.dev  ## Write down anew what the oldest of everything is
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --resolution lowest-direct --python-version 3.11 \
	  --extra local --extra redis --output-file constraints-oldest.txt pyproject.toml

clean:  ## Remove the environments, the embedded warehouse and everything that was built
	rm -rf $(VENV) $(HOME_DIR) dist build site *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.local: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,$(WITH_LOCAL))
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt examples/dbt/tested-with.txt | $(BIN)/python
	$(call install,$(WITH_DEV))
	$(call install,--no-deps -r examples/dbt/tested-with.txt)
	@touch $@ $(VENV)/.local

$(VENV)/tests/.ready: $(VENV)/.dev | wheel
	$(call environment,tests,$(BIN)/python)
	$(UV_PIP_COMPILED) --python $(VENV)/tests -c constraints.txt "$$(ls dist/*.whl)[local,dev]"
	$(UV_PIP_COMPILED) --python $(VENV)/tests --no-deps -r examples/dbt/tested-with.txt
	@touch $@

$(VENV)/user/.ready: $(VENV)/.dev | wheel
	$(call environment,user,$(BIN)/python)
	$(UV_PIP_COMPILED) --python $(VENV)/user -c constraints.txt "$$(ls dist/*.whl)[local]" $(PROJECT_TOOLS)
	@touch $@

$(VENV)/core/.ready: $(VENV)/.dev | wheel
	$(call environment,core,$(BIN)/python)
	$(UV_PIP) --python $(VENV)/core -c constraints.txt dist/*.whl
	@touch $@

$(HOME_DIR)/dagster/dagster.yaml:
	@mkdir -p -m 700 $(HOME_DIR) && mkdir -p $(@D) && printf 'telemetry:\n  enabled: false\nnux:\n  enabled: false\n' > $@

# uv takes a tenth of pip's time, but does not read pip's settings: where it finds no packages, pip does
define install
@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
$(UV_PIP) --python $(BIN)/python -c constraints.txt $(1) \
  || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(1)
endef

# an environment beside that of the checkout, with another Python or other versions; pyenv has to be told which Python
define environment
@PYENV_VERSION=$(2) $(BIN)/uv venv --quiet --clear --no-python-downloads --python $(2) $(VENV)/$(1)
endef

define test_outside
cd $(VENV)/$(1) && bin/python $(PYTEST_OUTSIDE) $(PYTEST_ARGS) $(addprefix $(CURDIR)/,$(DEPENDENCY_TESTS))
endef
