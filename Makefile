# `make demo` and `make test` need Python ≥ 3.11 and Rust, nothing else: they make their own environment in .venv.
# Another interpreter: `make test PYTHON=python3.13`. Processes for pytest: `make test JOBS=8`.

SHELL := bash

PYTHON ?= python3
JOBS   ?= 2
DEMO_BARS ?= 1818450

VENV := .venv
BIN  := $(VENV)/bin
# Always by the environment's interpreter: pyo3's build script would otherwise take whichever `python` comes first.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
export VIRTUAL_ENV := $(CURDIR)/$(VENV)

RUST_SOURCES := $(shell find rust -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock
CARGO_TEST   := cargo test --locked --quiet -p moola-core

.PHONY: help build demo test test-rust test-python test-long coverage coverage-rust coverage-python lint fmt bench clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:
	@echo 'make demo       sample bars, features, verification, batches, pre-training: the main job, with what each took'
	@echo 'make test       every Rust and Python test, and the lints'
	@echo 'make test-long  the tests that take minutes'
	@echo 'make coverage   which lines of moola-core and of python/moola the tests run'
	@echo 'make build      .venv with moola in it, built in release mode'
	@echo 'make bench      every benchmark, compared with the last results of this machine'
	@echo 'make lint       the lints alone; `make fmt` formats'
	@echo 'make clean      removes .venv, target and everything else that was made here'

# ---- the environment ------------------------------------------------------------------------------------------------

# Each stamp says what .venv holds already, so that a second run of anything starts at once.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'moola needs Python 3.11 or newer; say which with `make PYTHON=…`' >&2; exit 1; }
	@command -v cargo >/dev/null || { echo 'moola needs Rust to build; see https://rustup.rs' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@# Dependency groups came with pip 25.1.
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.build-tools: $(VENV)/.python
	$(BIN)/python -m pip install --quiet 'maturin>=1.9,<2'
	@touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

$(VENV)/.bench: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@

# An editable install, in release mode: changes in python/ need no build, changes in rust/ do.
$(VENV)/.moola: $(VENV)/.build-tools pyproject.toml $(RUST_SOURCES)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable .
	@touch $@

build: $(VENV)/.moola

# ---- the main job ---------------------------------------------------------------------------------------------------

demo: $(VENV)/.moola
	@rm -rf demo && mkdir demo
	@set -e; TIMEFORMAT='took %2R s'; \
	step() { printf '\n$$ moola %s\n' "$$*"; time $(BIN)/moola "$$@"; }; \
	step make-bars demo/bars.parquet --bars $(DEMO_BARS) --seed 17; \
	step build-features --data demo/bars.parquet --output demo/store --stamp open; \
	step verify-features --feature-dir demo/store --data demo/bars.parquet; \
	step inspect demo/store; \
	printf '\n$$ python -m moola.data.fast_windowed_loader --feature-dir demo/store --batch-size 256\n'; \
	time $(BIN)/python -m moola.data.fast_windowed_loader --feature-dir demo/store --batch-size 256; \
	step pretrain --feature-dir demo/store --model jade_compact --epochs 2 --batch-size 64 --output demo/run
	@printf '\nThe store is in demo/store, the run in demo/run: look at demo/run/reconstructions.png and loss.png.\n'
	@printf 'README.md goes on from here.\n'

# ---- tests and lints ------------------------------------------------------------------------------------------------

test: lint test-rust test-python

test-rust:
	$(CARGO_TEST)

test-python: $(VENV)/.dev $(VENV)/.moola
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -W error

test-long: $(VENV)/.dev $(VENV)/.moola
	$(CARGO_TEST) --release -- --ignored
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -W error -m long --timeout 3600

# ---- coverage -------------------------------------------------------------------------------------------------------

LLVM_COV_TOOL := target/tools/bin/cargo-llvm-cov

coverage: coverage-rust coverage-python

$(LLVM_COV_TOOL):
	cargo install --quiet --locked --root target/tools --version '^0.9' cargo-llvm-cov

# llvm-cov and llvm-profdata must be of rustc's own LLVM. Where rustup has none, say where they are:
# `make coverage-rust LLVM_COV=/usr/bin/llvm-cov-22 LLVM_PROFDATA=/usr/bin/llvm-profdata-22`.
coverage-rust: $(LLVM_COV_TOOL)
	@test -n '$(LLVM_COV)' || rustup --quiet component add llvm-tools
	$(LLVM_COV_TOOL) llvm-cov --locked --quiet -p moola-core

coverage-python: $(VENV)/.dev $(VENV)/.moola
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --cov --cov-report=term

lint: $(VENV)/.dev $(VENV)/.moola
	cargo fmt --all --check
	cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fmt: $(VENV)/.dev
	cargo fmt --all
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.dev $(VENV)/.bench $(VENV)/.moola
	$(BIN)/python benches/run.py

clean:
	rm -rf $(VENV) target demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
	find python tests benches -name __pycache__ -prune -exec rm -rf {} +
	rm -f python/moola/_core*.so
