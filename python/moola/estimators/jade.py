"""Jade as a scikit-learn classifier of windows."""

from __future__ import annotations

# Imported first: its error says what to install if torch is missing.
import moola.models  # noqa: F401

# isort: split
import copy
import os
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from moola.devices.placement import place
from moola.errors import ConfigError
from moola.estimators.base import LogitClassifier
from moola.models.encoder import Encoder
from moola.models.loading import load_encoder
from moola.models.training_bars import standardise_kept
from moola.models.weights import FeatureIdentity
from moola.settings.models import Config, load_config
from moola.settings.whole_numbers import whole_number
from moola.training.examples import Examples
from moola.training.fitting import augmentation_for, fit_jade
from moola.training.new_model import new_model

__all__ = ["JadeClassifier"]

# Windows per batch of predictions.
_CHUNK = 256


class JadeClassifier(LogitClassifier):
    """Classifies windows of bars, and predicts the span in each.

    X is `[n, K, D]`: n windows of K bars and D features. `[n, K]` means one feature; K is then scikit-learn's number of
    features. K may differ between calls only in three dimensions.

    Label windows without any pattern too, as a class of their own ("none") with spans of −1 and −1. Without this class,
    every window is assigned to one of the patterns.

    scikit-learn passes `params` only to `fit`: `cross_val_score(…, params={"valid_mask": mask})` trains with the mask
    and scores without it. :func:`moola.evaluation.out_of_fold` and `moola cross-validate` use it for both.

    Arguments that are None take the configuration's value.

    Args:
        model: The name of a shipped configuration, the path of a YAML file, or a mapping as such a file holds it.
        hidden_size: H, the hidden size of the encoder.
        epochs: The most epochs.
        lr: The learning rate.
        batch_size: Windows in a batch.
        seed: The seed for weights, order of windows, dropout, augmentation and validation windows. On a CPU, the same
            seed gives the same bits.
        device: `auto`, `cpu` or `cuda`.
        encoder: A pre-trained encoder: a run, a weights file, or the result of :func:`moola.models.load_encoder`.
        features: The identity of the features of X. If given, an encoder pre-trained on other features is refused.
        freeze: How long the encoder is frozen: `none`, `always`, or a number of epochs. Without a pre-trained encoder,
            nothing is frozen.
        class_weight: `balanced`, or a mapping of classes to factors.
        augmentation: False trains on windows without augmentation. Otherwise the configuration's augmentation applies,
            by default five copies of each window in an epoch, each with a new draw.
        kept_columns: The number of kept columns, such as volume, which are the last features. They may have any scale
            and are standardised over the training windows. A pre-trained encoder uses its own mean and deviation.
        validation_fraction: The share of windows, stratified by class, that choose the epoch and the learning rate and
            are not trained on. If they share bars with training windows, this choice is too optimistic.
        settings: Further values for the configuration, each as `training.finetune.weight_decay=1e-3`.

    Attributes: `classes_`; `n_features_in_` (D, or K if X has two dimensions); `model_` (the fitted
    :class:`moola.models.Jade`); `result_` (a :class:`moola.training.fitting.FitResult`, with the record of each epoch);
    `span_classes_` (`[C]` bool, the classes that had spans in training).
    """

    classes_: NDArray[Any]
    # K of windows of two dimensions, which must all have this length; None for three dimensions.
    _window_length: int | None

    def __init__(
        self,
        model: str | os.PathLike[str] | Mapping[str, Any] = "jade_compact",
        *,
        hidden_size: int | None = None,
        epochs: int | None = None,
        lr: float | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        device: str = "auto",
        encoder: str | os.PathLike[str] | Encoder | None = None,
        features: FeatureIdentity | None = None,
        freeze: str | int | None = None,
        class_weight: str | Mapping[Any, float] | None = None,
        augmentation: bool | None = None,
        kept_columns: int = 0,
        validation_fraction: float = 0.0,
        settings: Sequence[str] = (),
    ) -> None:
        self.model = model
        self.hidden_size = hidden_size
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.seed = seed
        self.device = device
        self.encoder = encoder
        self.features = features
        self.freeze = freeze
        self.class_weight = class_weight
        self.augmentation = augmentation
        self.kept_columns = kept_columns
        self.validation_fraction = validation_fraction
        self.settings = settings

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        spans: ArrayLike | None = None,
        valid_mask: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Trains a new model.

        Args:
            X: `[n, K, D]` or `[n, K]`, finite at visible bars.
            y: `[n]`, labels of any type.
            spans: `[n, 2]`, first and last bar of the labelled span, counted from 0 in the window; −1 and −1 for none.
                Spans are cut to the bars between the first and the last visible one. A span without visible bars does
                not train the pointer.
            valid_mask: `[n, K]` bool, the visible bars; all if not given. Values of hidden bars have no effect.
            sample_weight: `[n]`, the weight of each window; 0 leaves it out.

        Raises `ConfigError` (a `ValueError`), naming the argument, `WeightsError` for an encoder that cannot be loaded,
        and `FeatureMismatchError` for an encoder of other features.
        """
        # Before X: checking y later would lose the column names of X.
        labels = validate_data(self, y=y)
        windows, valid = self._windows(X, valid_mask, fitting=True)
        self._check_parameters()
        check_classification_targets(labels)
        _same_length("y", labels, windows)
        weight = _weights(sample_weight, windows)
        places = _spans(spans, windows)
        chosen = weight > 0
        if not chosen.any():
            raise ConfigError("sample_weight", "is zero for all windows; give some a positive weight")
        self.classes_, codes = np.unique(labels[chosen], return_inverse=True)
        if len(self.classes_) < 2:
            problem = f"has one class, {self.classes_[0]}; give windows of at least two classes"
            raise ConfigError("y", problem)
        examples = Examples(windows[chosen], valid[chosen], codes, places[chosen], weight[chosen])
        has_span = examples.spans[:, 0] >= 0
        self.span_classes_ = np.bincount(codes[has_span], minlength=len(self.classes_)) > 0

        config = self._config(labels[chosen])
        device = place(self.device).device
        seed = whole_number("seed", self.seed, 0)
        validation = None
        if self.validation_fraction:
            train, validation_rows = train_test_split(
                np.arange(len(codes)), test_size=self.validation_fraction, random_state=seed, stratify=codes
            )
            validation = Examples(*(array[validation_rows] for array in examples))
            examples = Examples(*(array[train] for array in examples))
        encoder = self._encoder()
        settings = config.training.finetune
        if encoder is None:
            settings = settings.model_copy(update={"freeze": "none"})
        augmentation = None
        if (self.augmentation is None or self.augmentation) and config.augmentation is not None:
            augmentation = augmentation_for(examples, config.augmentation)
        self.model_ = new_model(config.model, windows.shape[2], seed=seed, encoder=encoder)
        standardise_kept(
            self.model_.encoder, examples.X, examples.valid, self._kept_columns(windows.shape[2])
        )
        self.result_ = fit_jade(
            self.model_,
            examples,
            settings,
            seed=seed,
            device=device,
            validation=validation,
            augmentation=augmentation,
        )
        return self

    def predict_logits(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> NDArray[np.float64]:
        """The logits of the classes: `[n, C]`."""
        return self._predict(X, valid_mask)[0]

    def predict_spans(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> NDArray[np.int64]:
        """The first and last bar of each window's span: `[n, 2]`.

        −1 and −1 if the most likely class had no spans in training. Hidden bars before the first visible bar and after
        the last one are padding: they only shift the span. Hidden bars in between count as bars, and cut the LSTM's
        memory in two.
        """
        logits, spans = self._predict(X, valid_mask)
        spans[~self.span_classes_[logits.argmax(axis=1)]] = -1
        return spans

    @torch.no_grad()
    def _predict(
        self, X: ArrayLike, valid_mask: ArrayLike | None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        check_is_fitted(self)
        windows, valid = self._windows(X, valid_mask, fitting=False)
        device = place(self.device).device
        # A fitted model may come from a machine with another device.
        model = self.model_.to(device)
        logits, spans = [], []
        for first in range(0, len(windows), _CHUNK):
            x = torch.tensor(windows[first : first + _CHUNK], device=device)
            seen = torch.tensor(valid[first : first + _CHUNK], device=device)
            output = model(x, seen)
            logits.append(output.logits.double().cpu().numpy())
            spans.append(output.spans(windows.shape[1], seen).cpu().numpy())
        return np.concatenate(logits), np.concatenate(spans)

    def _check_parameters(self) -> None:
        """Refuses parameters of a wrong type. The configuration checks most ranges."""
        whole, number = "give a whole number", "give a number"
        for name, kind, wanted in (
            ("hidden_size", Integral, whole),
            ("epochs", Integral, whole),
            ("batch_size", Integral, whole),
            ("lr", Real, number),
            ("validation_fraction", Real, number),
        ):
            given = getattr(self, name)
            none = given is None and name != "validation_fraction"
            if not none and (isinstance(given, bool | np.bool_) or not isinstance(given, kind)):
                raise ConfigError(name, f"{given!r} is of type {type(given).__name__}; {wanted}")
        if not 0 <= self.validation_fraction < 1:
            problem = f"{self.validation_fraction!r} is not a share; give a number from 0 to less than 1"
            raise ConfigError("validation_fraction", problem)
        if not (self.augmentation is None or isinstance(self.augmentation, bool | np.bool_)):
            problem = f"{self.augmentation!r} is of type {type(self.augmentation).__name__}"
            raise ConfigError("augmentation", f"{problem}; give True or False")
        if isinstance(self.settings, str) or not all(isinstance(one, str) for one in self.settings):
            problem = f"{self.settings!r} is not a list of strings"
            raise ConfigError("settings", f"{problem}; give each as 'training.finetune.weight_decay=1e-3'")
        weight = self.class_weight
        if not (weight is None or isinstance(weight, Mapping)) and not (
            isinstance(weight, str) and weight == "balanced"
        ):
            problem = f"{self.class_weight!r} is not a class weight; give 'balanced' or a mapping of classes to factors"
            raise ConfigError("class_weight", problem)

    def _config(self, y: NDArray[Any]) -> Config:
        """The configuration with the estimator's parameters. `y` are the labels of the windows that have weight."""
        given = {
            "model.architecture.num_classes": len(self.classes_),
            "model.architecture.hidden_size": self.hidden_size,
            "training.finetune.epochs": self.epochs,
            "training.finetune.lr": self.lr,
            "training.finetune.batch_size": self.batch_size,
            "training.finetune.freeze": self.freeze,
        }
        if self.class_weight == "balanced":
            given["training.finetune.class_weight"] = "balanced"
        elif self.class_weight is not None:
            factors = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
            given["training.finetune.class_weight"] = factors.tolist()
        overrides = [f"{name}={value}" for name, value in given.items() if value is not None]
        return load_config(self.model, [*self.settings, *overrides])

    def _kept_columns(self, width: int) -> int:
        kept = whole_number("kept_columns", self.kept_columns, 0)
        if kept > width:
            raise ConfigError(
                "kept_columns", f"is {kept} of {width} features; give how many are kept columns"
            )
        return kept

    def _encoder(self) -> Encoder | None:
        if self.encoder is None:
            return None
        encoder = self.encoder if isinstance(self.encoder, Encoder) else load_encoder(self.encoder)
        if self.features is not None and encoder.origin is not None:
            encoder.origin.features.require(self.features, "X")
        return encoder

    def _windows(
        self, X: ArrayLike, valid_mask: ArrayLike | None, *, fitting: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The windows `[n, K, D]` and the visible bars `[n, K]`, checked."""
        dimensions = X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim
        if dimensions > 3:
            raise ConfigError("X", f"has {dimensions} dimensions; give [n, K, D], or [n, K] for one feature")
        if dimensions == 3 and 0 in (shape := np.shape(X))[1:]:
            what = "bars" if shape[1] == 0 else "features"
            raise ConfigError(
                "X", f"is of shape {list(shape)}, without {what}; give [n, K, D], at least one of each"
            )
        given, valid = X, None
        if valid_mask is not None:
            X, valid = np.asarray(X), np.asarray(valid_mask)
            shape = X.shape[:2]
            if valid.dtype != np.bool_ or valid.shape != shape:
                problem = f"is {valid.dtype} of shape {list(valid.shape)}"
                raise ConfigError("valid_mask", f"{problem}; give bool of shape {list(shape)}, as X has it")
            if not valid.any(axis=1).all():
                hidden = int(np.argmin(valid.any(axis=1)))
                raise ConfigError("valid_mask", f"hides every bar of window {hidden}; leave the window out")
            # Hidden bars may have any value, including NaN.
            X = np.where(valid[..., None] if dimensions == 3 else valid, X, 0)
        if dimensions == 3:
            windows = check_array(X, dtype=np.float32, allow_nd=True, estimator=self, input_name="X")
            width = windows.shape[2]
            if fitting:
                self.n_features_in_ = width
            elif width != self.model_.encoder.input_size:
                problem = f"has {width} features, the model was fitted on {self.model_.encoder.input_size}"
                raise ConfigError("X", f"{problem}; give the same features, in the same order")
        else:
            if not fitting and self._window_length is None:
                problem = "has two dimensions, the model was fitted on three"
                raise ConfigError("X", f"{problem}; give [n, K, D]")
            windows = check_array(X, dtype=np.float32, estimator=self, input_name="X")[..., None]
            # Column names come from X as given. With a mask, X is a plain array by now.
            validate_data(self, given, reset=fitting, skip_check_array=True)
        if fitting:
            self._window_length = windows.shape[1] if dimensions == 2 else None
        if valid is None:
            valid = np.ones(windows.shape[:2], np.bool_)
        return windows, valid

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        if "model_" in state:
            # So that the model can be loaded on a machine without its device.
            state = state | {"model_": copy.deepcopy(state["model_"]).cpu()}
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def _same_length(name: str, given: NDArray[Any], windows: NDArray[np.float32]) -> None:
    if len(given) != len(windows):
        raise ConfigError(name, f"has {len(given):,} rows for {len(windows):,} windows; give one for each")


def _weights(given: ArrayLike | None, windows: NDArray[np.float32]) -> NDArray[np.float64]:
    if given is None:
        return np.ones(len(windows))
    weight: NDArray[np.float64] = check_array(
        given, dtype=np.float64, ensure_2d=False, input_name="sample_weight"
    )
    if weight.ndim != 1:
        raise ConfigError(
            "sample_weight", f"has {weight.ndim} dimensions; give one number for each window, [n]"
        )
    _same_length("sample_weight", weight, windows)
    if (weight < 0).any():
        i = int(np.argmin(weight))
        raise ConfigError("sample_weight", f"is {weight[i]:g} for window {i}; give weights of 0 or more")
    return weight


def _spans(given: ArrayLike | None, windows: NDArray[np.float32]) -> NDArray[np.int64]:
    count, length, _ = windows.shape
    if given is None:
        return np.full((count, 2), -1, np.int64)
    spans = np.asarray(given)
    if spans.shape != (count, 2) or spans.dtype.kind not in "iu":
        problem = f"is {spans.dtype} of shape {list(spans.shape)}"
        raise ConfigError("spans", f"{problem}; give whole numbers of shape [{count}, 2], −1 and −1 for none")
    first, last = spans[:, 0], spans[:, 1]
    fine = ((first >= 0) & (first <= last) & (last < length)) | ((first == -1) & (last == -1))
    if not fine.all():
        i = int(np.argmin(fine))
        problem = f"is {first[i]} to {last[i]} for window {i}"
        raise ConfigError(
            "spans", f"{problem}; give first and last bar, from 0 to {length - 1}, or −1 and −1"
        )
    return spans.astype(np.int64)
