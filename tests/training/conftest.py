"""Fixtures of the tests in this room."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pretraining import STEPS, Killed, in_child, outcome, train
from tiny_store import build


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pretrain") / "store"
    build(path, lengths=(400, 9, 250), extra=2).close()
    return path


@pytest.fixture(scope="module")
def reference(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    run = tmp_path_factory.mktemp("reference") / "run"
    result = train(store, run)
    assert result.steps == STEPS
    return outcome(run)


@pytest.fixture(scope="module")
def attempt(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[int | None, str]]:
    """Trains in a separate process, forked from one that has imported everything. Returns exit code and
    error."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["moola.training.pretraining", "moola.training.figures"])
    said = tmp_path_factory.mktemp("said") / "error"

    def run(store: Path, run: Path, killed: Killed | None = None, **options: Any) -> tuple[int | None, str]:
        said.unlink(missing_ok=True)
        child = context.Process(target=in_child, args=(store, run, killed, options, said))
        child.start()
        child.join(120)
        assert child.exitcode is not None, "it hangs"
        return child.exitcode, said.read_text() if said.exists() else ""

    return run
