"""A tiny store and short trainings shared by several tests of pre-training."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import moola
from moola.models.weights import load_weights
from moola.runs.checkpoints import Checkpoints
from moola.training.pretraining import pretrain

TINY = {"model": {"name": "tiny", "architecture": {"hidden_size": 4}}}

SHORT: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 16,
    "stride": 3,
    "windows_per_epoch": 80,
    "checkpoint_every": 2,
    "log_every": 1,
    "lr": 1e-2,
}

STEPS = 10


def train(store: Path, run: Path, *, pictures: bool = False, **options: Any) -> Any:
    """A short training without pictures, which take longest and have their own test."""
    with pytest.MonkeyPatch.context() as patch:
        if not pictures:
            for name in ("draw_losses", "draw_reconstructions"):
                patch.setattr(f"moola.training.figures.{name}", lambda *_: None)
        return _train(store, run, **options)


def _train(store: Path, run: Path, **options: Any) -> Any:
    return pretrain(store, run, **{"model": TINY, "say": lambda _: None, "device": "cpu"} | SHORT | options)


def outcome(run: Path) -> dict[str, Any]:
    """Everything that two equal runs have in common: all but times."""
    said = []
    last = Checkpoints(run / "checkpoints").latest(said.append)
    assert last is not None
    assert not said
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for record in (*metrics, last.record["best_record"]):
        record.pop("timing", None)
    last.record.pop("logged")
    files = {name: load_weights(run / f"{name}.safetensors") for name in ("best", "last")}
    files["checkpoint"] = last
    return {
        "metrics": metrics,
        "result": (run / "result.json").read_bytes(),
        "learned": (run / "learned.json").read_bytes(),
        "records": {name: weights.record for name, weights in files.items()},
        "tensors": {
            f"{name}.{key}": tensor.numpy().tobytes()
            for name, weights in files.items()
            for key, tensor in weights.tensors.items()
        },
    }


def sample_store(folder: Path, bars: int) -> Path:
    moola.make_bars(folder / "bars.parquet", bars, seed=17)
    return moola.build_features(folder / "bars.parquet", folder / "sample", stamp="open").path


class Killed:
    """What a child process does to itself, and when."""

    def __init__(self, kind: str, at: int) -> None:
        self.kind, self.at = kind, at

    def prepare(self) -> Callable[[Any], None]:
        """Sets the trap; returns the report to pass to the training."""
        count = 0
        replace = os.replace

        def kill() -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def replacing(*names: Any) -> None:
            nonlocal count
            count += 1
            if self.kind == "before" and count == self.at:
                kill()
            replace(*names)
            if self.kind == "after" and count == self.at:
                kill()

        def report(at: Any) -> None:
            if at.finished_epoch is None and at.step == self.at:
                if self.kind == "step":
                    kill()
                if self.kind == "interrupt":
                    os.kill(os.getpid(), signal.SIGINT)

        if self.kind in ("before", "after"):
            os.replace = replacing  # type: ignore[assignment]
        if self.kind == "room":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.at, self.at))
        return report


def in_child(store: Path, run: Path, killed: Killed | None, options: dict[str, Any], said: Path) -> None:
    report = killed.prepare() if killed is not None else None
    try:
        train(store, run, report=report, resume=True, **options)
    except BaseException as error:
        if killed is None or killed.kind != "room":
            said.write_text(f"{type(error).__name__}: {error}")
        raise SystemExit(3) from None
