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
    """Where the model's heads lie among what they learn from shuffled labels, and what a reader should know of it.

    The encoder stays as it is, so that a fit takes a second and not a minute. What is set among the scores of shuffled
    labels is the score of the same on the labels as they are: heads alone in both, in the same folds, calibrated alike.
    A whole model that is trained longer has other scores, and so another null.

    Args:
        recipe: The run's own; its heads alone are what is shuffled for.
        examples: Labelled windows.
        truth: The same, and in which groups they exchange their labels.
        parts: The folds that the model is judged in.
        span_classes: `[C]`: which classes have spans.
        permutations: Shuffles; each takes a fit a fold.
        n_jobs: Shuffles at a time, on a CPU.

    Returns no scores where no group can exchange its labels with another.
    """
    heads = recipe.heads_alone()
    score = partial(_score, recipe=heads, examples=examples, parts=parts, span_classes=span_classes)
    jobs = n_jobs if recipe.device.type == "cpu" else 1
    try:
        permutation = permutation_test(score, truth, seed=recipe.seed, permutations=permutations, n_jobs=jobs)
    except ConfigError as error:
        if error.name != "groups":
            raise
        return {}, f"there is no chance to compare with: groups of windows {error.problem}"
    permutation = {name: replace(found, of=HEADS_ALONE) for name, found in permutation.items()}
    encoder = "the encoder as it is" if recipe.start is not None else "an encoder of random weights"
    return permutation, (
        f"chance is what heads alone give, on {encoder}, with {permutations} shuffles of the labels: "
        f"{(permutations + 1) * len(parts):,} fits; their p is of heads alone on the true labels, with "
        f"{told(permutation)}, and not of the whole model"
    )


def told(permutation: Mapping[str, PermutationTest]) -> str:
    """The scores that are set among those of shuffled labels, the two that are read first: `macro-F1 0.612`."""
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
