"""Monte Carlo dropout: how much a network's predictions vary with its units dropped at random."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import nn

from moola.devices.threads import one_thread
from moola.errors import ConfigError
from moola.models.dropout import Dropout, seed_dropout
from moola.settings.whole_numbers import whole_number

__all__ = ["DRAWS", "DropoutSpread", "dropout_spread", "has_dropout"]

DRAWS = 20
"""The default number of draws."""


class DropoutSpread(NamedTuple):
    """Probabilities over draws of dropout, `[n, C]` each."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    """Their standard deviation."""


def dropout_spread(
    classifier: Any,
    X: ArrayLike,
    valid_mask: ArrayLike | None = None,
    *,
    seed: int,
    draws: int = DRAWS,
) -> DropoutSpread:
    """Monte Carlo dropout: predicts with dropout on, several times.

    Each draw costs one prediction. A large deviation shows that the model is uncertain; a small one does not show that
    it is certain.

    Source: Y. Gal and Z. Ghahramani, "Dropout as a Bayesian approximation: representing model uncertainty in deep
    learning", ICML 2016.

    Args:
        classifier: A fitted network with `model_`, such as :class:`moola.JadeClassifier`.
        X, valid_mask: As for `predict_proba`.
        seed: Seed of the draws. On a CPU, the same seed gives the same bits.
        draws: Number of draws, 2 or more.

    Raises `ConfigError` for fewer draws, and for a model without dropout.
    """
    draws = whole_number("draws", draws, 2)
    check_is_fitted(classifier)
    if not has_dropout(classifier):
        raise ConfigError(
            "classifier", "has no dropout to draw from; give a network that was trained with dropout"
        )
    model = classifier.model_
    probabilities = []
    try:
        with one_thread():
            model.train()
            for draw in range(draws):
                seed_dropout(model, seed, draw)
                probabilities.append(classifier.predict_proba(X, valid_mask))
    finally:
        model.eval()
    drawn = np.stack(probabilities)
    return DropoutSpread(drawn.mean(axis=0), drawn.std(axis=0))


def has_dropout(classifier: Any) -> bool:
    """Whether a fitted classifier is a network with dropout."""
    model = getattr(classifier, "model_", None)
    return isinstance(model, nn.Module) and any(
        isinstance(part, Dropout) and part.p > 0 for part in model.modules()
    )
