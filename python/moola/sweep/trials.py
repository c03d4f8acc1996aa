"""Trials shared by any number of workers, each of which may be killed at any moment.

Optuna's journal records the trials, their outcomes and the worker of each; every selection is a study in it. Each
worker touches a file every few seconds, which shows that it is alive. Trials are handed out under a lock, which the
system frees when its holder dies: no two workers get the same trial, and none is left out.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from moola.errors import RunError
from moola.sweep.space import Space, Values

__all__ = ["LOCK", "Claim", "Studies", "Worker", "locked"]

JOURNAL, WORKERS, LOCK = "journal.log", "workers", "lock"

_RETRIES = 3
_SPENT = (TrialState.COMPLETE, TrialState.PRUNED)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lets one process in at a time, also across machines if their file system has locks (NFS has from version 4)."""
    with open(directory / LOCK, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Worker:
    """This process, with the file that shows the other workers that it is alive.

    Args:
        directory: The directory of the sweep.
        stale_after: Seconds without a sign of life after which a worker counts as dead.
    """

    def __init__(self, directory: Path, stale_after: float) -> None:
        self.name = f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.stale_after = stale_after
        self._folder = directory / WORKERS
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> Self:
        self._folder.mkdir(exist_ok=True)
        self._touch()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        (self._folder / self.name).unlink(missing_ok=True)

    def sees(self, other: str) -> bool:
        """Whether a worker is alive."""
        try:
            last = (self._folder / other).stat().st_mtime
        except FileNotFoundError:
            return False
        # Both times come from the file system, because the clocks of two machines may differ.
        self._touch()
        return (self._folder / self.name).stat().st_mtime - last <= self.stale_after

    def _touch(self) -> None:
        (self._folder / self.name).touch()

    def _live(self) -> None:
        while not self._ended.wait(self.stale_after / 6):
            self._touch()


@dataclass(frozen=True)
class Claim:
    """A trial that this worker has claimed."""

    study: int
    """The number of its selection."""
    trial: optuna.Trial
    values: Values
    """The candidate to try."""


class Studies:
    """The trials of several selections in one journal.

    Args:
        directory: The directory of the sweep.
        names: The names of the studies.
        space: The space to search.
        trials: Number of candidates of each study.
        seed: Determines the candidates. Each study and each trial has its own seed, so that a single worker tries the
            same candidates however often it was stopped between them.
        worker: The worker that claims trials.

    Raises `RunError` for a damaged journal.
    """

    def __init__(
        self, directory: Path, names: Sequence[str], space: Space, trials: int, seed: int, worker: Worker
    ) -> None:
        self._directory, self._space, self._worker = directory, space, worker
        grid = space.grid()
        self.trials = trials if grid is None else min(trials, len(grid))
        better = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
        with locked(directory):
            storage = JournalStorage(_mended(directory / JOURNAL))
            self._studies = [
                optuna.create_study(
                    storage=storage,
                    study_name=name,
                    sampler=_Sampler(space.sampler, (seed, number)),
                    pruner=optuna.pruners.MedianPruner() if space.prune else optuna.pruners.NopPruner(),
                    direction=better[not space.scored_by.greater_is_better],
                    load_if_exists=True,
                )
                for number, name in enumerate(names)
            ]
            if grid is not None:
                self._queue(grid, seed)

    def _queue(self, grid: list[Values], seed: int) -> None:
        """Queues the missing combinations of the grid, in random order, so that fewer trials are a fair sample."""
        order = np.random.default_rng(seed).permutation(len(grid))
        for study in self._studies:
            there = {trial.user_attrs.get("combination") for trial in study.get_trials(deepcopy=False)}
            for number in order[: self.trials].tolist():
                if number not in there:
                    study.enqueue_trial(grid[number], user_attrs={"combination": number})

    def claim(self) -> Claim | None:
        """Claims the next trial, in the order of the studies; None if all are done or claimed by other workers."""
        with locked(self._directory):
            for number, study in enumerate(self._studies):
                self._revive(study)
                states = [trial.state for trial in study.get_trials(deepcopy=False)]
                begun = sum(state != TrialState.FAIL for state in states)
                if TrialState.WAITING in states or begun < self.trials:
                    trial = study.ask()
                    trial.set_user_attr("worker", self._worker.name)
                    return Claim(number, trial, self._space.suggest(trial))
        return None

    @property
    def finished(self) -> bool:
        """Whether every study has finished its trials."""
        return all(
            len(study.get_trials(deepcopy=False, states=_SPENT)) >= self.trials for study in self._studies
        )

    def tell(self, claim: Claim, value: float) -> None:
        """Records a candidate's score."""
        # If this worker counted as dead, another has recorded a score, or will.
        self._studies[claim.study].tell(claim.trial, value, skip_if_finished=True)

    def give_up(self, claim: Claim, why: str) -> None:
        """Records that a candidate was given up, and the reason."""
        try:
            claim.trial.set_user_attr("why", why)
        except UpdateFinishedTrialError:
            return
        self._studies[claim.study].tell(claim.trial, state=TrialState.PRUNED, skip_if_finished=True)

    def give_back(self, claim: Claim) -> None:
        """Queues a running trial again, for the next worker that claims one."""
        with locked(self._directory):
            study = self._studies[claim.study]
            frozen = next(trial for trial in study.get_trials() if trial.number == claim.trial.number)
            if frozen.state == TrialState.RUNNING:
                self._again(study, frozen, frozen.user_attrs.get("retries", 0))

    def best(self, study: int) -> FrozenTrial | None:
        """The best trial of a study; None if none was completed."""
        done = self._studies[study].get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return self._studies[study].best_trial if done else None

    def count(self, study: int, state: TrialState) -> int:
        """The number of a study's trials in a state."""
        return len(self._studies[study].get_trials(deepcopy=False, states=(state,)))

    def _revive(self, study: optuna.Study) -> None:
        """Queues the trials of dead workers again; after three retries it prunes them."""
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            worker = trial.user_attrs.get("worker")
            # This worker holds the lock, so a trial without a worker is one whose worker died within `claim`.
            if worker is not None and self._worker.sees(worker):
                continue
            retries = trial.user_attrs.get("retries", 0) + 1
            if retries > _RETRIES:
                study.tell(trial.number, state=TrialState.PRUNED, skip_if_finished=True)
            else:
                self._again(study, trial, retries)

    def _again(self, study: optuna.Study, trial: FrozenTrial, retries: int) -> None:
        kept = {name: value for name, value in trial.user_attrs.items() if name != "worker"}
        params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        # In this order, a worker that dies in between leaves one candidate too many, not one too few.
        study.enqueue_trial(params, user_attrs=kept | {"retries": retries})
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _mended(path: Path) -> JournalFileBackend:
    """Opens a journal, new or old, and cuts off an incomplete last line, as a full disk or a power cut leaves it.

    The content of that line is lost, so its trial is tried again. Raises `RunError` if another line is not JSON.
    """
    # Optuna's own lock, because another worker may be writing a line.
    lock = JournalFileSymlinkLock(str(path))
    journal = JournalFileBackend(str(path), lock)
    lock.acquire()
    try:
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
    finally:
        lock.release()
    for number, line in enumerate(content[:whole].splitlines(), start=1):
        try:
            json.loads(line)
        except ValueError as error:
            advice = "Restore it from a copy, or start again in another directory"
            raise RunError(path, f"is damaged in line {number}: {error}", advice) from None
    return journal


class _Sampler(BaseSampler):
    """One of Optuna's samplers, seeded for each trial by its number."""

    def __init__(self, kind: str, entropy: tuple[int, ...]) -> None:
        self._kind, self._entropy = kind, entropy
        self._inner: BaseSampler = RandomSampler()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        state = np.random.SeedSequence((*self._entropy, trial.number)).generate_state(1)
        seed = int(state[0])
        # The constant liar counts candidates of other running trials as bad, so it does not try the same.
        liar = self._kind == "tpe"
        self._inner = TPESampler(seed=seed, constant_liar=True) if liar else RandomSampler(seed)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)
