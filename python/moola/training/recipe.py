"""The recipe that trains a model on labelled windows: on all of them, or once without each fold."""

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
"""The numbers of the training and the test windows of each fold."""


class Recipe(NamedTuple):
    """How to train a model on labelled windows. Each fold and the final model use the same recipe."""

    config: Config
    start: Encoder | None
    """The pre-trained encoder to start from; None trains from scratch."""
    device: torch.device
    seed: int
    validation_share: float
    """The share of windows that choose the epoch and the learning rate; 0 for none."""
    kept_columns: int
    """The number of kept columns, the last features. They are standardised."""

    def follow(
        self, examples: Examples, blocks: Numbers, report: Callable[[EpochRecord], None] | None = None
    ) -> tuple[Jade, FitResult, Numbers]:
        """Trains a model. Returns it, the result of its training, and the numbers of its training examples.

        Args:
            examples: n labelled windows.
            blocks: `[n]`: windows of the same block stay on the same side of the validation split.
            report: Called after each epoch.

        Raises `SplitError` as :meth:`validation` does.
        """
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

    def validation(self, y: Numbers, blocks: Numbers, names: Sequence[str] = ()) -> tuple[Numbers, Numbers]:
        """The numbers of the training and the validation examples. Raises `SplitError` if they cannot be split."""
        if not self.validation_share:
            return np.arange(len(y)), np.empty(0, np.int64)
        return part_by_share(y, blocks, self.validation_share, self.seed, names)

    def from_scratch(self) -> Recipe:
        """The same recipe without a pre-trained encoder. Nothing is frozen."""
        return self._replace(config=_set(self.config, freeze="none"), start=None)

    def heads_alone(self) -> Recipe:
        """The same recipe with the encoder always frozen, so that a fit encodes each window once.

        Without a pre-trained encoder, the encoder has random weights. Training uses all windows, without augmentation,
        for all epochs.
        """
        config = _set(self.config, freeze="always").model_copy(update={"augmentation": None})
        return self._replace(config=config, validation_share=0.0)

    def out_of_fold(
        self, examples: Examples, blocks: Numbers, parts: Folds, n_jobs: int | None = None
    ) -> Iterator[FoldOutcome]:
        """Trains a model without each fold, `n_jobs` at a time. Yields the outcomes in the order of folds."""
        # Parallel fits on one GPU are not faster.
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
    """A model's logits `[n, C]` for windows, and the first and last bar `[n, 2]` of a span in each.

    Spans are given for every window; whether its class has spans is for the caller to check.
    """
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
    """The predictions of a model for a fold that it was trained without."""

    logits: NDArray[np.float64]
    """`[m, C]`, the logits of the test windows."""
    places: Numbers
    """`[m, 2]`, the first and last bar of a span in each test window, also if its class has no spans."""
    fitted_on: Numbers
    """The numbers of the windows in training or validation."""
    result: FitResult


def without_fold(
    recipe: Recipe, examples: Examples, blocks: Numbers, train: Numbers, test: Numbers
) -> FoldOutcome:
    """Trains a model on the windows `train` and predicts the windows `test`."""
    model, result, _ = recipe.follow(_some(examples, train), blocks[train])
    logits, places = answers(model, examples.X[test], examples.valid[test], recipe.device)
    return FoldOutcome(logits, places, train, result)


def fold_logits(parts: Folds, outcomes: Sequence[FoldOutcome]) -> tuple[FoldLogits, Numbers]:
    """Out-of-fold predictions: the logits of all windows, and the places `[n, 2]` of spans."""
    tests = [test for _, test in parts]
    folds = by_window(tests, [np.full(len(test), fold) for fold, test in enumerate(tests)])
    logits = by_window(tests, [outcome.logits for outcome in outcomes])
    places = by_window(tests, [outcome.places for outcome in outcomes])
    assert folds is not None
    assert logits is not None
    assert places is not None
    return FoldLogits(logits, folds, [FittedOn(outcome.fitted_on) for outcome in outcomes]), places
