"""Fits of many members, in parallel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from joblib import delayed
from sklearn.base import clone
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from moola.devices.ranks import in_order
from moola.devices.threads import one_thread
from moola.errors import ConfigError
from moola.evaluation.fold_predictions import by_window, fit_predict
from moola.evaluation.leaks import FittedOn
from moola.evaluation.outcomes import Floats, Predictions, Truth
from moola.folds.dealing import TrainTest
from moola.labels.windows import LabelledWindows
from moola.settings.arrays import Numbers
from moola.validation.dropout import dropout_spread, has_dropout
from moola.validation.monitoring import monitored
from moola.validation.records import OutOfFold

__all__ = ["Fit", "Report", "Said", "check_members", "out_of_fold_of", "run_fits", "seeded"]

Report: TypeAlias = Callable[[int, int], None]
"""Called with the number of fits done and of all fits."""


class Fit(NamedTuple):
    """One model to fit on some windows, and to predict others with."""

    member: str
    estimator: Any
    """Unfitted."""
    train: Numbers
    """The numbers of the windows to fit on."""
    test: Numbers
    """The numbers of the windows to predict, `[m]`."""


class Said(NamedTuple):
    """A model's predictions of its test windows, and its cost."""

    probabilities: Floats | None
    """`[m, C]`."""
    spans: Numbers | None
    """`[m, 2]`: first and last bar."""
    spread: Floats | None
    """`[m]`: the standard deviation of the most probable class's probability over draws of dropout."""
    seconds: float
    """The time of the fit and of the predictions in it."""
    monitoring: dict[str, Any]
    """The model's record from :func:`moola.validation.monitoring.monitored`."""


def check_members(members: Mapping[str, Any], other_windows: Mapping[str, LabelledWindows]) -> None:
    """Raises `ConfigError` if there is no member, and for windows under a name that is no member's."""
    if not members:
        raise ConfigError("members", "is empty; give at least one model")
    for name in other_windows:
        if name not in members:
            raise ConfigError("other_windows", f"has {name!r}, which is not a member; give a member's name")


def seeded(estimator: Any, repeat: int) -> Any:
    """An unfitted copy whose seed, if it has one, is its own plus the number of the repeat."""
    copy = clone(estimator)
    parameters = copy.get_params(deep=False)
    return copy.set_params(seed=parameters["seed"] + repeat) if "seed" in parameters else copy


def run_fits(
    fits: Sequence[Fit],
    truth: Truth,
    windows: LabelledWindows,
    other_windows: Mapping[str, LabelledWindows],
    *,
    n_jobs: int | None,
    report: Report | None,
) -> list[Said]:
    """Runs all fits and predictions with joblib, each on one thread; returns them in the order of `fits`."""
    tasks = []
    for fit in fits:
        own = other_windows.get(fit.member, windows)
        arrays = own.X, own.valid_mask, windows.weight
        tasks.append(delayed(_run)(fit.estimator, *arrays, truth, fit.train, fit.test))
    said = []
    for one in in_order(tasks, n_jobs):
        said.append(one)
        if report is not None:
            report(len(said), len(fits))
    return said


def _run(
    estimator: Any, x: Any, valid: Any, weight: Floats, truth: Truth, train: Numbers, test: Numbers
) -> Said:
    start = perf_counter()
    with threadpool_limits(1), one_thread():
        probabilities, spans = fit_predict(estimator, x, truth, train, test, valid_mask=valid, weight=weight)
        seconds = perf_counter() - start
        spread = None
        if probabilities is not None and has_dropout(estimator):
            seed = estimator.get_params(deep=False).get("seed", 0)
            deviation = dropout_spread(estimator, x[test], valid[test], seed=seed).deviation
            said = estimator.predict_proba(x[test], valid[test]).argmax(axis=1)
            spread = deviation[np.arange(len(test)), said]
    return Said(probabilities, spans, spread, seconds, monitored(estimator, len(truth)))


def out_of_fold_of(
    splits: Sequence[TrainTest], said: Sequence[Said], windows: Numbers | None = None
) -> OutOfFold:
    """The predictions of all folds' models, in the order of the windows.

    Args:
        splits: (train, test) of each fold, as numbers of windows.
        said: The predictions of each fold's model.
        windows: `[m]`, ascending, the numbers of the tested windows; None if all are tested.
    """
    tests = [test for _, test in splits]

    def column(arrays: Sequence[Any]) -> Any:
        return by_window(tests, arrays)

    folds = column([np.full(len(test), fold) for fold, test in enumerate(tests)])
    return OutOfFold(
        Predictions(
            column([one.probabilities for one in said]), column([one.spans for one in said]), folds=folds
        ),
        tuple(FittedOn(train) for train, _ in splits),
        windows,
        column([one.spread for one in said]),
        sum(one.seconds for one in said),
        tuple(
            {"fold": fold, "trained_on": len(train), **one.monitoring}
            for fold, ((train, _), one) in enumerate(zip(splits, said, strict=True))
            if one.monitoring
        ),
    )
