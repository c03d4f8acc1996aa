"""Killed, interrupted, out of space, damaged: a run resumes from its checkpoints."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pretraining import SHORT, STEPS, TINY, Killed, outcome, train
from safetensors.torch import save_file

from moola.errors import RunError, WeightsError
from moola.models.weights import load_weights
from moola.runs.checkpoints import Checkpoints
from moola.training.steplog import StepLog


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_training_killed_at_any_step_resumes(
    store: Path, tmp_path: Path, reference: dict[str, Any], attempt: Any, step: int
) -> None:
    run = tmp_path / "run"
    assert attempt(store, run, Killed("step", step))[0] == -signal.SIGKILL
    assert attempt(store, run) == (0, "")
    assert outcome(run) == reference


def test_a_training_killed_at_every_step_in_turn_resumes(
    store: Path, tmp_path: Path, reference: dict[str, Any], attempt: Any
) -> None:
    run = tmp_path / "run"
    kills = 0
    for step in range(2, STEPS + 1):
        kills += attempt(store, run, Killed("step", step))[0] == -signal.SIGKILL
    assert kills == STEPS - 1
    assert attempt(store, run) == (0, "")
    assert outcome(run) == reference


@pytest.mark.parametrize(("kind", "number"), [(("before", "after")[n % 2], n) for n in range(1, 12)])
def test_a_training_killed_while_publishing_resumes(
    store: Path, tmp_path: Path, reference: dict[str, Any], attempt: Any, kind: str, number: int
) -> None:
    """Each file of a run gets its name by a rename. The run is killed just before one and just after."""
    run = tmp_path / "run"
    code, _ = attempt(store, run, Killed(kind, number))
    assert code == -signal.SIGKILL
    assert attempt(store, run) == (0, "")
    assert outcome(run) == reference
    # The leftovers of the killed run are removed, except files with other names.
    assert len([path for path in run.rglob("*.moola-tmp") if "step" not in path.name]) == 0


def test_an_interrupted_training_resumes(
    store: Path, tmp_path: Path, reference: dict[str, Any], attempt: Any
) -> None:
    run = tmp_path / "run"
    for step in (3, 5, 9):
        code, said = attempt(store, run, Killed("interrupt", step))
        assert (code, said) == (3, "KeyboardInterrupt: ")
        kept = Checkpoints(run / "checkpoints").latest(pytest.fail)
        assert kept is not None
        assert kept.record["step"] == step, "a checkpoint is saved before it stops"
    assert attempt(store, run) == (0, "")
    assert outcome(run) == reference


def test_a_full_disk_keeps_the_last_checkpoint(
    store: Path, tmp_path: Path, reference: dict[str, Any], attempt: Any
) -> None:
    run = tmp_path / "run"
    # Room for the small files, but not for a checkpoint.
    code, _ = attempt(store, run, Killed("room", 4096))
    assert code == 3
    assert not list((run / "checkpoints").glob("*"))
    assert attempt(store, run) == (0, "")
    assert outcome(run) == reference


def test_a_full_disk_is_an_error(store: Path, tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from moola.training.pretraining import pretrain\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"pretrain({str(store)!r}, {str(tmp_path / 'run')!r}, model={TINY!r}, **{SHORT!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert re.search(
        r"StoreWriteError: .*step-0000000002.safetensors: cannot be written: File too large", done.stderr
    )
    assert "Raise the limit on file sizes" in done.stderr


def flip(position: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(position * (len(content) - 1))] ^= 0x10
        path.write_bytes(content)

    return damage


def rewrite(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        tensors = load_weights(path).tensors
        change(tensors)
        save_file(tensors, path)

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "a byte less": lambda path: os.truncate(path, path.stat().st_size - 1),
    "a byte more": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "a bit of its header": flip(0.01),
    "a bit in its midst": flip(0.5),
    "its last bit": flip(1.0),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "another kind of file": lambda path: path.write_bytes(b"%PDF-1.7\n" * 500),
    "without its record": rewrite(lambda tensors: None),
    "a tensor less": rewrite(lambda tensors: tensors.popitem() and None),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    store: Path, tmp_path: Path, reference: dict[str, Any], attempt: Any, damage: str
) -> None:
    run = tmp_path / "run"
    assert attempt(store, run, Killed("step", 5))[0] == -signal.SIGKILL
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["step-0000000002.safetensors", "step-0000000004.safetensors"]
    DAMAGES[damage](run / "checkpoints" / names[-1])
    said: list[str] = []
    train(store, run, resume=True, say=said.append)
    assert len(said) == 1
    assert said[0].startswith(f"checkpoint {names[-1]} ")
    assert said[0].endswith("; resuming from the one before it")
    assert outcome(run) == reference


def test_damage_of_every_checkpoint_is_an_error(store: Path, tmp_path: Path, attempt: Any) -> None:
    run = tmp_path / "run"
    assert attempt(store, run, Killed("step", 5))[0] == -signal.SIGKILL
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"")
    said: list[str] = []
    with pytest.raises(WeightsError, match=r"every checkpoint is damaged.*start again in another directory"):
        train(store, run, resume=True, say=said.append)
    assert len(said) == 2


def test_a_log_that_was_cut_short_is_noticed(store: Path, tmp_path: Path, attempt: Any) -> None:
    run = tmp_path / "run"
    assert attempt(store, run, Killed("step", 5))[0] == -signal.SIGKILL
    os.truncate(run / "metrics.jsonl", 10)
    with pytest.raises(RunError, match=r"metrics\.jsonl is shorter than its checkpoint records"):
        train(store, run, resume=True)


def test_two_trainings_in_one_run_are_refused(store: Path, tmp_path: Path) -> None:
    inner: list[Exception] = []

    def report(_: Any) -> None:
        if not inner:
            try:
                train(store, tmp_path / "run", resume=True)
            except RunError as error:
                inner.append(error)

    train(store, tmp_path / "run", report=report)
    assert "another process is training there" in str(inner[0])


def test_checkpoints_keep_the_last_two(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    assert checkpoints.latest(pytest.fail) is None
    for step in (1, 5, 10, 100):
        checkpoints.save(step, {"a": torch.tensor([step])}, {"step": step})
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        "step-0000000010.safetensors",
        "step-0000000100.safetensors",
    ]
    latest = checkpoints.latest(pytest.fail)
    assert latest is not None
    assert latest.record == {"step": 100}


def test_the_step_log_returns_every_row_once() -> None:
    log, read = StepLog(4, 2, torch.device("cpu")), []
    for step in range(1, 11):
        if step == 7:
            kept = log.state().clone()
            log = StepLog(4, 2, torch.device("cpu"))
            log.restore(kept)
        read += log.add(step, torch.tensor(float(step)), torch.tensor(-1.0))
    read += log.flush(10)
    assert [(rows.last_step, rows.values[:, 0].tolist()) for rows in read] == [
        (4, [1, 2, 3, 4]),
        (8, [5, 6, 7, 8]),
        (10, [9, 10]),
    ]
    assert log.flush(10) == []
