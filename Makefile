# `make demo` and `make test` need only Python ≥ 3.11 and Rust: they make their own environment in .venv.
# To use another interpreter: `make test PYTHON=python3.13`. To set the processes of pytest: `make test JOBS=8`.

SHELL := bash

PYTHON ?= python3
JOBS   ?= 2
DEMO_BARS ?= 1818450

VENV := .venv
BIN  := $(VENV)/bin
# Builds always use the environment's interpreter. Otherwise pyo3's build script takes the first `python` on the path.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
export VIRTUAL_ENV := $(CURDIR)/$(VENV)

RUST_SOURCES := $(shell find rust -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock
CARGO_TEST   := cargo test --locked --quiet -p moola-core

.PHONY: help build demo test test-rust test-python test-long coverage coverage-rust coverage-python lint fmt bench clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:
	@echo 'make demo       the main job: sample bars, features, verification, batches, pre-training; and the time of each'
	@echo 'make test       every Rust and Python test, and the lints'
	@echo 'make test-long  the tests that take minutes'
	@echo 'make coverage   the lines of moola-core and of python/moola that the tests run'
	@echo 'make build      makes .venv and installs moola there, built in release mode'
	@echo 'make bench      every benchmark, compared with the last results of this machine'
	@echo 'make lint       only the lints; `make fmt` formats the code'
	@echo 'make clean      removes .venv, target and everything else that make has made'

# ---- the environment ------------------------------------------------------------------------------------------------

# Each stamp records what .venv already contains, so that a second run starts at once.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'moola needs Python 3.11 or newer; choose one with `make PYTHON=…`' >&2; exit 1; }
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
	@printf '\nThe store is in demo/store and the run in demo/run. Look at reconstructions.png and loss.png in demo/run.\n'
	@printf 'README.md continues from here.\n'

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

# llvm-cov and llvm-profdata must belong to rustc's own LLVM. If rustup does not have them, give their paths:
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
