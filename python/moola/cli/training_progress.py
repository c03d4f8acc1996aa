"""Shows the progress of training on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from moola.cli.app import format_bytes

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from moola.training.progress import TrainingProgress

__all__ = ["ShownTraining"]


class ShownTraining:
    """Shows loss, speed and time left: a bar on a terminal, elsewhere a line per epoch, with `--json` nothing."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent
        self._terminal = sys.stderr.isatty()
        self._bar: Bar | None = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, at: TrainingProgress) -> None:
        if self._silent:
            return
        if self._terminal:
            self._draw(at)
        if at.finished_epoch is not None:
            line = _epoch_line(at, at.finished_epoch)
            if self._bar is not None:
                self._bar.console.print(line, highlight=False, markup=False)
            else:
                print(line, file=sys.stderr)

    def _draw(self, at: TrainingProgress) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"))
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=at.steps, facts="")
            self._bar.start()
        memory = " ".join(f"{name} {format_bytes(size)}" for name, size in at.memory.items())
        facts = (
            f"loss {at.loss:.4f}  {at.windows_per_second:,.0f} windows/s  {_duration(at.seconds_left)} left"
        )
        self._bar.update(
            self._task,
            description=f"epoch {at.epoch + 1}/{at.epochs}",
            completed=at.step,
            facts=f"{facts}  {memory}".rstrip(),
        )


def _epoch_line(at: TrainingProgress, record: Mapping[str, Any]) -> str:
    parts = [f"epoch {at.epoch + 1:>3}/{at.epochs}", f"train {record['train_loss']:.4f}"]
    if "val_loss" in record:
        parts += [f"val {record['val_loss']:.4f}"]
        parts += [f"{name} {record[name]['loss']:.4f}" for name in ("interpolation", "constant")]
        parts += [f"beats both on {_beaten(record)} features"]
    timing = record["timing"]
    parts += [f"{timing['windows_per_second']:,.0f} windows/s", f"{_duration(at.seconds_left)} left"]
    parts += [f"{name} {format_bytes(timing[name])}" for name in ("allocated", "reserved") if name in timing]
    return "  ".join(parts)


def _beaten(record: Mapping[str, Any]) -> str:
    model, *rivals = (record[name]["features"] for name in ("model", "interpolation", "constant"))
    better = [name for name in model if all(model[name] < rival[name] for rival in rivals)]
    return f"{len(better)} of {len(model)}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
