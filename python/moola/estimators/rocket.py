"""Random convolutional kernels, and a logistic regression on their outputs."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from moola.estimators.base import ColumnClassifier
from moola.estimators.windows import Flags, Standardiser, Windows
from moola.settings.whole_numbers import whole_number

__all__ = ["RandomKernels"]

_LENGTHS = (7, 9, 11)
# Windows transformed at a time.
_CHUNK = 128


class _Kernels(NamedTuple):
    """Kernels of the same length and dilation."""

    dilation: int
    weights: NDArray[np.float32]
    """`[length, D, kernels]`, 0 for features that a kernel does not use."""
    biases: NDArray[np.float32]
    """`[kernels]`."""


class RandomKernels(ColumnClassifier):
    """ROCKET: the maximum of each of a thousand random convolutions, and the share of bars at which it is above 0.

    Kernels are random and not trained. Their weights are normal, minus their mean; each uses some of the features;
    dilations spread a kernel over up to the whole window; biases are uniform in ±1. A logistic regression is trained on
    the standardised outputs. Unlike in the original, windows are padded with zeros for every convolution, hidden bars
    are zeros, and only valid bars count in the outputs. So padding hidden by the mask changes nothing.

    Source: A. Dempster, F. Petitjean and G. I. Webb, "ROCKET: exceptionally fast and accurate time series
    classification using random convolutional kernels", Data Mining and Knowledge Discovery 34 (2020), 1454–1495.

    Args:
        kernels: The number of kernels.
        C: The inverse of the L2 penalty. It is small, because there are many more columns than windows.
        seed: The seed for the kernels.
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
        """Draws the kernels and fits the regression on windows `[n, K, D]`; spans are not used.

        Raises `ConfigError`, naming the argument.
        """
        kernels = whole_number("kernels", self.kernels, 1, of="kernels")
        seed = whole_number("seed", self.seed, 0)
        x, valid, codes, weight = self._check_fit(X, y, valid_mask, sample_weight)
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
        """`[n, 2·kernels]`: each kernel's maximum over valid bars, then its share of valid bars above 0."""
        standard = self._standardise(x, valid)
        return np.concatenate(
            [
                _outcomes(standard[at : at + _CHUNK], valid[at : at + _CHUNK], self._kernels)
                for at in range(0, len(x), _CHUNK)
            ]
        )


def _draw(count: int, length: int, width: int, rng: np.random.Generator) -> list[_Kernels]:
    """`count` kernels for windows of `length` bars and `width` features, grouped by length and dilation."""
    lengths = rng.choice(_LENGTHS, count)
    # 2^U with U uniform. At the upper limit of U, the kernel is as long as the window.
    most = np.log2(np.maximum((length - 1) / (lengths - 1), 1))
    dilations = np.floor(2 ** (rng.random(count) * most)).astype(np.int64)
    drawn = []
    for size, dilation in sorted(set(zip(lengths.tolist(), dilations.tolist(), strict=True))):
        kernels = int(((lengths == size) & (dilations == dilation)).sum())
        weights = rng.standard_normal((size, width, kernels))
        weights -= weights.mean(axis=0)
        # 2^U features with U uniform, at least one.
        wanted = np.floor(2 ** (rng.random(kernels) * np.log2(width + 1))).astype(np.int64)
        rank = rng.random((width, kernels)).argsort(axis=0).argsort(axis=0)
        weights *= rank < wanted
        biases = rng.uniform(-1, 1, kernels)
        drawn.append(_Kernels(dilation, weights.astype(np.float32), biases.astype(np.float32)))
    return drawn


def _outcomes(x: Windows, valid: Flags, kernels: list[_Kernels]) -> NDArray[np.float64]:
    """`[n, 2·kernels]`: the maxima of all kernels over valid bars, then the shares of valid bars above 0."""
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
