"""Where a model lies among those that learn from shuffled labels, at a bounded cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

from sklearn.base import clone

from moola.errors import ConfigError
from moola.evaluation.metrics import scores
from moola.evaluation.null import PERMUTATIONS, Null, permutation_null
from moola.evaluation.out_of_fold import out_of_fold
from moola.evaluation.outcomes import Truth
from moola.labels.windows import LabelledWindows
from moola.validation.folds import StorePath, TrainTest
from moola.validation.records import CrossValidation, relabelled
from moola.validation.stacks import STACK, stack

__all__ = ["DEAR_PERMUTATIONS", "Luck", "frozen", "is_dear", "luck_of"]

DEAR_PERMUTATIONS = 20
"""Shuffles of a network or a stack: the least p-value is then 1/21."""


class Luck(NamedTuple):
    """What luck gives, and what it took to know."""

    null: dict[str, Null]
    note: str
    """What was shuffled how often, and what that cost."""


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
        from moola.models.config import load_config
        from moola.training.finetune import new_model

        size = parameters["hidden_size"]
        given = () if size is None else (f"model.architecture.hidden_size={size}",)
        config = load_config(parameters["model"], [*parameters["settings"], *given])
        encoder = new_model(config.model, width, seed=parameters["seed"]).encoder
    return clone(estimator).set_params(encoder=encoder, freeze="always", augmentation=False)


def luck_of(
    validation: CrossValidation,
    model: str,
    estimators: Mapping[str, Any],
    *,
    permutations: int | None = None,
    whole: bool = False,
    other_windows: Mapping[str, LabelledWindows] | None = None,
    store: StorePath | None = None,
    seed: int = 0,
    n_jobs: int | None = None,
) -> Luck:
    """Cross-validates a model on labels as they are and on shuffled ones, in the folds of the first repeat.

    Args:
        validation: What the model was cross-validated in.
        model: Its name there.
        estimators: Unfitted, by name: the model, or for a stack its members.
        permutations: Shuffles; 200 unless given, 20 for networks and stacks.
        whole: Networks are trained whole with every shuffle. Otherwise their heads alone are, on frozen embeddings, and
            the whole network's score is set among the scores that those give: with labels that say nothing, there is
            nothing that more training could find.
        other_windows, store: As of :func:`moola.validation.stack`.
        seed: Of the shuffles.
        n_jobs: Cross-validations at a time.

    Raises what :func:`moola.evaluation.permutation_null` raises, and `ConfigError` for a model of which there is no
    estimator.
    """
    said = validation.predictions(model)[0]
    windows, splits = validation.windows, validation.splits[0]
    width = windows.X.shape[2]
    other = dict(other_windows or {})
    names = [name for name in estimators if name in validation.members] if model == STACK else [model]
    if missing := [name for name in names if name not in estimators]:
        raise ConfigError("estimators", f"lacks {missing[0]}; give the model that was cross-validated")
    shrunk = {
        name: clone(estimators[name])
        if whole
        else frozen(estimators[name], other[name].X.shape[2] if name in other else width)
        for name in names
    }
    cheaper = not whole and any("encoder" in one.get_params(deep=False) for one in shrunk.values())
    dear = model == STACK or any(map(is_dear, shrunk.values()))
    shuffles = permutations or (DEAR_PERMUTATIONS if dear else PERMUTATIONS)
    if model == STACK:
        inner = int(validation.settings["inner_folds"])
        score = partial(
            _score_stack,
            windows=windows,
            members=shrunk,
            splits=splits,
            inner_folds=inner,
            settings=validation.settings,
            other_windows={name: other[name] for name in shrunk if name in other},
            store=store,
        )
        fits = len(splits) * len(shrunk) * (inner + 1)
    else:
        score = partial(_score, windows=other.get(model, windows), estimator=shrunk[model], splits=splits)
        fits = len(splits)
    start = perf_counter()
    null = permutation_null(score, validation.truth, seed=seed, permutations=shuffles, n_jobs=n_jobs)
    seconds = perf_counter() - start
    if cheaper:
        own = scores(validation.truth, said)
        null = {name: replace(found, value=own[name]) for name, found in null.items()}
    what = f"{model} gives with heads alone trained, on frozen embeddings" if cheaper else f"{model} gives"
    note = (
        f"chance is what {what}, cross-validated with {shuffles} shuffles of the labels: {(shuffles + 1) * fits:,} "
        f"fits in {seconds:.0f} s"
    )
    return Luck(null, note)


def _score(
    truth: Truth, *, windows: LabelledWindows, estimator: Any, splits: Sequence[TrainTest]
) -> dict[str, float]:
    said = out_of_fold(
        estimator, windows.X, truth, splits, valid_mask=windows.valid_mask, weight=windows.weight
    )
    return scores(truth, said)


def _score_stack(
    truth: Truth,
    *,
    windows: LabelledWindows,
    members: Mapping[str, Any],
    splits: Sequence[TrainTest],
    inner_folds: int,
    settings: Mapping[str, Any],
    other_windows: Mapping[str, LabelledWindows],
    store: StorePath | None,
) -> dict[str, float]:
    found = stack(
        relabelled(windows, truth),
        members,
        inner_folds=inner_folds,
        splits=[splits],
        seed=settings["seed"],
        embargo=settings["embargo"],
        C=settings["C"],
        other_windows={name: relabelled(other, truth) for name, other in other_windows.items()},
        store=store,
    )
    return scores(truth, found.predictions(STACK)[0])
