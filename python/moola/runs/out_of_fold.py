"""The out-of-fold record of a fine-tuned run. Its logits calibrate the run, and ensembles with the run as a member."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from moola.errors import ConfigError, WeightsError
from moola.evaluation.calibration import TemperatureScaling, cross_fitted
from moola.evaluation.leaks import FittedOn, assert_out_of_fold
from moola.evaluation.outcomes import NO_SPAN, Predictions, Truth
from moola.models.weights import load_weights, save_weights
from moola.settings.arrays import Numbers

__all__ = ["OUT_OF_FOLD", "FoldLogits", "OutOfFoldRecord"]

OUT_OF_FOLD = "out_of_fold.safetensors"
# The predictions that a baseline may have.
_KINDS = ("probabilities", "spans")


class FoldLogits(NamedTuple):
    """Out-of-fold logits, and their calibration."""

    logits: NDArray[np.float64]
    """`[n, C]`, float64."""
    folds: Numbers
    """`[n]`: the fold that each window was held out in."""
    fitted_on: list[FittedOn]
    """By fold, the windows that its model was fitted on."""

    def temperature(self, y: Numbers) -> float:
        """The temperature fitted on all logits.

        Raises `LeakError` if a logit comes from a model that has seen its window.
        """
        assert_out_of_fold(self.folds, self.fitted_on)
        return TemperatureScaling().fit(self.logits, y).temperature

    def probabilities(self, y: Numbers) -> NDArray[np.float64]:
        """`[n, C]`: each fold's probabilities, calibrated by the temperature of the other folds."""
        return cross_fitted(self.logits, y, self.folds)

    def predictions(self, y: Numbers, places: Numbers, span_classes: NDArray[np.bool_]) -> Predictions:
        """The predictions to score.

        Args:
            y: `[n]`, the codes of the true classes, which fit the temperatures.
            places: `[n, 2]`: first and last bar of the predicted span, for windows of every class.
            span_classes: `[C]`: which classes have spans. A window predicted to be of another class has none.
        """
        spans = None
        if span_classes.any():
            spans = places.copy()
            spans[~span_classes[self.logits.argmax(axis=1)]] = NO_SPAN
        return Predictions(self.probabilities(y), spans, folds=self.folds)


class OutOfFoldRecord(NamedTuple):
    """The labels of a run's windows, and their out-of-fold predictions."""

    fingerprint: str
    """The fingerprint of windows, bars and labels. Runs with the same fingerprint were fine-tuned on the same data."""
    truth: Truth
    """The labels, grouped by stretches of time."""
    out_of_fold: FoldLogits
    places: Numbers
    """`[n, 2]`: first and last bar of the predicted spans, for windows of every class."""
    spans: Numbers | None
    """`[n, 2]`: `places`, with −1 and −1 if the predicted class has no spans; None if no class has spans."""
    baselines: Mapping[str, Sequence[Predictions]]
    """Predictions of the baselines in the same folds: trivial models, and the same model from scratch."""

    @property
    def predictions(self) -> Predictions:
        """The predictions to score: probabilities calibrated on the other folds, and spans."""
        folds = self.out_of_fold.folds
        return Predictions(self.out_of_fold.probabilities(self.truth.y), self.spans, folds=folds)

    def save(self, run: Path) -> None:
        """Writes `out_of_fold.safetensors` in the run's directory."""
        truth, said = self.truth, self.out_of_fold
        arrays = {
            "logits": said.logits,
            "places": self.places,
            "folds": said.folds,
            "y": truth.y,
            "groups": truth.groups,
            "seen": truth.seen,
        }
        if self.spans is not None and truth.spans is not None:
            arrays |= {"spans": self.spans, "true_spans": truth.spans}
        for number, several in enumerate(self.baselines.values()):
            for kind in _KINDS:
                of_kind = [getattr(one, kind) for one in several]
                if of_kind[0] is not None:
                    arrays[f"baseline.{number}.{kind}"] = np.stack(of_kind)
        record = {
            "kind": "out_of_fold",
            "windows": self.fingerprint,
            "classes": truth.classes.tolist(),
            "fitted_on": [fitted.record() for fitted in said.fitted_on],
            "baselines": [
                {"name": name, "repeats": len(several)} for name, several in self.baselines.items()
            ],
        }
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        save_weights(run / OUT_OF_FOLD, tensors, record)

    @classmethod
    def load(cls, run: str | os.PathLike[str]) -> Self:
        """Reads a run's record, and checks again that no model saw the windows that it predicts.

        Raises `WeightsError` if it is missing or damaged, and `LeakError`.
        """
        path = Path(run) / OUT_OF_FOLD
        weights = load_weights(path)
        arrays = {name: tensor.numpy() for name, tensor in weights.tensors.items()}
        try:
            classes = np.array(weights.record["classes"])
            truth = Truth(
                classes[arrays["y"]],
                classes=classes,
                spans=arrays.get("true_spans"),
                groups=arrays["groups"],
                seen=arrays["seen"],
            )
            fitted = [FittedOn.from_record(record) for record in weights.record["fitted_on"]]
            said = FoldLogits(arrays["logits"], arrays["folds"], fitted)
            baselines = {
                record["name"]: [
                    Predictions(
                        *(_row(arrays, f"baseline.{number}.{kind}", row) for kind in _KINDS), folds=said.folds
                    )
                    for row in range(record["repeats"])
                ]
                for number, record in enumerate(weights.record["baselines"])
            }
            found = cls(
                weights.record["windows"], truth, said, arrays["places"], arrays.get("spans"), baselines
            )
        except (KeyError, TypeError, IndexError, ConfigError):
            problem = "does not hold the out-of-fold logits of a run"
            raise WeightsError(path, problem, "Fine-tune it with moola finetune") from None
        assert_out_of_fold(said.folds, fitted)
        return found


def _row(arrays: Mapping[str, NDArray[Any]], name: str, row: int) -> NDArray[Any] | None:
    return arrays[name][row] if name in arrays else None
