# Needs Python 3.11 or newer and make; everything else goes into virtual environments beside this file.
# Another interpreter: make test PYTHON=python3.12. More for pytest: make test PYTEST_ARGS="-k filters -x".

PYTHON ?= python3
WORKERS ?= 2
PYTEST_ARGS ?=

version := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo none)
VENV := .venv-$(version)
BENCH_VENV := .venv-bench-$(version)
DOCS_VENV := .venv-docs-$(version)
OLDEST_VENV := .venv-oldest-$(version)
WHEEL_VENV := .venv-wheel-$(version)
# The lower bound of pyproject.toml.
OLDEST_JAX := $(shell sed -n 's/.*"jax>=\([0-9.]*\)".*/\1/p' pyproject.toml)
# What does not look at the files of the package.
WHEEL_TESTS := $(addprefix tests/,test_split_merge.py test_update.py test_optim.py test_linear.py nn/test_norms.py)
WHEEL_PAGES := README.md docs/tutorial.md docs/guides/config.md
# What completes YAML in editors; node runs it, and pip has none of it.
YAML_SERVER := yaml-language-server@1.25.0

# pyright says at every run that a newer one exists; requirements-dev.txt decides.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv test test-all test-oldest test-types test-wheel lint format demo bench metrics schemas docs clean

help: ## show this list
	@echo "usage: make TARGET [PYTHON=python3.12] [WORKERS=2] [PYTEST_ARGS=...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

venv: $(VENV)/.stamp ## make the virtual environment .venv-<python version> for development

test: lint yaml-server ## run every check: formatting, ruff, four type checkers, then tests, doctests and documentation
	@echo "== pytest: tests, doctests and documentation"
	@$(VENV)/bin/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

test-all: lint yaml-server ## the same, with the slow tests
	@echo "== pytest: tests, doctests and documentation, also the slow ones"
	@$(VENV)/bin/python -m pytest -n $(WORKERS) -m "" $(PYTEST_ARGS)

test-oldest: $(OLDEST_VENV)/.stamp ## run the tests with the oldest JAX that graphnode supports
	@echo "== pytest: tests, doctests and documentation with JAX $(OLDEST_JAX)"
	@$(OLDEST_VENV)/bin/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

test-types: yaml-server ## run the tests with every call inside the package checked against its annotations
	@echo "== pytest: tests, doctests and documentation under jaxtyping's import hook with beartype"
	@$(VENV)/bin/python -m pytest -n $(WORKERS) --runtime-types $(PYTEST_ARGS)

# The tests of the sdist, without its package: what they import is the wheel.
test-wheel: $(VENV)/.stamp ## build wheel and sdist, and test the wheel outside of the checkout
	@echo "== build: wheel and sdist, into build/dist"
	@rm -rf build/dist build/sdist $(WHEEL_VENV)
	@$(VENV)/bin/python -m build --no-isolation --outdir build/dist . >build-log.txt || { cat build-log.txt; exit 1; }
	@rm build-log.txt
	@mkdir -p build/sdist && tar xf build/dist/*.tar.gz -C build/sdist --strip-components 1
	@rm -rf build/sdist/graphnode
	@$(PYTHON) -m venv $(WHEEL_VENV)
	@$(WHEEL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		"$$(echo build/dist/*.whl)[examples]" -r build/sdist/requirements-dev.txt
	@echo "== pytest: the wheel"
	@cd build/sdist && "$(CURDIR)/$(WHEEL_VENV)/bin/python" -c 'import graphnode; print(graphnode.__file__)'
	@cd build/sdist && "$(CURDIR)/$(WHEEL_VENV)/bin/python" -m pytest -n $(WORKERS) $(WHEEL_TESTS)
	@cd build/sdist && "$(CURDIR)/$(WHEEL_VENV)/bin/python" -m tests.docrun $(WHEEL_PAGES)

lint: $(VENV)/.stamp ## check formatting, ruff's rules and the types with four checkers
	@echo "== ruff format: is everything formatted?"
	@$(VENV)/bin/python -m ruff format --check --quiet . || { echo "not formatted: run make format"; exit 1; }
	@echo "== ruff: rules"
	@$(VENV)/bin/python -m ruff check --quiet .
	@echo "== mypy --strict: types of the package and its tests"
	@$(VENV)/bin/python -m mypy --no-error-summary
	@echo "== pyright: types again, strict"
	@$(VENV)/bin/python -m pyright --pythonpath $(VENV)/bin/python
	@echo "== pyright --verifytypes: is every public name typed?"
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" pyright --verifytypes graphnode --ignoreexternal >$(VENV)/verifytypes.txt \
		|| { cat $(VENV)/verifytypes.txt; exit 1; }
	@echo "== pyrefly: types again, strict"
	@$(VENV)/bin/pyrefly check --python-interpreter-path $(VENV)/bin/python --output-format min-text --summary=none
	@echo "== ty: types again"
	@$(VENV)/bin/ty check --no-progress --output-format concise --python $(VENV)

format: $(VENV)/.stamp ## format the code and apply ruff's fixes
	@echo "== ruff: fixing what it can"
	@$(VENV)/bin/python -m ruff check --quiet --fix-only .
	@echo "== ruff format: formatting"
	@$(VENV)/bin/python -m ruff format .

demo: $(VENV)/.stamp ## train the example classifier, docs/examples/digits.py
	@echo "== demo: docs/examples/digits.py"
	@$(VENV)/bin/python docs/examples/digits.py

bench: $(BENCH_VENV)/.stamp ## time graphnode beside its peers: of graphs, of configuration files, and of models
	@echo "== benchmarks: graphnode and its peers"
	@$(BENCH_VENV)/bin/python -m tests.benchmarks

docs: $(DOCS_VENV)/.stamp ## build the documentation site into build/site, every warning an error
	@echo "== docs: build/site"
	@$(DOCS_VENV)/bin/python -m tests.docsite build/pages
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/python -m mkdocs build --strict --quiet

metrics: $(VENV)/.stamp ## count lines, tokens, branches, comments and names of the package
	@$(VENV)/bin/python -m tests.metrics

schemas: $(VENV)/.stamp ## write JSON Schemas, for the editor and of graphdefs, into schemas/
	@echo "== schemas: writing schemas/"
	@$(VENV)/bin/python -m tests.schemas

clean: ## remove the virtual environments, caches and builds
	@echo "== clean: removing virtual environments, caches and builds"
	@rm -rf .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	@find graphnode tests docs -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# make_venv(directory, what pip installs, what it installs without what that needs)
define make_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "graphnode needs Python 3.11 or newer, and $(PYTHON) is not: set PYTHON=..."; exit 1; }
	@echo "== venv: making $(1) (Python $(version))"
	@$(PYTHON) -m venv $(1)
	@echo "== venv: installing into $(1), a few minutes the first time"
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check $(2)
	@$(if $(3),$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(3))
	@touch $(1)/.stamp
endef

$(VENV)/.stamp: pyproject.toml requirements-dev.txt requirements-published.txt
	$(call make_venv,$(VENV),-r requirements-dev.txt -e ".[examples]",-r requirements-published.txt)

# Without the peers that need a newer JAX: what compares with them is skipped.
$(OLDEST_VENV)/.stamp: pyproject.toml requirements-dev.txt requirements-published.txt
	@mkdir -p $(OLDEST_VENV)
	@grep -vE '^(brainstate|flax)==' requirements-dev.txt >$(OLDEST_VENV)/requirements.txt
	$(call make_venv,$(OLDEST_VENV),-r $(OLDEST_VENV)/requirements.txt -e ".[examples]" "jax==$(OLDEST_JAX)",-r requirements-published.txt)

.PHONY: yaml-server
yaml-server: $(VENV)/.stamp
	@if [ -e $(VENV)/.$(YAML_SERVER) ]; then :; \
	elif command -v npm >/dev/null; then \
		echo "== venv: installing $(YAML_SERVER)"; \
		npm install --global --prefix $(VENV) --no-audit --no-fund --loglevel error $(YAML_SERVER) \
			&& touch $(VENV)/.$(YAML_SERVER); \
	else echo "== venv: there is no npm, so that $(YAML_SERVER) is not installed"; fi

$(DOCS_VENV)/.stamp: requirements-docs.txt
	$(call make_venv,$(DOCS_VENV),-r requirements-docs.txt)

$(BENCH_VENV)/.stamp: pyproject.toml requirements-dev.txt
	$(call make_venv,$(BENCH_VENV),-e ".[bench]")
