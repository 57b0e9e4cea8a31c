# Every target does the set-up it needs, in .venv, from the package index alone.
# The newest Python that is found and runs (a pyenv shim may be found and not run); PYTHON=... overrides.
PYTHON ?= $(shell for minor in 13 12 11; do \
	for python in python3.$$minor "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.$$minor.*/bin/python; do \
		if "$$python" -c 'import ensurepip, ssl, venv' 2>/dev/null; then echo "$$python"; exit; fi; \
	done; done; echo python3)
BIN := .venv/bin

.PHONY: setup setup-dev setup-peers demo test test-slow lint docs bench bench-quick parity lock clean

setup: .venv/.done
setup-dev: .venv/.done-dev
setup-peers: .venv/.done-peers

.venv/.done: requirements.txt
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14), "Python 3.11 to 3.13 is needed, this is " + sys.version'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/.done-dev: requirements-dev.txt .venv/.done
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

.venv/.done-report: requirements-report.txt .venv/.done
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-report.txt
	touch $@

demo: .venv/.done-report
	$(BIN)/python -m experiments.demo

# Two processes: most of the time goes into compiling, which takes one core.
PYTEST := $(BIN)/python -m pytest -n 2

test: setup-dev
	$(PYTEST) --dist loadfile -m 'not slow'

# The rest: what takes minutes each.
test-slow: setup-dev
	$(PYTEST) --dist loadfile -m slow

lint: setup-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# A site in site/, which opens from its folder: no server, no network. A broken link is an error.
.venv/.done-docs: requirements-docs.txt .venv/.done
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	touch $@

docs: .venv/.done-docs
	$(BIN)/mkdocs build --strict --quiet

# The peers are installed beside ours, for measuring and comparing alone.
.venv/.done-peers: requirements-peers.txt .venv/.done-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-peers.txt
	touch $@

bench: setup-peers
	$(BIN)/python -m benchmarks

# Whether the checkout is slower than the commit before.
bench-quick: setup-dev
	$(BIN)/python -m benchmarks.quick

# What `make test` skips where the peers are not installed.
parity: setup-peers
	$(BIN)/python -m pytest -s $(addprefix tests/pretrained/test_,live.py reading.py fetching.py)

# Pins the closure of pyproject.toml again (needs uv).
lock:
	uv pip compile -q --universal --python-version 3.11 --fork-strategy fewest --no-annotate --no-header \
		pyproject.toml --extra dev --extra beam --extra report --extra export --extra flow --extra hub -o requirements-dev.txt
	uv pip compile -q --universal --python-version 3.11 --fork-strategy fewest --no-annotate --no-header \
		pyproject.toml -c requirements-dev.txt -o requirements.txt
	uv pip compile -q --universal --python-version 3.11 --fork-strategy fewest --no-annotate --no-header \
		pyproject.toml --extra report -c requirements-dev.txt -o requirements-report.txt
	uv pip compile -q --universal --python-version 3.11 --fork-strategy fewest --no-annotate --no-header \
		pyproject.toml --extra docs -c requirements-dev.txt -o requirements-docs.txt

clean:
	rm -rf .venv runs/demo bench.json site
