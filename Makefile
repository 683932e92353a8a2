# make demo   the main job: which learning rate trains a network best, on real images
# make test   every test but the slow ones
# make lint   ruff and pyright

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow lint clean
demo: .venv/experiments
	$(BIN)/fbp sweep configs/digits_mlp.toml --out runs/digits_mlp --overwrite
	$(BIN)/fbp report runs/digits_mlp

test: .venv/test
	$(BIN)/python -m pytest -n auto

test-slow: .venv/test
	$(BIN)/python -m pytest -n auto -m slow

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# One stamp for each set of extras; a changed pyproject.toml installs anew.
.venv/%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "fbp needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

clean:
	rm -rf .venv
