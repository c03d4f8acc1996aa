"""Random convolutional kernels, and a linear model on what they find."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from moola.estimators.base import ColumnClassifier
from moola.estimators.windows import Flags, Standardiser, Windows, check_training, check_windows
from moola.settings.whole_numbers import whole_number

__all__ = ["RandomKernels"]

_LENGTHS = (7, 9, 11)
# Windows transformed at a time.
_CHUNK = 128


class _Kernels(NamedTuple):
    """Kernels of one length and dilation."""

    dilation: int
    weights: NDArray[np.float32]
    """`[length, D, kernels]`, 0 for features that a kernel does not look at."""
    biases: NDArray[np.float32]
    """`[kernels]`."""


class RandomKernels(ColumnClassifier):
    """ROCKET: thousands of random convolutions, of each its maximum and the share of bars at which it is above 0.

    Weights are normal, less their mean; a kernel looks at some of the features; dilations spread it over up to the
    whole window; biases are uniform in ±1. Nothing of them is learned: a logistic regression on their standardised
    outcomes is. Unlike the original, every convolution reaches beyond the window's ends, into zeros as hidden bars are,
    and only valid bars are counted, so that padding which the mask hides changes nothing.

    Source: A. Dempster, F. Petitjean and G. I. Webb, "ROCKET: exceptionally fast and accurate time series
    classification using random convolutional kernels", Data Mining and Knowledge Discovery 34 (2020), 1454–1495.

    Args:
        kernels: How many.
        C: The inverse of the L2 penalty. It is small, because there are many more columns than windows.
        seed: Of the kernels.
    """

    def __init__(self, kernels: int = 1_000, C: float = 1e-3, seed: int = 0) -> None:  # noqa: N803
        self.kernels = kernels
        self.C = C
        self.seed = seed

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        spans: ArrayLike | None = None,
        valid_mask: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Draws the kernels and fits the regression; spans are not used.

        Raises `ConfigError`, naming the argument.
        """
        kernels = whole_number("kernels", self.kernels, 1, of="kernels")
        seed = whole_number("seed", self.seed, 0)
        x, valid = check_windows(X, valid_mask)
        self.classes_, codes, weight = check_training(y, sample_weight, len(x))
        self.n_features_in_ = x.shape[2]
        self._standardise = Standardiser(x, valid)
        self._kernels = _draw(kernels, x.shape[1], x.shape[2], np.random.default_rng(seed))
        with threadpool_limits(1):
            found = self._transform(x, valid)
            self._scaler = StandardScaler().fit(found, sample_weight=weight)
            self._model = LogisticRegression(C=self.C, max_iter=1_000)
            self._model.fit(self._scaler.transform(found), codes, sample_weight=weight)
        return self

    def _columns(self, x: Windows, valid: Flags) -> NDArray[Any]:
        scaled: NDArray[Any] = self._scaler.transform(self._transform(x, valid))
        return scaled

    def _transform(self, x: Windows, valid: Flags) -> NDArray[np.float64]:
        """`[n, 2·kernels]`: each kernel's maximum over valid bars, then the share of them at which it is above 0."""
        standard = self._standardise(x, valid)
        return np.concatenate(
            [
                _outcomes(standard[at : at + _CHUNK], valid[at : at + _CHUNK], self._kernels)
                for at in range(0, len(x), _CHUNK)
            ]
        )


def _draw(count: int, length: int, width: int, rng: np.random.Generator) -> list[_Kernels]:
    """Kernels for windows of `length` bars and `width` features, those of one length and dilation together."""
    lengths = rng.choice(_LENGTHS, count)
    # 2^U, U uniform up to where the kernel is as long as the window.
    most = np.log2(np.maximum((length - 1) / (lengths - 1), 1))
    dilations = np.floor(2 ** (rng.random(count) * most)).astype(np.int64)
    drawn = []
    for size, dilation in sorted(set(zip(lengths.tolist(), dilations.tolist(), strict=True))):
        kernels = int(((lengths == size) & (dilations == dilation)).sum())
        weights = rng.standard_normal((size, width, kernels))
        weights -= weights.mean(axis=0)
        # At least one feature, 2^U of them as in the dilations.
        wanted = np.floor(2 ** (rng.random(kernels) * np.log2(width + 1))).astype(np.int64)
        rank = rng.random((width, kernels)).argsort(axis=0).argsort(axis=0)
        weights *= rank < wanted
        biases = rng.uniform(-1, 1, kernels)
        drawn.append(_Kernels(dilation, weights.astype(np.float32), biases.astype(np.float32)))
    return drawn


def _outcomes(x: Windows, valid: Flags, kernels: list[_Kernels]) -> NDArray[np.float64]:
    n, length, width = x.shape
    highest, above = [], []
    count = valid.sum(axis=1)[:, None]
    for dilation, weights, biases in kernels:
        taps = len(weights)
        reach = dilation * (taps - 1) // 2
        padded = np.zeros((n, length + 2 * reach, width), np.float32)
        padded[:, reach : reach + length] = x
        seen = np.stack([padded[:, dilation * tap :][:, :length] for tap in range(taps)], axis=2)
        found = seen.reshape(n, length, taps * width) @ weights.reshape(taps * width, -1) + biases
        highest.append(np.where(valid[:, :, None], found, -np.inf).max(axis=1))
        above.append(((found > 0) & valid[:, :, None]).sum(axis=1) / count)
    return np.concatenate([*highest, *above], axis=1).astype(np.float64)
