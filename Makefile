# make demo          the main job: which learning rate trains a network best, on real images;
#                    the first target installs fbp and what it needs into .venv
# make test-fast     while editing: what neither trains nor starts processes
# make test          every test but the slow ones
# make test-slow     the slow ones, then test-matrix
# make test-matrix   make test with the oldest and the newest Python and JAX, other libraries too
# make test-core     what depends most on JAX's version, with the newest
# make test-tpu      programs as a TPU's compiler makes them; no TPU is needed
# make docs          the site, which opens from .cache/site/html/index.html
# make test-pages    pages in a headless Chromium; needs Debian's chromium and its driver, and npm
# make lint          ruff and pyright

PYTHON ?= python3
OLDEST_PYTHON ?= python3.11
NEWEST_PYTHON ?= python3.13
BIN := .venv/bin

.PHONY: demo test test-fast test-slow test-matrix test-oldest test-newest test-core test-tpu test-pages docs lint clean
demo: .venv/experiments
	$(BIN)/fbp sweep configs/digits_mlp.toml --out runs/digits_mlp --overwrite
	$(BIN)/fbp report runs/digits_mlp

PYTEST := -m pytest -n auto --dist worksteal
FAST := $(addprefix tests/, autodiff nn data report verify test_config.py test_config_file.py \
  test_structure.py test_records.py test_flops.py)

TPU := JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 .venv-tpu/bin/python -m pytest -n auto tests/tpu

test-fast: .venv/test
	$(BIN)/python $(PYTEST) $(FAST)

test: .venv/test
	$(BIN)/python $(PYTEST)

test-slow: .venv/test .venv-tpu/test
	$(BIN)/python $(PYTEST) -m slow
	$(TPU) -m slow
	$(MAKE) test-matrix

test-matrix: test-oldest test-newest

# With XLA's optimizations, as users have them; the other runs do without: tests/conftest.py.
test-oldest test-newest: export XLA_FLAGS :=

test-oldest: .venv-oldest/test
	.venv-oldest/bin/python $(PYTEST)

test-newest: .venv-newest/test
	.venv-newest/bin/python $(PYTEST)

CORE := $(addprefix tests/autodiff/, test_coverage.py test_transforms.py test_rule.py \
  test_partition.py test_pullback.py test_save_policy.py test_recompute.py test_jacobian.py \
  test_transposition.py rules/test_calls.py rules/test_custom.py rules/test_cond.py) \
  tests/docs/test_rules_page.py

test-core: .venv-newest/core
	.venv-newest/bin/python $(PYTEST) $(CORE)

test-tpu: .venv-tpu/test
	$(TPU)

docs: .venv/docs
	$(BIN)/python docs/site/build.py

test-pages: .venv/test .venv/pages .cache/node_modules/axe-core
	$(BIN)/python -m pytest tests/pages

.cache/node_modules/axe-core:
	npm install --silent --no-audit --no-fund --prefix .cache axe-core@4

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# One stamp for each set of extras; a changed pyproject.toml installs anew.
.venv/%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "fbp needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	@echo "installing fbp[$*] into .venv, which takes some minutes the first time"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

# Python and JAX of each end. A pyenv that has this Python hides it, unless asked for it by name.
.venv-oldest/test: pyproject.toml
	$(call environment,.venv-oldest,$(OLDEST_PYTHON),3.11,0.10,OLDEST_PYTHON,test$(COMMA)interop)

.venv-newest/test: pyproject.toml
	$(call environment,.venv-newest,$(NEWEST_PYTHON),3.13,0.12,NEWEST_PYTHON,test$(COMMA)interop)

.venv-newest/core: pyproject.toml
	$(call environment,.venv-newest,$(NEWEST_PYTHON),3.13,0.12,NEWEST_PYTHON,test)

# The TPU's compiler.
.venv-tpu/test: pyproject.toml
	$(call environment,.venv-tpu,$(OLDEST_PYTHON),3.11,0.10,OLDEST_PYTHON,test$(COMMA)tpu)

COMMA := ,

define environment
@export PYENV_VERSION=$(3); \
$(2) -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(3)")' 2>/dev/null || { \
  echo "the tests need Python $(3): make $(5)=/path/to/python$(3) $(MAKECMDGOALS)"; exit 2; }; \
test -x $(1)/bin/python || $(2) -m venv $(1)
$(1)/bin/python -m pip install --quiet --editable '.[$(6)]' 'jax==$(4).*' 'jaxlib==$(4).*'
@touch $@
endef

clean:
	rm -rf .venv .venv-oldest .venv-newest .venv-tpu .cache
