"""Sweeps over cheap models, shared by several tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from moola.evaluation.baselines import PooledLogisticRegression
from moola.labels import LabelledWindows
from moola.sweep import SweepResult, sweep

STRENGTH: dict[str, Any] = {"parameters": {"C": {"low": 1e-4, "high": 1e4, "log": True}}}

FOLDS = 2


def make_windows(n: int = 60, length: int = 12) -> LabelledWindows:
    """Windows in groups of two; half of them hide a bump. Feature 1 of bar 0 is the window's number."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    x = rng.normal(size=(n, length, 2)).astype(np.float32)
    x[y == 1, 3:9, 0] += 1
    x[:, 0, 1] = np.arange(n)
    starts = np.arange(n) * length
    return LabelledWindows(
        X=x,
        valid_mask=np.ones((n, length), np.bool_),
        y=y,
        classes=("bump", "none"),
        spans=np.where(y[:, None] == 1, [[3, 8]], -1),
        weight=np.ones(n),
        symbols=np.full(n, ""),
        starts=starts,
        ends=starts + length - 1,
        times=None,
        groups=np.arange(n) // 2,
        splits=None,
        feature_names=("a", "b"),
        feature_set="ohlc4",
        parameters={},
        window_length=length,
        store_id="",
    )


def search(output: Path, **options: Any) -> SweepResult:
    """A short sweep of a regression."""
    given = {
        "space": STRENGTH,
        "trials": 4,
        "estimator": PooledLogisticRegression(),
        "folds": FOLDS,
        "seed": 3,
    }
    given |= {"windows": make_windows(), "inner_folds": 2, "permutations": 0, "say": lambda _: None} | options
    windows, space = given.pop("windows"), given.pop("space")
    return sweep(windows, space, output, **given)


def studies_of(output: Path) -> list[optuna.Study]:
    storage = JournalStorage(JournalFileBackend(str(output / "journal.log")))
    names = [*(f"fold {number + 1}" for number in range(FOLDS)), "all windows"]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return [optuna.load_study(study_name=name, storage=storage) for name in names]


def tried(output: Path) -> list[list[tuple[Any, ...]]]:
    """The tried candidates and their results, by study, without lost ones."""
    return [
        [(t.params, t.value, t.state) for t in study.get_trials() if t.state != TrialState.FAIL]
        for study in studies_of(output)
    ]


SCRIPT = """
import os, sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from sweeping import PooledLogisticRegression, search

class Slow(PooledLogisticRegression):
    def fit(self, *given, **others):
        if Path({stuck!r}).exists():
            time.sleep(600)
        time.sleep(0.02)
        return super().fit(*given, **others)

Slow.__name__ = "PooledLogisticRegression"
print("ready", flush=True)
sys.stdin.readline()
search(Path({output!r}), trials=6, estimator=Slow(), stale_after=5.0, say=lambda line: print(line, flush=True))
"""


def start(tmp_path: Path) -> subprocess.Popen[str]:
    here = str(Path(__file__).parent)
    script = SCRIPT.format(tests=here, stuck=str(tmp_path / "stuck"), output=str(tmp_path / "sweep"))
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process
