"""Stacking: a model that is trained on the out-of-fold predictions of other models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from moola.errors import ConfigError
from moola.evaluation.fold_predictions import check_splits
from moola.evaluation.outcomes import Floats, Predictions
from moola.files.renamed import renamed_keywords
from moola.folds.dealing import StorePath, TrainTest, check_purged, purged_folds
from moola.labels.refusals import check_classes
from moola.labels.windows import LabelledWindows, together
from moola.settings.arrays import Numbers
from moola.validation.cross_validation import repeated_folds, with_scratch
from moola.validation.encoders import check_encoders
from moola.validation.ensembles import mean_spans
from moola.validation.fits import Fit, Report, Said, check_members, out_of_fold_of, run_fits, seeded
from moola.validation.monitoring import of_several
from moola.validation.records import CrossValidation, OutOfFold, truth_of

__all__ = ["STACK", "MetaLearner", "stack"]

STACK = "stack"
"""The name of the stack among its members."""

# Smaller probabilities are raised to this, so that a single window cannot dominate the regression.
_LEAST = 1e-4


class MetaLearner:
    """Logistic regression on the log-probabilities of several members.

    It is fitted only to out-of-fold predictions: predictions of training windows would favour the member that
    memorises best. Source: D. H. Wolpert, "Stacked generalization", Neural Networks 5 (1992), 241–259; with class
    probabilities, K. M. Ting and I. H. Witten, "Issues in stacked generalization", JAIR 10 (1999), 271–289.

    Args:
        C: The inverse strength of the L2 penalty.
    """

    def __init__(self, C: float = 1.0) -> None:  # noqa: N803
        self.C = C

    @renamed_keywords(held_out="outer_test")
    def fit(
        self,
        members: Mapping[str, OutOfFold],
        y: Numbers,
        *,
        weight: ArrayLike | None = None,
        outer_test: ArrayLike = (),
    ) -> Self:
        """Fits the regression and returns self.

        Args:
            members: By name, each member's out-of-fold predictions of the same windows.
            y: `[m]`, the code of each window's class; every class occurs.
            weight: `[m]`, the windows' weights.
            outer_test: The numbers of the windows that the stack will be tested on. No member's model may have
                seen them.

        Raises `LeakError` if a model has seen a window that it predicts or one of `outer_test`, and `ConfigError` for
        a member without probabilities, or with another number of windows than `y`.
        """
        for one in members.values():
            one.check(outer_test)
        self.names = tuple(members)
        columns = self._columns({name: one.predictions for name, one in members.items()})
        if len(columns) != len(y):
            raise ConfigError(
                "members", f"have predicted {len(columns):,} windows, not {len(y):,}; give the windows of y"
            )
        with threadpool_limits(1):
            self._regression = LogisticRegression(C=self.C, max_iter=1_000)
            self._regression.fit(columns, y, sample_weight=weight)
        return self

    def predict_proba(self, members: Mapping[str, Predictions]) -> Floats:
        """`[n, C]`: the stack's probabilities, from each member's predictions of windows that no model has seen.

        Raises `ConfigError` for a missing member, and for one without probabilities.
        """
        with threadpool_limits(1):
            probabilities: Floats = self._regression.predict_proba(self._columns(members))
        return probabilities

    def _columns(self, members: Mapping[str, Predictions]) -> Floats:
        """`[n, members · C]`: log-probabilities minus each member's mean over classes."""
        columns = []
        for name in self.names:
            if name not in members:
                raise ConfigError(
                    "members", f"lack {name}, which the stack was fitted on; give all of its members"
                )
            p = members[name].probabilities
            if p is None:
                raise ConfigError(
                    "members", f"{name} gives no probabilities, so it cannot be stacked; leave it out"
                )
            logits = np.log(np.maximum(p, _LEAST))
            columns.append(logits - logits.mean(axis=1, keepdims=True))
        return np.concatenate(columns, axis=1)


def stack(
    windows: LabelledWindows,
    members: Mapping[str, Any],
    *,
    folds: int = 5,
    inner_folds: int = 5,
    repeats: int = 1,
    seed: int = 0,
    embargo: int = 0,
    store: StorePath | None = None,
    splits: Sequence[Sequence[TrainTest]] | None = None,
    other_windows: Mapping[str, LabelledWindows] | None = None,
    seen: NDArray[Any] | None = None,
    scratch: bool = True,
    C: float = 1.0,  # noqa: N803
    n_jobs: int | None = None,
    report: Report | None = None,
) -> CrossValidation:
    """Stacks members, with nested cross-validation.

    In each outer fold, inner folds of its training windows give the members' out-of-fold predictions, which a
    :class:`MetaLearner` is fitted to. The members are then fitted on all training windows, and the meta-learner
    combines their predictions of the test windows. No model with a part in a prediction has seen its window. This
    takes `folds · (inner_folds + 1)` fits of each member per repeat.

    The stack's span is the median over the members that predict spans.

    A member with a pre-trained encoder is accompanied by the same member from scratch, only in the outer folds: the
    stack does not use it. The stack itself is not made from scratch, because it would need the inner folds of such
    members too, `folds · inner_folds` more fits of each per repeat. For that comparison, stack the same members with
    `encoder=None` in the same folds, and compare both with `moola evaluate --against`.

    Args:
        inner_folds: Number of folds within each outer fold's training windows.
        C: The meta-learner's inverse strength of the L2 penalty.
        Others: As in :func:`moola.validation.cross_validate`.

    Returns:
        The predictions of `stack` and of its members, in the same outer folds.

    Raises `ConfigError` for fewer than two members, and what :func:`moola.validation.cross_validate` raises.
    """
    if len(members) < 2:
        raise ConfigError("members", f"are {len(members)}, which leaves nothing to stack; give two or more")
    if STACK in members:
        raise ConfigError("members", f"has one named {STACK!r}, which is the stack's own name; rename it")
    check_classes(windows.y, windows.classes)
    other = dict(other_windows or {})
    everyone = dict(members)
    if scratch:
        everyone, other = with_scratch(members, other)
    check_members(everyone, other)
    notes = check_encoders(members, windows, other, store)
    windows = together(windows, other)
    truth = truth_of(windows, seen)
    if splits is None:
        splits = repeated_folds(windows, folds, repeats, seed=seed, embargo=embargo, store=store)
    outer = [(repeat, train, test) for repeat, these in enumerate(splits) for train, test in these]
    for these in splits:
        check_splits(these, truth)
        check_purged(windows, these, store)
    inner = [
        _inner(windows, train, inner_folds, seed=seed, number=number, embargo=embargo, store=store)
        for number, (_, train, _) in enumerate(outer)
    ]
    fits = [
        Fit(name, seeded(estimator, repeat), fitted, asked)
        for (repeat, train, test), within in zip(outer, inner, strict=True)
        for estimators, parts in ((members, within), (everyone, [(train, test)]))
        for name, estimator in estimators.items()
        for fitted, asked in parts
    ]
    said = iter(run_fits(fits, truth, windows, other, n_jobs=n_jobs, report=report))
    by_repeat: list[dict[str, list[Said]]] = [{name: [] for name in (STACK, *everyone)} for _ in splits]
    for (repeat, train, test), within in zip(outer, inner, strict=True):
        rows = np.sort(train)
        learned = {
            name: out_of_fold_of(within, [next(said) for _ in within], windows=rows) for name in members
        }
        for name in everyone:
            by_repeat[repeat][name].append(next(said))
        asked = {name: by_repeat[repeat][name][-1] for name in members}
        meta = MetaLearner(C).fit(learned, truth.y[rows], weight=windows.weight[rows], outer_test=test)
        answers = {name: Predictions(one.probabilities, one.spans) for name, one in asked.items()}
        spans = [one.spans for one in asked.values() if one.spans is not None]
        seconds = sum(one.seconds for one in learned.values()) + sum(one.seconds for one in asked.values())
        by_repeat[repeat][STACK].append(
            Said(
                meta.predict_proba(answers),
                mean_spans(spans) if spans else None,
                None,
                seconds,
                of_several([one.monitoring for one in asked.values()]),
            )
        )
    found = {
        name: tuple(out_of_fold_of(these, by_repeat[repeat][name]) for repeat, these in enumerate(splits))
        for name in (STACK, *everyone)
    }
    settings: dict[str, Any] = {
        "folds": len(splits[0]),
        "repeats": len(splits),
        "seed": seed,
        "embargo": embargo,
    }
    settings |= {"inner_folds": inner_folds, "C": C, "stacked": list(members), "notes": notes}
    return CrossValidation(windows, truth, tuple(map(tuple, splits)), found, settings)


def _inner(
    windows: LabelledWindows,
    train: Numbers,
    folds: int,
    *,
    seed: int,
    number: int,
    embargo: int,
    store: StorePath | None,
) -> list[TrainTest]:
    """The folds of an outer fold's training windows, as numbers of all windows."""
    rows = np.sort(train)
    within = purged_folds(
        windows.take(rows), folds, seed=seed + 1, repeat=number, embargo=embargo, store=store
    )
    return [(rows[fitted], rows[asked]) for fitted, asked in within]
