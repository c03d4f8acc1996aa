"""Ensembles of fine-tuned runs: one directory that predicts with all members, calibrated on out-of-fold logits."""

from __future__ import annotations

# First, because its error says what to install if torch is missing.
import moola.models  # noqa: F401

# isort: split
import copy
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from moola.errors import ConfigError, RunError
from moola.evaluation.baselines import BASELINES
from moola.evaluation.calibration import TemperatureScaling, cross_fitted, log_probabilities
from moola.evaluation.outcomes import Floats, Predictions
from moola.evaluation.report import Evaluation, evaluate
from moola.files.publishing import UNFINISHED
from moola.models.weights import load_weights, weights_path
from moola.prediction.models import ENSEMBLE, FinetunedModels, member_runs
from moola.runs.directory import RESULT, new_directory, write_record
from moola.runs.out_of_fold import OUT_OF_FOLD, OutOfFoldRecord
from moola.validation.cross_validation import FROM_SCRATCH
from moola.validation.ensembles import mean_spans

__all__ = ["RunEnsemble", "combine_runs"]

_NO_PERMUTATION_TEST = (
    "there is no permutation test: runs keep no windows to fit on shuffled labels; each member's own report has one, "
    "and moola ensemble makes one of a cross-validation's mean"
)


@dataclass(frozen=True)
class RunEnsemble:
    """An ensemble that :func:`combine_runs` made of fine-tuned runs."""

    path: Path
    """Its directory, which is all that :func:`moola.predict` needs."""
    members: tuple[str, ...]
    """The directories of its members, relative to `path`."""
    classes: tuple[str, ...]
    temperature: float | None
    """The temperature of the mean of the members' calibrated probabilities; None if the mean is not calibrated."""
    evaluation: Evaluation | None
    """Its out-of-fold scores, compared with its members, with the baselines and, if all members have an encoder, with
    the same ensemble from scratch; None if the members' out-of-fold logits cannot be combined."""
    notes: tuple[str, ...]
    """Notes for the user, such as why the mean is not calibrated."""


def combine_runs(
    runs: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str], *, seed: int = 17
) -> RunEnsemble:
    """Combines several fine-tuned runs, such as several seeds, in one directory that :func:`moola.predict` takes.

    The members are copied into it, so the directory can be moved. Its probabilities are the mean of the members', each
    calibrated by its own temperature, and its spans are the median of theirs. If all members were fine-tuned on the
    same labelled windows and kept their out-of-fold logits, the mean is calibrated and evaluated as well. Both use
    each member's out-of-fold prediction of a window, so members may have different folds. For the evaluation, all
    temperatures are fitted on the other folds of the first member.

    Args:
        runs: Directories of runs. An ensemble contributes its members.
        output: The directory to write; it must be new.
        seed: Seed of the resamples.

    Raises `ConfigError` for fewer than two runs, `RunError` for a run that is given twice, for runs that cannot be
    combined and for an existing `output`, `FeatureMismatchError` for runs with different features, `LeakError` if a
    logit comes from a model that has seen its window, and `WeightsError`.
    """
    paths = member_runs(runs)
    if len(paths) < 2:
        raise ConfigError("runs", f"names {len(paths)}, which leaves nothing to average; give two or more")
    models = FinetunedModels.load(paths)
    digests = [load_weights(weights_path(path)).digest for path in paths]
    for number, digest in enumerate(digests):
        first = digests.index(digest)
        if first < number:
            raise RunError(paths[number], f"holds the same weights as {paths[first]}", "Give each run once")
    members = tuple(f"members/{number}-{path.resolve().name}" for number, path in enumerate(paths, start=1))
    notes, temperature, evaluation = [], None, None
    records, problem = _out_of_fold_records(paths)
    if problem is None:
        temperature = _temperature(records, models)
        evaluation = _evaluated(records, models, members, seed)
    else:
        notes.append(
            f"the mean of the members' calibrated probabilities is neither calibrated nor evaluated: {problem}"
        )
    directory = new_directory(output)
    for path, name in zip(paths, members, strict=True):
        shutil.copytree(path, directory / name, ignore=shutil.ignore_patterns(f"*{UNFINISHED}"))
    made = RunEnsemble(directory, members, models.classes, temperature, evaluation, tuple(notes))
    said = [] if evaluation is None else evaluation.summary()
    parameters = sum(p.numel() for model in models.models for p in model.parameters())
    result = {
        "members": list(members),
        "classes": list(models.classes),
        "temperature": temperature,
        # The parameters of all members, per window that they were fine-tuned on.
        "parameters_per_window": None if not records else parameters / len(records[0].truth),
        "evaluation": None if evaluation is None else evaluation.record(),
        "report": [*notes, *said],
    }
    write_record(directory / RESULT, result)
    # Written last, because it makes the directory an ensemble.
    write_record(directory / ENSEMBLE, {"members": list(members), "temperature": temperature})
    return made


def _out_of_fold_records(paths: Sequence[Path]) -> tuple[list[OutOfFoldRecord], str | None]:
    """The runs' out-of-fold records and None; if they cannot be combined, an empty list and the reason."""
    for path in paths:
        if not (path / OUT_OF_FOLD).exists():
            return [], f"{path} has no out-of-fold logits"
    found = [OutOfFoldRecord.load(path) for path in paths]
    for path, one in zip(paths, found, strict=True):
        if one.fingerprint != found[0].fingerprint:
            return [], f"{path} was fine-tuned on other windows or labels than {paths[0]}"
    return found, None


def _temperature(records: Sequence[OutOfFoldRecord], models: FinetunedModels) -> float:
    mean = _mean(records, models.calibrations)
    return TemperatureScaling().fit(log_probabilities(mean), records[0].truth.y).temperature


def _mean(records: Sequence[OutOfFoldRecord], calibrations: Sequence[TemperatureScaling]) -> Floats:
    """`[n, C]`: for each window, the mean of the members' out-of-fold predictions."""
    calibrated = [
        scaling.probabilities(one.out_of_fold.logits)
        for one, scaling in zip(records, calibrations, strict=True)
    ]
    mean: Floats = np.mean(calibrated, axis=0)
    return mean


def _evaluated(
    records: Sequence[OutOfFoldRecord], models: FinetunedModels, members: Sequence[str], seed: int
) -> Evaluation:
    truth, folds = copy.copy(records[0].truth), records[0].out_of_fold.folds
    # Members may have been pre-trained on different bars.
    truth.seen = np.any([one.truth.seen for one in records], axis=0)
    probabilities = np.empty_like(records[0].out_of_fold.logits)
    for fold in np.unique(folds):
        mine = folds == fold
        y = truth.y[~mine]
        own = [TemperatureScaling().fit(one.out_of_fold.logits[~mine], y) for one in records]
        logits = log_probabilities(_mean(records, own))
        probabilities[mine] = TemperatureScaling().fit(logits[~mine], y).probabilities(logits[mine])
    spans = None
    if truth.spans is not None:
        spans = models.spans([one.places for one in records], probabilities)
    each = {name.partition("/")[2]: [one.predictions] for name, one in zip(members, records, strict=True)}
    # The mean comes from the folds of all members, so it has no folds of its own to compare.
    beside = _trivial(records[0]) | _from_scratch(records) | each
    found = evaluate(
        truth,
        Predictions(probabilities, spans),
        model="ensemble",
        baselines={
            name: [Predictions(one.probabilities, one.spans) for one in several]
            for name, several in beside.items()
        },
        seed=seed,
    )
    return replace(found, permutation_note=_NO_PERMUTATION_TEST)


def _trivial(first: OutOfFoldRecord) -> dict[str, Sequence[Predictions]]:
    """The trivial baselines, in the folds of the first member."""
    return {name: several for name, several in first.baselines.items() if name in BASELINES}


def _from_scratch(records: Sequence[OutOfFoldRecord]) -> dict[str, Sequence[Predictions]]:
    """The mean of the same members from scratch, calibrated in the same way; empty if a member lacks that baseline."""
    each = [
        several[0]
        for one in records
        for name, several in one.baselines.items()
        if name.endswith(FROM_SCRATCH)
    ]
    said = [one.probabilities for one in each if one.probabilities is not None]
    if len(said) < len(records):
        return {}
    first = records[0]
    logits = log_probabilities(np.mean(said, axis=0))
    probabilities = cross_fitted(logits, first.truth.y, first.out_of_fold.folds)
    spans = [one.spans for one in each if one.spans is not None]
    return {f"ensemble{FROM_SCRATCH}": [Predictions(probabilities, mean_spans(spans) if spans else None)]}
