"""Ensembles: the mean of what models of several folds and seeds say."""

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
"""What follows a member's name in that of its ensemble."""


def ensemble(validation: CrossValidation) -> CrossValidation:
    """Beside each member, the mean of its repeats: of models of other folds and seeds.

    Every window is predicted by one model a repeat, none of which has seen it, and the mean of their probabilities is
    the ensemble's. Source: B. Lakshminarayanan, A. Pritzel and C. Blundell, "Simple and scalable predictive uncertainty
    estimation using deep ensembles", NeurIPS 2017, section 2.4.

    Raises `ConfigError` where there is one repeat, and so nothing to take the mean of.
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
    # Windows that were in the same folds in all repeats were predicted by the same models.
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
        # Of the repeats' folds: its own are what windows were in together.
        monitoring=tuple(
            {"fold": fold} | of_several(lines)
            for fold, lines in enumerate(zip(*(one.monitoring for one in repeats), strict=True))
        ),
    )


def mean_of(said: Sequence[Predictions], *, folds: Numbers | None = None) -> Predictions:
    """What an ensemble says: the mean of the probabilities, and the :func:`mean_spans`, of its members."""
    p = [one.probabilities for one in said if one.probabilities is not None]
    spans = [one.spans for one in said if one.spans is not None]
    return Predictions(np.mean(p, axis=0) if p else None, mean_spans(spans) if spans else None, folds=folds)


def mean_spans(spans: Sequence[Numbers]) -> Numbers:
    """`[n, 2]`: the median of each end over those of `[n, 2]` that see a span; none where most see none.

    The median, for one that points elsewhere should not move the others. Halves go up, and a tie is a span.
    """
    ends = np.stack(spans).astype(np.float64)
    there = ends[:, :, 0] != NO_SPAN
    some = 2 * there.sum(axis=0) >= len(spans)
    median = np.full(ends.shape[1:], float(NO_SPAN))
    median[some] = np.nanmedian(np.where(there[:, some, None], ends[:, some], np.nan), axis=0)
    return np.floor(median + 0.5).astype(np.int64)
