# `make demo` and `make test` do all their set-up by themselves; a second call installs nothing.
#   make PYTHON=python3.12 test             another interpreter (3.11 or newer)
#   make UNSTIR_TORCH="torch==2.13.0 ..."   what pip is given for torch: another build, an index, a wheel

PYTHON ?= $(shell python3.11 -c 'import sys; print(sys.executable)' 2>/dev/null || echo python3)
UNSTIR_TORCH ?= torch==2.13.0
JOBS ?= 2

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --constraint constraints.txt
READY := .venv/ready

.PHONY: help setup demo browser test lint format bench torture clean

help:
	@echo "make demo      train on digits for about 90 s, write runs/demo/report.html"
	@echo "make test      every test but the slow ones (under 10 minutes on 2 cores)"
	@echo "make lint      ruff, mypy, import contracts"
	@echo "make format    what ruff can mend by itself"
	@echo "make bench     every script of benchmarks/, one question each"
	@echo "make torture   the slow tests: kill -9, full disks, long runs"
	@echo "make clean     remove .venv and caches"

setup: $(READY)

# torch goes first: any package that depends on it would otherwise choose its own build.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unstir needs Python 3.11 or newer, got " + sys.version.split()[0] + "; try make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) $(UNSTIR_TORCH)
	$(PIP) hatchling editables
	$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/unstir demo

# The browser that the page's tests drive: Debian's, where it is missing and can be installed. Elsewhere bring your own
# `chromium`; without one those tests are skipped, and in CI, where CI is set, a skip is a failure.
browser:
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium >/dev/null; } \
	  || echo "no chromium, and it could not be installed: the tests of the page are going to be skipped" >&2

# One file stays on one worker (tests/conftest.py), so what its tests share is made once, and the quick files come first.
test: $(READY) browser
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY)
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

torture: $(READY)
	$(BIN)/python -m pytest -m slow

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
