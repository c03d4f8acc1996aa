"""Builders in separate processes, for tests of publishing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent / "scripts"
TESTS = Path(__file__).parents[1]


class Builder:
    """A builder that waits for commands and can be killed."""

    def __init__(
        self, environment: dict[str, str], path: Path, fill: float, *bars: int, overwrite: bool = False
    ) -> None:
        arguments = [str(path), "overwrite" if overwrite else "new", str(fill), *map(str, bars)]
        self.process = subprocess.Popen(
            [sys.executable, SCRIPTS / "build_store.py", *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def expect(self, *words: str) -> None:
        assert self.process.stdout is not None
        assert [self.process.stdout.readline().strip() for _ in words] == list(words)

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """Waits for its end. Returns its last message."""
        return (self.process.communicate()[0].split() or [""])[-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def interrupt(self) -> tuple[float, str]:
        """Presses Ctrl-C. Returns the seconds until the end, and the last message."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        *_, at, word = "0", *self.process.communicate()[0].split()
        return (float(at) - begin if word == "KeyboardInterrupt" else 0.0), word


@pytest.fixture(scope="session")
def scripts() -> Path:
    """The directory of the scripts that run in separate processes."""
    return SCRIPTS


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """An environment in which scripts can import the shared test modules."""
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(scope="session")
def start_builder(environment: dict[str, str]) -> Callable[..., Builder]:
    """Starts a builder: its path, the value that fills its store, the number of bars, and whether it
    overwrites."""
    return partial(Builder, environment)
