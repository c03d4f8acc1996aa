"""The permutation test of a fine-tuned model: its heads, trained on shuffled labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from moola.errors import ConfigError
from moola.evaluation.metrics import METRICS, scores
from moola.evaluation.outcomes import Truth
from moola.evaluation.permutation import PermutationTest, permutation_test
from moola.training.examples import Examples
from moola.training.recipe import Folds, Recipe, fold_logits, without_fold
from moola.validation.permutation import HEADS_ALONE

__all__ = ["heads_on_shuffled_labels", "told"]


def heads_on_shuffled_labels(
    recipe: Recipe,
    examples: Examples,
    truth: Truth,
    parts: Folds,
    span_classes: NDArray[np.bool_],
    *,
    permutations: int,
    n_jobs: int | None,
) -> tuple[dict[str, PermutationTest], str]:
    """The permutation test of the heads on a frozen encoder, by metric, and a note for the report.

    Freezing the encoder makes a fit take a second instead of a minute. The heads are trained in the same way on the
    true labels and on shuffled ones, in the same folds and with the same calibration, so their scores are comparable.
    A whole model, which is trained longer, has other scores and would need a null of its own.

    Args:
        recipe: The run's recipe; only its heads are trained here.
        examples: Labelled windows.
        truth: Their labels and spans, and the groups that exchange labels in a shuffle.
        parts: The folds that the model is evaluated in.
        span_classes: `[C]`: which classes have spans.
        permutations: Number of shuffles; each takes one fit per fold.
        n_jobs: Shuffles at a time, on a CPU.

    Returns no tests if no group can exchange its labels with another; the note then gives the reason.
    """
    heads = recipe.heads_alone()
    score = partial(_score, recipe=heads, examples=examples, parts=parts, span_classes=span_classes)
    jobs = n_jobs if recipe.device.type == "cpu" else 1
    try:
        permutation = permutation_test(score, truth, seed=recipe.seed, permutations=permutations, n_jobs=jobs)
    except ConfigError as error:
        if error.name != "groups":
            raise
        return {}, f"the permutation test was left out: groups of windows {error.problem}"
    permutation = {name: replace(found, of=HEADS_ALONE) for name, found in permutation.items()}
    encoder = "the frozen encoder" if recipe.start is not None else "a frozen encoder of random weights"
    return permutation, (
        f"the permutation test fits the heads alone, on {encoder}, with {permutations} shuffles of the labels: "
        f"{(permutations + 1) * len(parts):,} fits; p is of the heads alone, which score {told(permutation)} with the "
        "true labels, not of the whole model"
    )


def told(permutation: Mapping[str, PermutationTest]) -> str:
    """The macro-F1 and span hits with the true labels, as text: `macro-F1 0.612`. Scores that are NaN are left out."""
    names = [name for name in ("macro_f1", "span_hits") if not np.isnan(permutation[name].value)]
    return " and ".join(f"{METRICS[name].title} {permutation[name].value:.3f}" for name in names)


def _score(
    truth: Truth,
    *,
    recipe: Recipe,
    examples: Examples,
    parts: Folds,
    span_classes: NDArray[np.bool_],
) -> dict[str, float]:
    spans = examples.spans if truth.spans is None else truth.spans
    relabelled = examples._replace(y=truth.y, spans=spans)
    outcomes = [without_fold(recipe, relabelled, truth.groups, train, test) for train, test in parts]
    found, places = fold_logits(parts, outcomes)
    return scores(truth, found.predictions(truth.y, places, span_classes))
