"""Runs commands on a small store, in this process or in a separate one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import moola
from moola.cli import app


class Ran:
    """The result of a command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict[str, Any]:
        record = json.loads(self.out)
        assert isinstance(record, dict)
        return record


def _run(*args: object) -> Ran:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


def _execute(*args: object, command: list[str] | None = None, **options: Any) -> Ran:
    words = [*(command or [sys.executable, "-m", "moola"]), *(str(arg) for arg in args)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, **options)
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def run() -> Any:
    """Runs a command in this process."""
    return _run


@pytest.fixture(scope="session")
def execute() -> Any:
    """Runs a command in a separate process."""
    return _execute


@pytest.fixture(scope="session")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bars") / "bars.parquet"
    moola.make_bars(path, 20_000)
    return path


@pytest.fixture(scope="session")
def store(bars: Path) -> Path:
    path = bars.with_name("store")
    moola.build_features(bars, path)
    return path
