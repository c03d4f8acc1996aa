"""The recipe that makes a model of labelled windows, with all of them or without each fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from joblib import delayed
from numpy.typing import NDArray

from moola.devices.ranks import in_order
from moola.devices.threads import one_thread
from moola.evaluation.fold_predictions import by_window
from moola.evaluation.leaks import FittedOn
from moola.folds.validation_share import part_by_share
from moola.models.encoder import Encoder
from moola.models.jade import Jade
from moola.models.training_bars import standardise_kept
from moola.runs.out_of_fold import FoldLogits
from moola.settings.arrays import Numbers
from moola.settings.models import Config
from moola.training.examples import Examples
from moola.training.fitting import EpochRecord, FitResult, augmentation_for, fit_jade
from moola.training.new_model import new_model

__all__ = ["FoldOutcome", "Folds", "Recipe", "fold_logits", "without_fold"]

_CHUNK = 256

Folds = Sequence[tuple[Numbers, Numbers]]
"""(train, test) of each fold."""


class Recipe(NamedTuple):
    """How a model is made of labelled windows: the same for each fold, and for all windows."""

    config: Config
    start: Encoder | None
    device: torch.device
    seed: int
    validation_share: float
    kept_columns: int
    """How many of the features are kept columns, which are scaled."""

    def follow(
        self, examples: Examples, blocks: Numbers, report: Callable[[EpochRecord], None] | None = None
    ) -> tuple[Jade, FitResult, Numbers]:
        """A model, what its training came to, and the numbers of the examples it has learned from."""
        train, validation = self.validation(examples.y, blocks)
        mine = _some(examples, train)
        model = new_model(self.config.model, examples.X.shape[2], seed=self.seed, encoder=self.start)
        standardise_kept(model.encoder, mine.X, mine.valid, self.kept_columns)
        augmentation = None
        if self.config.augmentation is not None:
            augmentation = augmentation_for(mine, self.config.augmentation)
        result = fit_jade(
            model,
            mine,
            self.config.training.finetune,
            seed=self.seed,
            device=self.device,
            validation=_some(examples, validation) if len(validation) else None,
            augmentation=augmentation,
            report=report,
        )
        return model, result, train

    def validation(self, y: Numbers, blocks: Numbers) -> tuple[Numbers, Numbers]:
        """What to learn from, and what chooses the epoch. Raises `SplitError`."""
        if not self.validation_share:
            return np.arange(len(y)), np.empty(0, np.int64)
        return part_by_share(y, blocks, self.validation_share, self.seed)

    def from_scratch(self) -> Recipe:
        """The same without an encoder: there is then nothing to freeze."""
        return self._replace(config=_set(self.config, freeze="none"), start=None)

    def heads_alone(self) -> Recipe:
        """The same with its encoder as it is throughout, so that windows are encoded once a fit.

        Without an encoder it is one of random weights. All windows are learned from, unaugmented, for all epochs.
        """
        config = _set(self.config, freeze="always").model_copy(update={"augmentation": None})
        return self._replace(config=config, validation_share=0.0)

    def out_of_fold(
        self, examples: Examples, blocks: Numbers, parts: Folds, n_jobs: int | None = None
    ) -> Iterator[FoldOutcome]:
        """Follows the recipe without each fold, in their order, `n_jobs` at a time."""
        # A GPU is one: what takes turns there does not become faster.
        jobs = n_jobs if self.device.type == "cpu" else 1
        fits = [delayed(without_fold)(self, examples, blocks, train, test) for train, test in parts]
        return in_order(fits, jobs)


def _set(config: Config, **values: Any) -> Config:
    finetune = config.training.finetune.model_copy(update=values)
    return config.model_copy(update={"training": config.training.model_copy(update={"finetune": finetune})})


def _some(examples: Examples, numbers: Numbers) -> Examples:
    X, valid, y, spans, weight = examples
    return Examples(X[numbers], valid[numbers], y[numbers], spans[numbers], weight[numbers])


def answers(
    model: Jade, X: NDArray[np.float32], valid: NDArray[np.bool_], device: torch.device
) -> tuple[NDArray[np.float64], Numbers]:
    """A model's logits `[n, C]` of windows, and where a span of theirs would lie, `[n, 2]`."""
    logits, places = [], []
    with torch.no_grad(), one_thread():
        for first in range(0, len(X), _CHUNK):
            part = slice(first, first + _CHUNK)
            seen = torch.tensor(valid[part], device=device)
            output = model(torch.tensor(X[part], device=device), seen)
            logits.append(output.logits.double().cpu().numpy())
            places.append(output.spans(X.shape[1], seen).cpu().numpy())
    return np.concatenate(logits), np.concatenate(places)


class FoldOutcome(NamedTuple):
    """What a model that was made without a fold says of it."""

    logits: NDArray[np.float64]
    places: Numbers
    """The places of spans, for any class."""
    fitted_on: Numbers
    """The windows that were learned from, or chose the epoch."""
    result: FitResult


def without_fold(
    recipe: Recipe, examples: Examples, blocks: Numbers, train: Numbers, test: Numbers
) -> FoldOutcome:
    """Follows the recipe with `train` alone, and asks of `test`."""
    model, result, _ = recipe.follow(_some(examples, train), blocks[train])
    logits, places = answers(model, examples.X[test], examples.valid[test], recipe.device)
    return FoldOutcome(logits, places, train, result)


def fold_logits(parts: Folds, outcomes: Sequence[FoldOutcome]) -> tuple[FoldLogits, Numbers]:
    """Logits of all windows, and `[n, 2]` where spans would lie, each by the model that was made without it."""
    tests = [test for _, test in parts]
    folds = by_window(tests, [np.full(len(test), fold) for fold, test in enumerate(tests)])
    logits = by_window(tests, [outcome.logits for outcome in outcomes])
    places = by_window(tests, [outcome.places for outcome in outcomes])
    assert folds is not None
    assert logits is not None
    assert places is not None
    return FoldLogits(logits, folds, [FittedOn(outcome.fitted_on) for outcome in outcomes]), places
