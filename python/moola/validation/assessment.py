"""The evaluation of a cross-validated model, and its files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from moola.errors import ConfigError
from moola.evaluation.baselines import baseline_predictions
from moola.evaluation.calibration import TemperatureScaling, cross_fitted, log_probabilities
from moola.evaluation.intervals import Resamples
from moola.evaluation.outcomes import Predictions
from moola.evaluation.permutation import PermutationTest
from moola.evaluation.report import Evaluation, evaluate
from moola.files.lazy import lazy_names
from moola.files.renamed import renamed_keywords
from moola.runs.directory import read_record, write_record
from moola.validation.dropout import DRAWS
from moola.validation.permutation import PermutationResult
from moola.validation.records import CrossValidation

__all__ = [
    "EVALUATION",
    "assess",
    "baselines_of",
    "dropout_sentence",
    "kept_permutation_tests",
    "temperature_of",
    "write_assessment",
]

EVALUATION = "evaluation.json"

# The metrics whose permutation tests are drawn.
_DRAWN = ("macro_f1", "span_hits")


def baselines_of(
    validation: CrossValidation, *, seed: int, n_jobs: int | None = None
) -> dict[str, list[Predictions]]:
    """The baselines in the same folds of all repeats: majority, guessing, mean span and regression."""
    found: dict[str, list[Predictions]] = {}
    windows = validation.windows
    for splits in validation.splits:
        of_repeat = baseline_predictions(
            windows.X, validation.truth, splits, seed=seed, valid_mask=windows.valid_mask, n_jobs=n_jobs
        )
        for name, said in of_repeat.items():
            found.setdefault(name, []).extend(said)
    return found


@renamed_keywords(luck="tested")
def assess(
    validation: CrossValidation,
    model: str,
    *,
    baselines: Mapping[str, Sequence[Predictions]] | None = None,
    tested: PermutationResult | None = None,
    resamples: Resamples | None = None,
    seed: int = 0,
    n_jobs: int | None = None,
) -> Evaluation:
    """Scores one model, and compares it with the baselines and all other models of the same cross-validation.

    If the model has an encoder, the others include the same model from scratch. Windows that the encoder has seen in
    pre-training are scored separately. Log loss and calibration error are also given after temperature scaling, each
    fold with a temperature fitted to the logits of the other folds.

    Args:
        model: Its name in `validation.members`.
        baselines: The result of :func:`baselines_of`, which is called if not given.
        tested: The result of :func:`moola.validation.permutation.permutation_test_of`, or of
            :func:`kept_permutation_tests`.
        resamples: Resamples of `validation.truth`, to share when several models are assessed. Drawn with `seed` if not
            given.
        seed: Seed of guesses and resamples.
        n_jobs: Fits of baselines at a time.

    Raises `ConfigError` for another name, and what :func:`moola.evaluation.evaluate` raises.
    """
    said = validation.predictions(model)
    # The mean over repeats comes from the folds of all repeats, so it has no folds of its own to compare.
    own_folds = _has_own_folds(validation, model)
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
        permutation=None if tested is None else tested.permutation,
        calibrated=calibrated or None,
        seed=seed,
        resamples=resamples or Resamples(validation.truth, seed=seed),
    )
    return replace(
        found,
        notes=[*found.notes, *validation.settings.get("notes", ()), *_averaged(validation, model)],
        permutation_note="" if tested is None else tested.note,
    )


def _has_own_folds(validation: CrossValidation, model: str) -> bool:
    """Whether its predictions come from single models, one set per repeat, and not from the mean over repeats."""
    return len(validation.members[model]) == len(validation.splits)


def _averaged(validation: CrossValidation, model: str) -> list[str]:
    """Notes for the report if means of several models are compared with single models."""
    means = [name for name in validation.members if not _has_own_folds(validation, name)]
    if not means:
        return []
    count = len(validation.splits)
    if model in means:
        others = ", ".join(name for name in means if name != model)
        alike = f", except {others}" if others else ""
        return [
            f"{model} is the mean of {count} models per window, and baselines and other members are single models"
            f"{alike}: its gain over single models may be due to averaging only, and the folds are not paired"
        ]
    return [
        f"{', '.join(means)}: the mean of {count} models per window, compared with single models of {model}; its gain "
        "may be due to averaging only, and the folds are not paired"
    ]


def _cross_fitted(said: Predictions, validation: CrossValidation) -> Predictions:
    """The same predictions, each fold calibrated by a temperature that was fitted on the other folds."""
    assert said.probabilities is not None
    assert said.folds is not None
    logits = log_probabilities(said.probabilities)
    return Predictions(cross_fitted(logits, validation.truth.y, said.folds))


def _without_folds(said: Predictions) -> Predictions:
    return Predictions(said.probabilities, said.spans)


def temperature_of(validation: CrossValidation, model: str) -> float | None:
    """The temperature fitted on the model's out-of-fold logits of all repeats; None without probabilities."""
    logits = [one.logits for one in validation.members[model]]
    several = [one for one in logits if one is not None]
    if not several:
        return None
    y = np.tile(validation.truth.y, len(several))
    return TemperatureScaling().fit(np.concatenate(several), y).temperature


def dropout_sentence(validation: CrossValidation, model: str) -> str | None:
    """The model's spread over draws of dropout, in a sentence; None if no dropout was drawn."""
    spread = _mean_spread(validation, model)
    if spread is None:
        return None
    return (
        f"dropout: the probability of the predicted class varies by {spread:.3f} (standard deviation over {DRAWS} "
        "draws of dropout, mean over windows)"
    )


def _mean_spread(validation: CrossValidation, model: str) -> float | None:
    spreads = [one.spread for one in validation.members[model] if one.spread is not None]
    return float(np.mean(spreads)) if spreads else None


def kept_permutation_tests(directory: Path, models: Iterable[str]) -> dict[str, PermutationResult]:
    """Earlier permutation tests of these models, by name, as far as `evaluation.json` has them.

    Raises `RunError` for a damaged file.
    """
    known = _kept(directory)
    results = {}
    for name in models:
        record = known.get(name, {})
        permutation = {
            metric: PermutationTest.from_record(metric, one)
            for metric, one in record.get("null", {}).items()
            # Without "of", it is unknown which model the permutation test is of.
            if "of" in one
        }
        if permutation:
            results[name] = PermutationResult(permutation, record["null_note"])
    return results


def _kept(directory: Path) -> dict[str, Any]:
    """The records in `evaluation.json`, by model; empty without such a file."""
    path = directory / EVALUATION
    found: dict[str, Any] = read_record(path)["models"] if path.exists() else {}
    return found


def write_assessment(
    directory: Path, validation: CrossValidation, evaluations: Mapping[str, Evaluation]
) -> list[Path]:
    """Writes `evaluation.json` and the pictures of each model into a directory; returns the paths.

    Other models that were evaluated there before are kept. If a model no longer has a permutation test, its picture of
    one is removed. Pictures show the first repeat, except those of the permutation test, which covers all repeats.
    Raises `ConfigError` for a model that is not in `validation`.
    """
    from moola.evaluation.figures import save_png

    if unknown := sorted(set(evaluations) - set(validation.members)):
        raise ConfigError("model", f"{unknown[0]!r} was not cross-validated here")
    record, stems = _kept(directory), _stems(validation.members)
    paths = [directory / EVALUATION]
    for name, evaluation in evaluations.items():
        record[name] = evaluation.record() | {
            "sentences": evaluation.sentences(),
            "temperature": temperature_of(validation, name),
            "mean_dropout_spread": _mean_spread(validation, name),
            "fit_seconds": sum(one.seconds for one in validation.members[name]),
        }
        drawn = _pictures(validation, name, evaluation)
        stem = stems[name]
        for kind in {f"null-{metric}" for metric in _DRAWN} - set(drawn):
            (directory / f"{stem}-{kind}.png").unlink(missing_ok=True)
        paths += [save_png(figure, directory / f"{stem}-{kind}.png") for kind, figure in drawn.items()]
    write_record(directory / EVALUATION, {"models": record})
    return paths


def _stems(models: Iterable[str]) -> dict[str, str]:
    """By model, the stem of its file names. If two would be the same, the second is numbered."""
    stems: dict[str, str] = {}
    for name in models:
        plain = re.sub(r"[^\w.]+", "-", name).strip("-")
        # Compared in lower case, because some file systems ignore case.
        taken = {stem.lower() for stem in stems.values()}
        numbered = (plain if number == 1 else f"{plain}-{number}" for number in count(1))
        stems[name] = next(stem for stem in numbered if stem.lower() not in taken)
    return stems


def _pictures(validation: CrossValidation, model: str, evaluation: Evaluation) -> dict[str, Any]:
    """The figures of a model, by kind."""
    from moola.evaluation.figures import (
        confusion_matrix,
        permutation_histogram,
        reliability_diagram,
        spans_against_truth,
    )

    truth, several = validation.truth, validation.members[model]
    said = several[0].predictions
    title = f"{model}, repeat 1 of {len(several)}" if len(several) > 1 else model
    drawn = {}
    if said.probabilities is not None:
        drawn["reliability"] = reliability_diagram(truth, said, title=title)
        drawn["confusion"] = confusion_matrix(truth, said, title=title)
    if said.spans is not None and truth.spans is not None:
        length = validation.windows.window_length
        drawn["spans"] = spans_against_truth(truth, said, length, title=title)
    return drawn | {
        f"null-{metric}": permutation_histogram(evaluation.permutation[metric], title=model)
        for metric in _DRAWN
        if metric in evaluation.permutation
        and not np.isnan(
            [evaluation.permutation[metric].value, *evaluation.permutation[metric].shuffled_interval]
        ).any()
    }


__getattr__, _ = lazy_names(__name__, {}, renamed={"kept_luck": "kept_permutation_tests"})
