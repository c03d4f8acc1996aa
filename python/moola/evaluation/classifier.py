"""The base of every classifier of windows: it predicts the class with the highest evidence."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from moola.evaluation.outcomes import Floats

__all__ = ["WindowClassifier"]


class WindowClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier that predicts its most probable class."""

    classes_: NDArray[Any]
    n_features_in_: int

    def predict_proba(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> Floats:
        """The probabilities of the classes: `[n, C]`, in the order of `classes_`."""
        raise NotImplementedError

    def predict(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> NDArray[Any]:
        """The most probable class of each window: `[n]`."""
        # Evaluated first, because it refuses a model that is not fitted.
        codes = self._evidence(X, valid_mask).argmax(axis=1)
        probable: NDArray[Any] = self.classes_[codes]
        return probable

    def _evidence(self, X: ArrayLike, valid_mask: ArrayLike | None) -> Floats:
        """`[n, C]`: the most probable class has the highest value of its row."""
        return self.predict_proba(X, valid_mask)
