"""Directories and workers: stopped, killed and resumed; and the command."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal import JournalFileSymlinkLock
from optuna.trial import TrialState
from sweeping import FOLDS, STRENGTH, make_windows, search, start, studies_of, tried
from typer.testing import CliRunner

from moola.cli import app
from moola.errors import RunError
from moola.evaluation.baselines import PooledLogisticRegression
from moola.sweep import read_space
from moola.sweep.trials import WORKERS, Studies, Worker


def test_foreign_directories_and_other_sweeps_are_left_alone(tmp_path: Path) -> None:
    search(tmp_path / "sweep", trials=1)
    with pytest.raises(
        RunError, match=r"the sweep was begun with seed 3, not 4. Continue it with those settings"
    ):
        search(tmp_path / "sweep", trials=1, seed=4)
    with pytest.raises(RunError, match=r"begun with estimator.C '1.0', not '2.0'; windows '\w+', not '\w+'"):
        search(
            tmp_path / "sweep", trials=1, estimator=PooledLogisticRegression(2.0), windows=make_windows(64)
        )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(RunError, match=r"is not a sweep: it holds notes.txt. Choose another --output"):
        search(tmp_path / "mine")
    assert os.listdir(tmp_path / "mine") == ["notes.txt"]
    with pytest.raises(RunError, match="is not a directory"):
        search(tmp_path / "mine" / "notes.txt")


class Interrupted(PooledLogisticRegression):
    fits: int

    def fit(self, X: Any, y: Any, **others: Any) -> Interrupted:
        Interrupted.fits += 1
        if Interrupted.fits == 6:
            raise KeyboardInterrupt
        super().fit(X, y, **others)
        return self


def test_the_interrupted_candidate_is_tried_first(tmp_path: Path) -> None:
    Interrupted.fits = 0
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "sweep", estimator=Interrupted())
    assert not list((tmp_path / "sweep" / WORKERS).iterdir())
    study = studies_of(tmp_path / "sweep")[0]
    assert [t.state.name for t in study.trials] == ["COMPLETE", "COMPLETE", "FAIL", "WAITING"]
    search(tmp_path / "sweep", estimator=Interrupted())
    after = study.get_trials()
    assert after[3].params == after[2].params
    assert [len(s) for s in tried(tmp_path / "sweep")] == [4] * (FOLDS + 1)


def worker(directory: Path, name: str) -> Studies:
    alive = Worker(directory, stale_after=5.0)
    (directory / WORKERS).mkdir(exist_ok=True)
    alive._touch()
    return Studies(directory, [name], read_space(STRENGTH), 3, 0, alive)


def test_a_late_worker_presumed_dead_changes_nothing(tmp_path: Path) -> None:
    slow, quick = worker(tmp_path, "a"), worker(tmp_path, "a")
    lost = slow.claim()
    assert lost is not None
    assert quick.claim().values != lost.values  # type: ignore[union-attr]
    old = time.time() - 6
    os.utime(tmp_path / WORKERS / slow._worker.name, (old, old))
    again = quick.claim()
    assert again is not None
    assert again.values == lost.values
    slow.tell(lost, 0.1)
    slow.give_up(lost, "worse")
    slow.give_back(lost)
    quick.tell(again, 0.2)
    assert [t.value for t in quick._studies[0].get_trials(states=(TrialState.COMPLETE,))] == [0.2]
    assert len(quick._studies[0].trials) == 3


def test_a_candidate_that_kills_four_workers_is_dropped(tmp_path: Path) -> None:
    for _ in range(4):
        doomed = worker(tmp_path, "a")
        claim = doomed.claim()
        assert claim is not None
        (tmp_path / WORKERS / doomed._worker.name).unlink()
    survivor = worker(tmp_path, "a")
    other = survivor.claim()
    assert other is not None
    assert other.values != claim.values
    states = [trial.state.name for trial in survivor._studies[0].trials]
    assert states == ["FAIL", "FAIL", "FAIL", "PRUNED", "RUNNING"]


def test_an_incomplete_last_line_of_the_journal_is_removed(tmp_path: Path) -> None:
    first = worker(tmp_path, "a")
    claim = first.claim()
    assert claim is not None
    first.tell(claim, 0.5)
    journal = tmp_path / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":8,"worker_')
    again = worker(tmp_path, "a")
    assert journal.read_bytes().startswith(whole)
    claim = again.claim()
    assert claim is not None
    again.tell(claim, 0.4)
    assert [trial.value for trial in again._studies[0].get_trials(states=(TrialState.COMPLETE,))] == [
        0.5,
        0.4,
    ]
    for line in journal.read_bytes().splitlines():
        json.loads(line)


def test_a_line_that_another_worker_is_writing_is_left_whole(tmp_path: Path) -> None:
    other = worker(tmp_path, "a")
    other._studies[0].set_user_attr("said", "whole")
    journal = tmp_path / "journal.log"
    *before, line = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(before) + line[:20])
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()

    def end() -> None:
        with journal.open("ab") as file:
            file.write(line[20:])
        lock.release()

    timer = threading.Timer(0.3, end)
    timer.start()
    assert worker(tmp_path, "a")._studies[0].user_attrs == {"said": "whole"}
    timer.join()


@pytest.mark.parametrize(
    "line", [b'{"op_code":8,"worker_', b"\0" * 40, b"\xff"], ids=["half", "zeros", "bytes"]
)
def test_a_journal_that_is_damaged_elsewhere_is_an_error(tmp_path: Path, line: bytes) -> None:
    worker(tmp_path, "a").claim()
    journal = tmp_path / "journal.log"
    lines = journal.read_bytes().splitlines()
    lines[1] = line
    journal.write_bytes(b"\n".join([*lines, b""]))
    with pytest.raises(
        RunError,
        match=r"journal\.log: is damaged in line 2: .*\. Restore it from a copy, or start again in another directory",
    ):
        worker(tmp_path, "a")


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_other_workers_and_a_later_start_continue_after_a_kill(tmp_path: Path) -> None:
    killed, other = start(tmp_path), start(tmp_path)
    (tmp_path / "stuck").touch()
    go_on(killed)
    running: list[Any] = []
    deadline = time.monotonic() + 60
    while not running and time.monotonic() < deadline:
        time.sleep(0.05)
        if (tmp_path / "sweep" / WORKERS).exists():
            with contextlib.suppress(KeyError):
                running = studies_of(tmp_path / "sweep")[0].get_trials(states=(TrialState.RUNNING,))
            running = [trial for trial in running if trial.params]
    # In the middle of a candidate.
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    (tmp_path / "stuck").unlink()
    go_on(other)
    said: list[str] = []
    slow = {"estimator": PooledLogisticRegression(), "stale_after": 5.0, "trials": 6}
    result = search(tmp_path / "sweep", say=said.append, **slow)
    output, _ = other.communicate(timeout=120)
    assert other.returncode == 0
    # No candidate was tried twice, and none is missing.
    assert len(said) + output.count("trial") == 6 * (FOLDS + 1)
    assert [len(study) for study in tried(tmp_path / "sweep")] == [6] * (FOLDS + 1)
    studies = studies_of(tmp_path / "sweep")
    lost, *more = studies[0].get_trials(states=(TrialState.FAIL,))
    assert not more
    assert lost.number == running[0].number
    assert lost.params in [params for params, _, _ in tried(tmp_path / "sweep")[0]]
    left = (TrialState.RUNNING, TrialState.WAITING)
    assert not any(study.get_trials(states=left) for study in studies)
    # Every start gives the same result, including a later one.
    later = search(tmp_path / "sweep", say=said.append, **slow)
    assert later.record() == result.record()
    assert later.evaluation.record() == json.loads((tmp_path / "sweep" / "evaluation.json").read_text())
    assert len(said) + output.count("trial") == 6 * (FOLDS + 1)
    for pipe in (killed.stdin, killed.stdout):
        assert pipe is not None
        pipe.close()


def test_the_command_sweeps_jade_over_labels(tmp_path: Path) -> None:
    make_windows(24).save(tmp_path / "labels.safetensors")
    (tmp_path / "space.yaml").write_text(
        "sampler: grid\nparameters:\n  training.finetune.lr: {choices: [0.001, 0.01]}\n"
    )
    words = [
        "sweep",
        "--labels",
        tmp_path / "labels.safetensors",
        "--space",
        tmp_path / "space.yaml",
        "--trials",
        9,
    ]
    words += ["--output", tmp_path / "sweep", "--folds", 2, "--inner-folds", 2, "--device", "cpu"]
    words += ["--set", "model.architecture.hidden_size=2", "--set", "training.finetune.epochs=1"]
    words += ["--set", "augmentation=null", "--permutations", 1]
    shown = CliRunner().invoke(app, [str(word) for word in words])
    assert shown.exit_code == 0, shown.output
    assert re.search(r"fold 1, trial 1, {'training.finetune.lr': 0.01?0?1?}: log loss 0\.\d{4}", shown.stderr)
    assert re.search(r"within +training.finetune.lr +inner log_loss +tried +pruned", shown.stdout)
    assert re.search(r"all windows +0\.0\d+ +0\.\d{4} +2 +0", shown.stdout)
    assert re.search(r"against without a sweep: .*no difference shown in", shown.stdout)
    assert len(re.findall(r"^against ", shown.stdout, re.MULTILINE)) == 5
    # Groups of two, one of each class.
    assert (
        "the permutation test was left out: groups of windows of the same size all have the same"
        in shown.stdout
    )
    assert re.search(r"chosen: training.finetune.lr=0.0\d+\n$", shown.stdout)
    again = CliRunner().invoke(app, [*(str(word) for word in words), "--json"])
    record = json.loads(again.stdout)
    assert record["chosen"]["completed"] == 2
    assert record["evaluation"]["scores"]["macro_f1"]["value"] is not None
    refused = CliRunner().invoke(app, [*(str(word) for word in words), "--seed", "3"])
    assert refused.exit_code == 1
    assert "the sweep was begun with estimator.seed '17', not '3'; seed 17, not 3" in refused.stderr
