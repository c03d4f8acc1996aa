"""Permutation tests of cross-validated models, at a bounded cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from moola.devices.threads import one_thread
from moola.errors import ConfigError
from moola.evaluation.fold_predictions import out_of_fold
from moola.evaluation.metrics import METRICS, scores
from moola.evaluation.outcomes import Predictions, Truth
from moola.evaluation.permutation import PERMUTATIONS, PermutationTest, under_shuffles
from moola.files.renamed import renamed_value
from moola.folds.dealing import StorePath, TrainTest, check_comparable
from moola.labels.windows import LabelledWindows
from moola.validation.encoders import model_of
from moola.validation.ensembles import ENSEMBLE, mean_of
from moola.validation.fits import seeded
from moola.validation.records import CrossValidation, relabelled
from moola.validation.stacks import STACK, stack

__all__ = [
    "DEAR_PERMUTATIONS",
    "HEADS_ALONE",
    "PermutationResult",
    "frozen",
    "is_dear",
    "permutation_test_of",
    "permutation_tests",
]

DEAR_PERMUTATIONS = 20
"""The default number of shuffles for a network or a stack. The smallest possible p-value is then 1/21."""

HEADS_ALONE = "with heads alone on frozen embeddings"
"""The value of :attr:`PermutationTest.of` for tests that train only the heads."""


class PermutationResult(NamedTuple):
    """Permutation tests of one model, by metric, and a note for the report."""

    permutation: dict[str, PermutationTest]
    note: str
    """The model that was tested, the number of shuffles and the cost."""

    @property
    def null(self) -> dict[str, PermutationTest]:
        """The old name of `permutation`; it is removed in 0.3.0."""
        old: dict[str, PermutationTest] = renamed_value(self, "null", "permutation")
        return old


def is_dear(estimator: Any) -> bool:
    """Whether it is trained in epochs, which makes hundreds of fits too expensive."""
    return "epochs" in estimator.get_params(deep=False)


def frozen(estimator: Any, width: int) -> Any:
    """An unfitted copy of a network with a frozen encoder: windows are encoded once, and only the heads are trained.

    Without a pre-trained encoder the copy gets one of random weights. An estimator that has none is copied unchanged.
    """
    parameters = estimator.get_params(deep=False)
    if "encoder" not in parameters:
        return clone(estimator)
    encoder = parameters["encoder"]
    if encoder is None:
        from moola.training.new_model import new_model

        encoder = new_model(model_of(estimator), width, seed=parameters["seed"]).encoder
    return clone(estimator).set_params(encoder=encoder, freeze="always", augmentation=False)


def permutation_test_of(
    validation: CrossValidation, model: str, estimators: Mapping[str, Any], **options: Any
) -> PermutationResult:
    """The permutation test of one model. Arguments and errors are those of :func:`permutation_tests`."""
    return permutation_tests(validation, [model], estimators, **options)[model]


def permutation_tests(
    validation: CrossValidation,
    models: Iterable[str],
    estimators: Mapping[str, Any],
    *,
    permutations: int | None = None,
    whole: bool = False,
    other_windows: Mapping[str, LabelledWindows] | None = None,
    store: StorePath | None = None,
    seed: int = 0,
    n_jobs: int | None = None,
    report: Callable[[str], None] | None = None,
) -> dict[str, PermutationResult]:
    """Cross-validates models on the true labels and on shuffled ones, in the folds of all repeats.

    True and shuffled labels are treated in the same way. The compared score is the mean over repeats, as in the
    model's evaluation; for an ensemble it is the score of the mean. A member and its ensemble share their fits.

    Args:
        validation: The cross-validation of the models.
        models: Their names there.
        estimators: Unfitted estimators by name: the models, and the members of a stack or an ensemble.
        permutations: Number of shuffles; by default 200, or 20 for networks and stacks.
        whole: Whether networks are trained whole with every shuffle. Otherwise only their heads are trained, on frozen
            embeddings, also with the true labels. The test is then of that model, :data:`HEADS_ALONE`, and its value
            is not the whole network's score: mixing the two would compare different models.
        other_windows, store: As in :func:`moola.validation.stack`.
        seed: Seed of the shuffles.
        n_jobs: Cross-validations at a time.
        report: Called before each model's shuffles with a line that names it and the number of fits.

    Raises what :func:`moola.evaluation.permutation_test` raises; and, before any shuffle, `ConfigError` for a model
    without an estimator, and what :func:`moola.validation.purged_folds` raises for the store of a stack.
    """
    asked: dict[str, list[str]] = {}
    for model in models:
        validation.predictions(model)
        member = model if model in estimators else model.removesuffix(ENSEMBLE)
        asked.setdefault(member, []).append(model)
    # All are checked before the first shuffle: an error for the last one must not cost the others' results.
    procedures = {
        member: _procedure(validation, member, estimators, whole, dict(other_windows or {}), store)
        for member in asked
    }
    found: dict[str, PermutationResult] = {}
    for member, names in asked.items():
        procedure = procedures[member]
        shuffles = permutations
        if shuffles is None:
            shuffles = DEAR_PERMUTATIONS if procedure.dear else PERMUTATIONS
        fits = (shuffles + 1) * procedure.fits
        if report is not None:
            report(
                f"permutation test of {' and '.join(names)}: {shuffles} shuffles of the labels, {fits:,} fits"
            )
        start = perf_counter()
        shuffled = under_shuffles(
            partial(_scored, repeats=procedure.repeats, ensembles={name: name != member for name in names}),
            validation.truth,
            seed=seed,
            permutations=shuffles,
            n_jobs=n_jobs,
        )
        seconds = perf_counter() - start
        for name in names:
            found[name] = PermutationResult(
                shuffled.tests(itemgetter(name), of=procedure.of),
                _note(
                    name,
                    procedure,
                    f"{shuffles} shuffles of the labels: {fits:,} fits in {seconds:.0f} s",
                    is_mean=name == member,
                ),
            )
    return found


def _note(model: str, procedure: _Procedure, cost: str, *, is_mean: bool) -> str:
    # An ensemble has one score, that of its mean.
    over = f", as the mean over {procedure.times} repeats" if procedure.times > 1 and is_mean else ""
    if not procedure.of:
        return f"the permutation test is of {model}{over}, cross-validated with {cost}"
    return (
        f"the permutation test is of {model} {procedure.of}{over}, which is another model than the one scored here: it "
        "is compared with its own scores on shuffled labels (--whole trains networks whole, at a higher cost). "
        f"Cross-validated with {cost}"
    )


class _Procedure(NamedTuple):
    """The cross-validation that is run on true and on shuffled labels."""

    repeats: Callable[[Truth], list[Predictions]]
    """Cross-validates, and returns the predictions of each repeat."""
    times: int
    """Number of repeats."""
    fits: int
    """Number of fits for one set of labels."""
    of: str
    """The part of the model that is trained, such as :data:`HEADS_ALONE`; empty for the whole model."""
    dear: bool
    """Whether the fits are expensive, so that the default is fewer shuffles."""


def _procedure(
    validation: CrossValidation,
    member: str,
    estimators: Mapping[str, Any],
    whole: bool,
    other: Mapping[str, LabelledWindows],
    store: StorePath | None,
) -> _Procedure:
    windows, splits, settings = validation.windows, validation.splits, validation.settings
    names = settings["stacked"] if member == STACK else [member]
    if missing := [name for name in names if name not in estimators]:
        raise ConfigError("estimators", f"lacks {missing[0]}; give the model that was cross-validated")
    shrunk = {
        name: clone(estimators[name])
        if whole
        else frozen(estimators[name], other.get(name, windows).X.shape[2])
        for name in names
    }
    has_encoder = any("encoder" in one.get_params(deep=False) for one in shrunk.values())
    of = HEADS_ALONE if has_encoder and not whole else ""
    folds = sum(map(len, splits))
    if member != STACK:
        own = partial(
            _cross_validated, windows=other.get(member, windows), estimator=shrunk[member], splits=splits
        )
        return _Procedure(own, len(splits), folds, of, is_dear(shrunk[member]))
    # A stack deals its inner folds again for every shuffle, so its store is checked first.
    check_comparable(windows, store)
    inner = int(settings["inner_folds"])
    stacked = partial(
        _stacked,
        windows=windows,
        members=shrunk,
        splits=splits,
        settings=settings,
        other_windows={name: other[name] for name in shrunk if name in other},
        store=store,
    )
    return _Procedure(stacked, len(splits), folds * len(shrunk) * (inner + 1), of, True)


def _scored(
    truth: Truth, *, repeats: Callable[[Truth], list[Predictions]], ensembles: Mapping[str, bool]
) -> dict[str, dict[str, float]]:
    """By name, the scores of the ensemble of all repeats, or the mean over repeats of the scores."""
    said = repeats(truth)
    each = [scores(truth, one) for one in said]
    return {
        name: scores(truth, mean_of(said))
        if is_ensemble
        else {metric: float(np.mean([one[metric] for one in each])) for metric in METRICS}
        for name, is_ensemble in ensembles.items()
    }


def _cross_validated(
    truth: Truth, *, windows: LabelledWindows, estimator: Any, splits: Sequence[Sequence[TrainTest]]
) -> list[Predictions]:
    with threadpool_limits(1), one_thread():
        return [
            out_of_fold(
                seeded(estimator, repeat),
                windows.X,
                truth,
                these,
                valid_mask=windows.valid_mask,
                weight=windows.weight,
            )
            for repeat, these in enumerate(splits)
        ]


def _stacked(
    truth: Truth,
    *,
    windows: LabelledWindows,
    members: Mapping[str, Any],
    splits: Sequence[Sequence[TrainTest]],
    settings: Mapping[str, Any],
    other_windows: Mapping[str, LabelledWindows],
    store: StorePath | None,
) -> list[Predictions]:
    found = stack(
        relabelled(windows, truth),
        members,
        inner_folds=settings["inner_folds"],
        splits=splits,
        seed=settings["seed"],
        embargo=settings["embargo"],
        C=settings["C"],
        other_windows={name: relabelled(other, truth) for name, other in other_windows.items()},
        store=store,
        scratch=False,
    )
    return found.predictions(STACK)
