"""Builders in processes of their own, for tests of what becomes of stores."""

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
    """A builder, to be told when to go on and to be killed."""

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
        """Waits for its end; its last word."""
        return (self.process.communicate()[0].split() or [""])[-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def interrupt(self) -> tuple[float, str]:
        """Ctrl-C: the seconds it took, and the last word."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        *_, at, word = "0", *self.process.communicate()[0].split()
        return (float(at) - begin if word == "KeyboardInterrupt" else 0.0), word


@pytest.fixture(scope="session")
def scripts() -> Path:
    """The directory of the scripts that run in processes of their own."""
    return SCRIPTS


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """An environment in which scripts import what tests share."""
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(scope="session")
def start_builder(environment: dict[str, str]) -> Callable[..., Builder]:
    """Starts a builder: its path, the value that fills its store, how many bars, and whether it overwrites."""
    return partial(Builder, environment)
