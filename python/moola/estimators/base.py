"""What classifiers of windows share: predictions from logits, or from columns that are computed of each window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from moola.estimators.windows import Flags, Windows, check_windows
from moola.evaluation.classifier import WindowClassifier

__all__ = ["ColumnClassifier", "LogitClassifier"]


class LogitClassifier(WindowClassifier):
    """A classifier whose model gives logits."""

    def predict_logits(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> NDArray[np.float64]:
        """The logits of the classes: `[n, C]`."""
        raise NotImplementedError

    def predict_proba(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> NDArray[np.float64]:
        """The uncalibrated probabilities of the classes: `[n, C]`, in the order of `classes_`."""
        probabilities: NDArray[np.float64] = softmax(self.predict_logits(X, valid_mask), axis=1)
        return probabilities

    def _evidence(self, X: ArrayLike, valid_mask: ArrayLike | None) -> NDArray[np.float64]:
        return self.predict_logits(X, valid_mask)


class ColumnClassifier(WindowClassifier):
    """A scikit-learn classifier on columns that are computed of each window."""

    _model: Any
    """The fitted classifier of the columns."""

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
