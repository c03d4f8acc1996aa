"""Where a model lies among those that learn from shuffled labels, at a bounded cost."""

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
"""Shuffles of a network or a stack: the least p-value is then 1/21."""

HEADS_ALONE = "with heads alone on frozen embeddings"
"""What a permutation test says it is of when only heads were trained: :attr:`PermutationTest.of`."""


class PermutationResult(NamedTuple):
    """Permutation tests of one model, by metric, and a note on what they took."""

    permutation: dict[str, PermutationTest]
    note: str
    """What was shuffled, how often, and at what cost."""

    @property
    def null(self) -> dict[str, PermutationTest]:
        """The old name of `permutation`; it goes in 0.3.0."""
        old: dict[str, PermutationTest] = renamed_value(self, "null", "permutation")
        return old


def is_dear(estimator: Any) -> bool:
    """Whether it is trained in epochs, so that hundreds of fits are too many."""
    return "epochs" in estimator.get_params(deep=False)


def frozen(estimator: Any, width: int) -> Any:
    """A copy of a network whose encoder stays as it is, so that windows are encoded once and heads alone are trained.

    Without a pre-trained encoder it has one of random weights. What has no encoder is copied as it is.
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
    """Cross-validates models on labels as they are and on shuffled ones, in the folds of all repeats.

    The same is done with both kinds of labels, and the scores of both are of the same thing: the mean over repeats, as
    in the model's evaluation; of an ensemble, the score of the mean. A member and its ensemble share their fits.

    Args:
        validation: What the models were cross-validated in.
        models: Their names there.
        estimators: Unfitted, by name: the models, and the members of a stack or an ensemble.
        permutations: Shuffles; 200 unless given, 20 for networks and stacks.
        whole: Networks are trained whole with every shuffle. Otherwise their heads alone are, on frozen embeddings, and
            with the true labels too. The test is then of that model, :data:`HEADS_ALONE`, and its value is not the
            whole network's score: mixing the two would compare different models.
        other_windows, store: As of :func:`moola.validation.stack`.
        seed: Of the shuffles.
        n_jobs: Cross-validations at a time.
        report: Told what is about to be shuffled, and at what cost.

    Raises what :func:`moola.evaluation.permutation_test` raises; and before anything is shuffled, `ConfigError` for a
    model of which there is no estimator, and what :func:`moola.validation.purged_folds` raises for the store of a
    stack.
    """
    asked: dict[str, list[str]] = {}
    for model in models:
        validation.predictions(model)
        member = model if model in estimators else model.removesuffix(ENSEMBLE)
        asked.setdefault(member, []).append(model)
    # All of them, before the first shuffle: what the last one lacks must not cost what was found of the others.
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
            report(f"shuffling labels for {' and '.join(names)}: {shuffles} times, {fits:,} fits")
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
    # An ensemble has one score, of what its repeats say together.
    over = f", as the mean over {procedure.times} repeats" if procedure.times > 1 and is_mean else ""
    if not procedure.of:
        return f"chance is what {model} gives{over}, cross-validated with {cost}"
    return (
        f"chance and p are of {model} {procedure.of}{over}, which is another model than the one scored here: it is set "
        f"among its own scores with shuffled labels (networks trained whole cost more: --whole). Cross-validated with "
        f"{cost}"
    )


class _Procedure(NamedTuple):
    """What is done with labels, be they true or shuffled."""

    repeats: Callable[[Truth], list[Predictions]]
    """Cross-validates, and gives what was said in each repeat."""
    times: int
    """How many repeats."""
    fits: int
    of: str
    """What it trains, where that is not the model whole."""
    dear: bool


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
    # It deals its inner folds again for every shuffle.
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
    """By name, the scores of an ensemble of all repeats, or the mean of the scores of each."""
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
