"""Compares runs: settings that differ, final losses, speed and memory."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moola.runs.directory import CONFIG, ENVIRONMENT, flat, read_metrics, read_record

__all__ = ["Comparison", "Figure", "compare_runs"]

# Settings in which repeats of one configuration differ.
_REPEATS = ("seed", "stores", "windows.fingerprint", "windows.validation_fingerprint")


@dataclass(frozen=True)
class Figure:
    """One figure of the runs of both sides, with its mean and spread."""

    name: str
    unit: str
    runs: tuple[tuple[float, ...], tuple[float, ...]]
    """By side, the figure of each run that has it."""

    def mean(self, side: int) -> float:
        """The mean over the runs of a side (0 or 1); NaN if no run has the figure."""
        return float(np.mean(self.runs[side])) if self.runs[side] else math.nan

    def spread(self, side: int) -> float:
        """The standard deviation over the runs of a side; NaN with fewer than two."""
        return float(np.std(self.runs[side], ddof=1)) if len(self.runs[side]) > 1 else math.nan

    @property
    def difference(self) -> tuple[float, float]:
        """First side minus second, and its standard error (Welch), which is NaN if a side has fewer than two runs."""
        error = math.sqrt(sum(self.spread(i) ** 2 / max(len(self.runs[i]), 1) for i in (0, 1)))
        return self.mean(0) - self.mean(1), error


@dataclass(frozen=True)
class Comparison:
    """Two sides of one or more runs each."""

    runs: tuple[tuple[Path, ...], tuple[Path, ...]]
    differences: Mapping[str, tuple[tuple[Any, ...], tuple[Any, ...]]]
    """Settings that differ: the distinct values on each side."""
    figures: Sequence[Figure]

    @property
    def verdict(self) -> str:
        """A sentence on what the validation losses show."""
        figure = next((f for f in self.figures if f.name == "best validation loss"), None)
        if figure is None or not all(figure.runs):
            return "no difference shown: a side has no validation loss"
        difference, error = figure.difference
        if math.isnan(error):
            return (
                f"no difference shown: the losses differ by {difference:+.5f}, and one run per side does not show how "
                "much seeds change it; train each with several seeds"
            )
        # Student's t at 95 % with the smaller side's degrees of freedom, which errs towards a wide interval.
        from scipy.stats import t

        wide = float(t.ppf(0.975, min(map(len, figure.runs)) - 1)) * error
        interval = f"{difference:+.5f} (95 % interval {difference - wide:+.5f} to {difference + wide:+.5f})"
        if abs(difference) <= wide:
            return f"no difference shown: {interval}"
        return f"the {'first' if difference < 0 else 'second'} side has the lower loss: {interval}"


def compare_runs(
    runs: Sequence[str | os.PathLike[str]], against: Sequence[str | os.PathLike[str]]
) -> Comparison:
    """Compares two sides of pre-training runs. A side is one run or more, such as several seeds of a configuration.

    Raises `RunError` for a directory that is not a run.
    """
    sides = (tuple(map(Path, runs)), tuple(map(Path, against)))
    settings = [[dict(flat(read_record(run / CONFIG))) for run in side] for side in sides]
    names = sorted({name for side in settings for run in side for name in run} - set(_REPEATS))
    differences = {}
    for name in names:
        values = tuple(_distinct([run.get(name) for run in side]) for side in settings)
        if set(map(json.dumps, values[0])) != set(map(json.dumps, values[1])):
            differences[name] = (values[0], values[1])
    epochs = [[read_metrics(run, "epoch") for run in side] for side in sides]
    machines = [[read_record(run / ENVIRONMENT) for run in side] for side in sides]
    processors = tuple(_distinct([m.get("gpu") or m.get("processor") for m in side]) for side in machines)
    if set(processors[0]) != set(processors[1]):
        differences["(machine)"] = (processors[0], processors[1])

    def figure(name: str, unit: str, value: Any) -> Figure:
        found = [tuple(v for e in side if e and (v := value(e)) is not None) for side in epochs]
        return Figure(name, unit, (found[0], found[1]))

    def best(records: Sequence[Mapping[str, Any]]) -> float | None:
        losses = [r["val_loss"] for r in records if "val_loss" in r]
        return min(losses) if losses else None

    def timing(name: str, fold: Any) -> Any:
        def value(records: Sequence[Mapping[str, Any]]) -> float | None:
            values = [r["timing"][name] for r in records if name in r["timing"]]
            return float(fold(values)) if values else None

        return value

    figures = [
        figure("best validation loss", "", best),
        figure("last validation loss", "", lambda e: e[-1].get("val_loss")),
        figure("last training loss", "", lambda e: e[-1]["train_loss"]),
        figure("epochs", "", lambda e: float(len(e))),
        figure("speed", "windows/s", timing("windows_per_second", np.median)),
        figure("epoch", "s", timing("seconds", np.median)),
        figure("memory allocated", "bytes", timing("allocated", max)),
        figure("memory reserved", "bytes", timing("reserved", max)),
    ]
    return Comparison(sides, differences, [f for f in figures if any(f.runs)])


def _distinct(values: Sequence[Any]) -> tuple[Any, ...]:
    seen: dict[str, Any] = {}
    for value in values:
        seen.setdefault(json.dumps(value), value)
    return tuple(seen.values())
