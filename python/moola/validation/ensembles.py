"""Ensembles: the mean of the predictions of models of several folds and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_

import numpy as np

from moola.errors import ConfigError
from moola.evaluation.leaks import FittedOn
from moola.evaluation.outcomes import NO_SPAN, Predictions
from moola.settings.arrays import Numbers
from moola.validation.monitoring import of_several
from moola.validation.records import CrossValidation, OutOfFold, with_members

__all__ = ["ENSEMBLE", "ensemble", "mean_of", "mean_spans"]

ENSEMBLE = " ensemble"
"""The suffix that a member's name gets for its ensemble."""


def ensemble(validation: CrossValidation) -> CrossValidation:
    """Adds to each member the mean of its repeats, which have different folds and seeds.

    Each window is predicted by one model per repeat, none of which has seen it. The ensemble's probabilities are the
    mean of theirs. Source: B. Lakshminarayanan, A. Pritzel and C. Blundell, "Simple and scalable predictive uncertainty
    estimation using deep ensembles", NeurIPS 2017, section 2.4.

    Raises `ConfigError` if there is only one repeat.
    """
    if len(validation.splits) < 2:
        raise ConfigError(
            "repeats", "is 1, which leaves nothing to average; cross-validate with --repeats 2 or more"
        )
    members = dict(validation.members)
    for name, repeats in validation.members.items():
        if len(repeats) > 1:
            members[f"{name}{ENSEMBLE}"] = (_mean(repeats),)
    return with_members(validation, members)


def _mean(repeats: Sequence[OutOfFold]) -> OutOfFold:
    said = [one.predictions for one in repeats]
    # A fold of the ensemble holds the windows that shared a fold in every repeat: the same models predicted them.
    assignments = np.stack([one.folds for one in said if one.folds is not None], axis=1)
    combinations, folds = np.unique(assignments, axis=0, return_inverse=True)
    fitted = tuple(
        reduce(or_, (repeats[r].fitted_on[fold] for r, fold in enumerate(row)), FittedOn([]))
        for row in combinations.tolist()
    )
    return OutOfFold(
        mean_of(said, folds=folds.reshape(-1)),
        fitted,
        seconds=sum(one.seconds for one in repeats),
        # By the repeats' folds, not by the ensemble's own.
        monitoring=tuple(
            {"fold": fold} | of_several(lines)
            for fold, lines in enumerate(zip(*(one.monitoring for one in repeats), strict=True))
        ),
    )


def mean_of(said: Sequence[Predictions], *, folds: Numbers | None = None) -> Predictions:
    """The prediction of an ensemble: the mean of its members' probabilities, and their :func:`mean_spans`."""
    p = [one.probabilities for one in said if one.probabilities is not None]
    spans = [one.spans for one in said if one.spans is not None]
    return Predictions(np.mean(p, axis=0) if p else None, mean_spans(spans) if spans else None, folds=folds)


def mean_spans(spans: Sequence[Numbers]) -> Numbers:
    """`[n, 2]`: the median of each end over those of `[n, 2]` that have a span; no span if most have none.

    The median keeps one outlier from moving the span. Halves are rounded up, and a tie counts as a span.
    """
    ends = np.stack(spans).astype(np.float64)
    there = ends[:, :, 0] != NO_SPAN
    some = 2 * there.sum(axis=0) >= len(spans)
    median = np.full(ends.shape[1:], float(NO_SPAN))
    median[some] = np.nanmedian(np.where(there[:, some, None], ends[:, some], np.nan), axis=0)
    return np.floor(median + 0.5).astype(np.int64)
