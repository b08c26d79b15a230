# Every command a newcomer or a maintainer needs; each installs what it uses, from the locks alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: run test check bench campaign lock clean

run: $(VENV)/run.stamp
	@$(BIN)/smarthost run

test: $(VENV)/check.stamp
	@$(BIN)/python scripts/check.py
	@$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/check.stamp
	@$(BIN)/python scripts/check.py

bench: $(VENV)/test.stamp
	@$(BIN)/python -m bench $(ARGS)

campaign: $(VENV)/test.stamp
	@$(BIN)/python -m campaign $(ARGS)

lock:
	@scripts/lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Smarthost needs Python 3.11 or newer; PYTHON=python3.12 make … names another") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)

# A stamp an environment: run ⊂ test ⊂ check. The project itself is installed editable, its build tools locked too.
$(VENV)/%.stamp: requirements/%.lock pyproject.toml | $(BIN)/python
	@echo "Installing what '$*' needs into $(VENV) …"
	@$(PIP) install --require-hashes -r requirements/$*.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@
