"""Base classes of window classifiers, with predictions from logits or from columns computed for each window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from moola.estimators.windows import Flags, Floats, Windows, check_training, check_windows
from moola.evaluation.classifier import WindowClassifier
from moola.settings.arrays import Numbers

__all__ = ["ColumnClassifier", "LogitClassifier"]


class _Member(WindowClassifier):
    """A classifier of windows, with the checks at the start of `fit`."""

    def _check_fit(
        self, X: ArrayLike, y: ArrayLike, valid_mask: ArrayLike | None, sample_weight: ArrayLike | None
    ) -> tuple[Windows, Flags, Numbers, Floats]:
        """Checks the arguments of `fit`, and sets `classes_` and `n_features_in_`.

        Returns the windows `[n, K, D]`, 0 where hidden; the mask `[n, K]`; class codes `[n]`; and weights `[n]`. Raises
        `ConfigError`, naming the argument.
        """
        x, valid = check_windows(X, valid_mask)
        self.classes_, codes, weight = check_training(y, sample_weight, len(x))
        self.n_features_in_ = x.shape[2]
        return x, valid, codes, weight


class LogitClassifier(_Member):
    """A classifier whose model returns logits."""

    def predict_logits(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> NDArray[np.float64]:
        """The logits of the classes: `[n, C]`."""
        raise NotImplementedError

    def predict_proba(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> NDArray[np.float64]:
        """The uncalibrated probabilities of the classes: `[n, C]`, in the order of `classes_`."""
        probabilities: NDArray[np.float64] = softmax(self.predict_logits(X, valid_mask), axis=1)
        return probabilities

    def _evidence(self, X: ArrayLike, valid_mask: ArrayLike | None) -> NDArray[np.float64]:
        return self.predict_logits(X, valid_mask)


class ColumnClassifier(_Member):
    """A scikit-learn classifier on columns computed for each window."""

    _model: Any
    """The classifier fitted on the columns."""

    def _columns(self, x: Windows, valid: Flags) -> NDArray[Any]:
        """The columns of windows: `[n, columns]`."""
        raise NotImplementedError

    def predict_proba(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> NDArray[np.float64]:
        """The probabilities of the classes: `[n, C]`, in the order of `classes_`."""
        check_is_fitted(self)
        x, valid = check_windows(X, valid_mask, self.n_features_in_)
        with threadpool_limits(1):
            probabilities: NDArray[np.float64] = self._model.predict_proba(self._columns(x, valid))
        return probabilities
