"""Fine-tuning on few labels adapts its folds to the rarest class, and says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from finetuned import QUIET
from typer.testing import CliRunner

import moola
from moola.cli import app
from moola.labels import LabelledWindows

pytestmark = pytest.mark.xdist_group("finetune_run")


def test_four_windows_of_a_class_give_four_folds(
    market: Path, labels: LabelledWindows, tmp_path: Path
) -> None:
    """They gave "4 windows for 5 folds"."""
    few = labels.take(np.concatenate([np.flatnonzero(labels.y == code)[:4] for code in range(3)]))
    said: list[str] = []
    options = {**QUIET, "say": said.append, "permutations": 0}
    result = moola.finetune(market / "store", few, tmp_path / "run", **options)
    adapted = next(line for line in said if "folds instead of 5" in line)
    assert adapted.startswith(("4 folds", "3 folds", "2 folds"))
    assert f"the rarest class, {few.classes[0]!r}, has 4 windows" in adapted
    assert adapted in result.report, "the run's report says so too"
    assert any(line.startswith(f"fold {adapted[0]} of {adapted[0]}: ") for line in said)
    # The same call finds the run finished.
    assert moola.finetune(market / "store", few, tmp_path / "run", **options, resume=True).resumed


def test_a_number_of_folds_that_is_asked_for_stays(
    market: Path, labels: LabelledWindows, tmp_path: Path
) -> None:
    few = labels.take(np.concatenate([np.flatnonzero(labels.y == code)[:4] for code in range(3)]))
    with pytest.raises(moola.errors.LabelError, match="4 windows for 5 folds"):
        moola.finetune(market / "store", few, tmp_path / "run", folds=5, **QUIET)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["finetune", "cross-validate"])
def test_the_help_says_that_folds_adapt(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "300"})
    assert "as many as the rarest class allows" in " ".join(shown.stdout.replace("│", " ").split())
