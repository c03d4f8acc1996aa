"""Fine-tuned runs, opened for prediction: one or an ensemble."""

from __future__ import annotations

# First, because its error says what to install if torch is missing.
import moola.models  # noqa: F401

# isort: split
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain
from operator import or_
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moola.errors import ConfigError, FeatureMismatchError, RunError, WeightsError
from moola.evaluation.calibration import TemperatureScaling, log_probabilities
from moola.files.renamed import renamed_attribute
from moola.models.jade import Jade
from moola.models.loading import load_model
from moola.models.weights import FeatureIdentity, Origin, weights_path
from moola.runs.directory import read_record, read_seen_bars
from moola.runs.seen_bars import SeenBars
from moola.store.reader import FeatureStore
from moola.validation.ensembles import mean_spans

__all__ = ["ENSEMBLE", "FinetunedModels", "RunPath", "member_runs"]


ENSEMBLE = "ensemble.json"
"""The file that makes a directory an ensemble. It names the members' directories and the temperature, if any."""

RunPath: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True)
class FinetunedModels:
    """The models of one run, or of several that predict together. They are loaded on the CPU, in evaluation mode."""

    models: tuple[Jade, ...]
    calibrations: tuple[TemperatureScaling, ...]
    classes: tuple[str, ...]
    span_classes: NDArray[np.bool_]
    """`[C]`: which classes have spans."""
    features: FeatureIdentity
    """The features of their input, without the bars' identity."""
    window_length: int
    """K that they were trained with."""
    seen_bars: SeenBars
    """The bars that any of them saw, in training or pre-training."""
    calibration: TemperatureScaling | None = None
    """The calibration of the mean of the models' calibrated probabilities; None for one model, or if there is none."""

    learned = renamed_attribute("learned", "seen_bars")

    @classmethod
    def load(cls, run: RunPath | Sequence[RunPath]) -> Self:
        """Loads a run, an ensemble, or several of either. All members then predict together.

        An ensemble's own temperature applies only if no other run is given.

        Raises `RunError` for a directory that is neither a run nor an ensemble, and for runs that cannot be combined;
        `WeightsError` for weights that are missing, damaged or only an encoder's; `FeatureMismatchError` for runs with
        different features.
        """
        given = paths_of("run", run, "the directory of a fine-tuned run")
        paths = member_runs(given)
        models = [load_model(path) for path in paths]
        records = [_record(path, model) for path, model in zip(paths, models, strict=True)]
        first = models[0].origin
        assert first is not None
        # The bars of each model are checked when a store is given.
        features = replace(first.features, bars=None)
        shared: set[int] | None = None
        for path, model, record in zip(paths, models, records, strict=True):
            assert model.origin is not None
            features.require(model.origin.features, str(path))
            mine = (record["classes"], record["span_classes"], model.origin.window_length)
            whose = (records[0]["classes"], records[0]["span_classes"], first.window_length)
            for name, theirs, ours in zip(
                ("classes", "classes with spans", "window length"), mine, whose, strict=True
            ):
                if theirs != ours:
                    problem = f"its {name}: {theirs}, and those of {paths[0]}: {ours}"
                    raise RunError(path, problem, "Combine runs that were fine-tuned on the same labels")
            bars = model.origin.features.bars
            if bars is not None and bars.intervals:
                shared = {*bars.intervals} if shared is None else shared & {*bars.intervals}
                if not shared:
                    problem = f"its bars are {bars.apart} apart, and those of the runs before it are not"
                    raise RunError(
                        path, problem, "Combine runs that were trained on bars of the same interval"
                    )
        return cls(
            models=tuple(models),
            calibrations=tuple(TemperatureScaling(record["temperature"]) for record in records),
            classes=tuple(records[0]["classes"]),
            span_classes=np.array(records[0]["span_classes"], np.bool_),
            features=features,
            window_length=first.window_length,
            seen_bars=reduce(or_, map(read_seen_bars, paths)),
            calibration=_calibration(given[0]) if len(given) == 1 else None,
        )

    def require(self, store: FeatureStore) -> None:
        """Raises `FeatureMismatchError` if any of the models cannot read a store."""
        given = FeatureIdentity.of(store, [n for n in self.features.extra if n in store.extra_names])
        for origin in self._origins:
            origin.features.require(given, str(store.path))
        if store.layout == "windows" and store.window_length != self.window_length:
            raise FeatureMismatchError(
                f"{store.path} holds windows of {store.window_length} bars, and the weights were trained on windows "
                f"of {self.window_length}",
                "Build a store with --layout bars, which serves every length",
            )

    def notes(self, store: FeatureStore) -> list[str]:
        """Notes on how the models fit a store."""
        given = FeatureIdentity.of(store, self.features.extra)
        notes = (origin.features.notes(given, str(store.path)) for origin in self._origins)
        return list(dict.fromkeys(chain.from_iterable(notes)))

    @property
    def read_options(self) -> Mapping[str, Any]:
        """How bars were read in training, from the first model that recorded it."""
        known = (origin.features.bars for origin in self._origins)
        return next((bars.read_options for bars in known if bars is not None and bars.read_options), {})

    @property
    def bar_interval(self) -> int | None:
        """How long the bars of training were, in nanoseconds; None if unknown or if there were several lengths."""
        known = (origin.features.bars for origin in self._origins)
        lengths = {bars.intervals for bars in known if bars is not None and bars.intervals}
        return lengths.pop()[0] if len(lengths) == 1 and len(next(iter(lengths))) == 1 else None

    @property
    def _origins(self) -> list[Origin]:
        return [model.origin for model in self.models if model.origin is not None]

    def answers(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """`[B, members · (C + 2)]`: for each model, the logits of the classes and a span's first and last bar."""
        outputs = (model(x, valid) for model in self.models)
        length = x.shape[1]
        return torch.cat([part for out in outputs for part in (out.logits, out.spans(length, valid))], dim=1)

    def combine(self, answers: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Calibrated probabilities `[B, C]`, and the first and last bar of spans `[B, 2]`, −1 and −1 for none.

        Each model's probabilities are calibrated by its own temperature; their mean is calibrated by `calibration`, if
        there is one. Spans are the median of the models'. A window has none if its most likely class has none.
        """
        each = answers.reshape(len(answers), len(self.models), -1).astype(np.float64)
        logits, places = each[:, :, :-2], each[:, :, -2:].astype(np.int64)
        calibrated = [
            scaling.probabilities(logits[:, number]) for number, scaling in enumerate(self.calibrations)
        ]
        probabilities: NDArray[np.float64] = np.mean(calibrated, axis=0)
        if self.calibration is not None:
            probabilities = self.calibration.probabilities(log_probabilities(probabilities))
        return probabilities, self.spans([*places.transpose(1, 0, 2)], probabilities)

    def spans(
        self, places: Sequence[NDArray[np.int64]], probabilities: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """`[B, 2]`: the median of the models' spans `[B, 2]`; −1 if the most likely class has none."""
        spans = mean_spans(places)
        spans[~self.span_classes[probabilities.argmax(axis=1)]] = -1
        return spans


def member_runs(given: Sequence[RunPath]) -> list[Path]:
    """The given run directories, with each ensemble replaced by its members.

    Raises `RunError` for a missing directory, for a file, and for an ensemble that names no members or members outside
    its directory.
    """
    return [member for path in given for member in _members(Path(path))]


def _members(path: Path) -> list[Path]:
    if not (path / ENSEMBLE).exists():
        if not path.exists():
            raise RunError(path, "there is no such run", "Give the directory that moola finetune made")
        if path.is_file():
            problem = "is a file, and prediction also needs the run's record of seen bars"
            raise RunError(path, problem, "Give the directory of the run")
        return [path]
    members = read_record(path / ENSEMBLE).get("members")
    if not (isinstance(members, list) and members and all(isinstance(name, str) for name in members)):
        raise RunError(path / ENSEMBLE, "names no members", _REMAKE)
    for name in members:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            problem = f"names {name}, which lies outside its directory and would be missing from a copy"
            raise RunError(path / ENSEMBLE, problem, _REMAKE)
    return [path / name for name in members]


_REMAKE = "Make it with moola ensemble RUN RUN … --output DIR"


def _calibration(path: Path) -> TemperatureScaling | None:
    """The calibration of an ensemble's mean."""
    if not (path / ENSEMBLE).exists():
        return None
    temperature = read_record(path / ENSEMBLE).get("temperature")
    if temperature is None:
        return None
    if not (isinstance(temperature, float) and 0 < temperature < float("inf")):
        raise RunError(path / ENSEMBLE, f"its temperature {temperature!r} is not a positive number", _REMAKE)
    return TemperatureScaling(temperature)


def _record(path: Path, model: Jade) -> dict[str, Any]:
    """The record that fine-tuning wrote into the weights file. Raises `WeightsError` if there is none."""
    assert model.origin is not None
    more, count = model.origin.more, model.architecture.num_classes
    classes, with_spans, temperature = (more.get(name) for name in ("classes", "span_classes", "temperature"))
    if not (
        isinstance(classes, list)
        and isinstance(with_spans, list)
        and isinstance(temperature, float)
        and len(classes) == len(with_spans) == count
    ):
        problem = "does not record its classes, or the temperature that calibrates them"
        raise WeightsError(weights_path(path), problem, "Fine-tune it with moola finetune")
    return {"classes": classes, "span_classes": with_spans, "temperature": temperature}


def paths_of(name: str, given: object, what: str) -> list[Path]:
    """One path or several, as a list. Raises `ConfigError` for anything else, and for an empty sequence."""
    several = [given] if isinstance(given, str | os.PathLike) else given
    if not isinstance(several, Sequence) or not all(isinstance(path, str | os.PathLike) for path in several):
        problem = f"must be a path, or several, not a {type(given).__name__}; give {what}"
        raise ConfigError(name, problem)
    if not several:
        raise ConfigError(name, f"is empty; give {what}")
    return [Path(path) for path in several]
