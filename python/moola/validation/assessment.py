"""The whole report on a cross-validated model, and where it is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from moola.errors import ConfigError
from moola.evaluation.baselines import baseline_predictions
from moola.evaluation.calibration import TemperatureScaling, cross_fitted, log_probabilities
from moola.evaluation.intervals import Resamples
from moola.evaluation.outcomes import Predictions
from moola.evaluation.report import Evaluation, evaluate
from moola.training.runs import write_record
from moola.validation.luck import Luck
from moola.validation.records import CrossValidation

__all__ = ["EVALUATION", "assess", "baselines_of", "temperature_of", "write_assessment"]

EVALUATION = "evaluation.json"


def baselines_of(
    validation: CrossValidation, *, seed: int, n_jobs: int | None = None
) -> dict[str, list[Predictions]]:
    """What every model stands beside, in the same folds of all repeats: majority, guessing, mean span, regression."""
    found: dict[str, list[Predictions]] = {}
    windows = validation.windows
    for splits in validation.splits:
        of_repeat = baseline_predictions(
            windows.X, validation.truth, splits, seed=seed, valid_mask=windows.valid_mask, n_jobs=n_jobs
        )
        for name, said in of_repeat.items():
            found.setdefault(name, []).extend(said)
    return found


def assess(
    validation: CrossValidation,
    model: str,
    *,
    baselines: Mapping[str, Sequence[Predictions]] | None = None,
    luck: Luck | None = None,
    resamples: Resamples | None = None,
    seed: int = 0,
    n_jobs: int | None = None,
) -> Evaluation:
    """Scores one of the models, beside the baselines and all other models of the same cross-validation.

    Among the others is the same model from scratch, where this one has an encoder. Windows that the encoder has seen
    are scored apart. Beside log loss and calibration error stands what temperature scaling makes of them, each
    fold's temperature from the logits of the other folds.

    Args:
        model: Its name among `validation.members`.
        baselines: What :func:`baselines_of` gave; it is asked unless given.
        luck: What :func:`moola.validation.luck.luck_of` gave.
        resamples: Of `validation.truth`, where several models are assessed: each is then resampled once. Drawn with
            `seed` unless given.
        seed: Of guesses and resamples.
        n_jobs: Of the baselines.

    Raises `ConfigError` for another name, and what :func:`moola.evaluation.evaluate` raises.
    """
    said = validation.predictions(model)
    # The mean of all repeats was made in all their folds, and has none of its own to compare.
    own_folds = len(said) == len(validation.splits)
    beside = dict(baselines if baselines is not None else baselines_of(validation, seed=seed, n_jobs=n_jobs))
    beside |= {name: validation.predictions(name) for name in validation.members if name != model}
    calibrated = [_cross_fitted(one, validation) for one in said if one.probabilities is not None]
    if not own_folds:
        said = list(map(_without_folds, said))
    found = evaluate(
        validation.truth,
        said,
        model=model,
        baselines={
            name: several
            if own_folds and (len(several) >= len(validation.splits))
            else list(map(_without_folds, several))
            for name, several in beside.items()
        },
        null=None if luck is None else luck.null,
        calibrated=calibrated or None,
        seed=seed,
        resamples=resamples or Resamples(validation.truth, seed=seed),
    )
    return found if luck is None else replace(found, notes=[*found.notes, luck.note])


def _cross_fitted(said: Predictions, validation: CrossValidation) -> Predictions:
    """The same, calibrated: each fold by a temperature that was fitted on the other folds."""
    assert said.probabilities is not None
    assert said.folds is not None
    logits = log_probabilities(said.probabilities)
    return Predictions(cross_fitted(logits, validation.truth.y, said.folds))


def _without_folds(said: Predictions) -> Predictions:
    return Predictions(said.probabilities, said.spans)


def temperature_of(validation: CrossValidation, model: str) -> float | None:
    """What the model's logits should be divided by, from its out-of-fold predictions of all repeats."""
    logits = [one.logits for one in validation.members[model]]
    several = [one for one in logits if one is not None]
    if not several:
        return None
    y = np.tile(validation.truth.y, len(several))
    return TemperatureScaling().fit(np.concatenate(several), y).temperature


def write_assessment(
    directory: Path, validation: CrossValidation, evaluations: Mapping[str, Evaluation]
) -> list[Path]:
    """Writes `evaluation.json` and the pictures of each model into a directory; gives the paths.

    Pictures are of the first repeat.
    """
    from moola.evaluation.figures import (
        confusion_matrix,
        null_histogram,
        reliability_diagram,
        save_png,
        spans_against_truth,
    )

    if unknown := sorted(set(evaluations) - set(validation.members)):
        raise ConfigError("model", f"{unknown[0]!r} was not cross-validated here")
    record: dict[str, Any] = {}
    paths = [directory / EVALUATION]
    truth = validation.truth
    for name, evaluation in evaluations.items():
        several = validation.members[name]
        spreads = [one.spread for one in several if one.spread is not None]
        record[name] = evaluation.record() | {
            "sentences": evaluation.sentences(),
            "temperature": temperature_of(validation, name),
            "mean_dropout_spread": float(np.mean(spreads)) if spreads else None,
            "fit_seconds": sum(one.seconds for one in several),
        }
        said = several[0].predictions
        drawn = {}
        if said.probabilities is not None:
            drawn["reliability"] = reliability_diagram(truth, said)
            drawn["confusion"] = confusion_matrix(truth, said)
        if said.spans is not None and truth.spans is not None:
            drawn["spans"] = spans_against_truth(truth, said, validation.windows.window_length)
        drawn |= {
            f"null-{metric}": null_histogram(null)
            for metric, null in evaluation.null.items()
            if metric in ("macro_f1", "span_hits") and not np.isnan(null.value)
        }
        stem = re.sub(r"[^\w.]+", "-", name)
        paths += [save_png(figure, directory / f"{stem}-{kind}.png") for kind, figure in drawn.items()]
    write_record(directory / EVALUATION, {"models": record})
    return paths
