"""Weights on disk: safetensors files with a record of the model and of the features it was trained on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from moola import _core
from moola.errors import FeatureMismatchError, WeightsError
from moola.files.publishing import write_file
from moola.models.bar_identity import BarIdentity
from moola.settings.feature_sets import describe_features
from moola.settings.models import ModelConfig
from moola.store.reader import FeatureStore

if TYPE_CHECKING:
    from moola.labels.windows import LabelledWindows

__all__ = [
    "FeatureIdentity",
    "Origin",
    "Weights",
    "digest_of",
    "load_weights",
    "save_weights",
    "weights_path",
]

_FORMAT = 1


@dataclass(frozen=True)
class FeatureIdentity:
    """Identifies a model's input features. Stores with the same identity can feed the same model."""

    feature_set: str
    parameters: Mapping[str, Any]
    """The parameters of the features, as in a store's metadata."""
    columns: tuple[str, ...]
    """The names of the features, in order."""
    extra: tuple[str, ...] = ()
    """The names of the kept columns, which follow the features."""
    bars: BarIdentity | None = None
    """The identity of the bars; None if unknown, as for windows without times and for older runs."""

    @classmethod
    def of(cls, store: FeatureStore | Sequence[FeatureStore], extra: Sequence[str] = ()) -> Self:
        """The identity of the features of a store, or of several stores with equal features.

        Args:
            store: One or more stores.
            extra: The kept columns that the model reads, in order.
        """
        stores = [store] if isinstance(store, FeatureStore) else store
        first = stores[0]
        return cls(first.feature_set, first.config, first.feature_names, tuple(extra), BarIdentity.of(stores))

    @classmethod
    def of_windows(cls, windows: LabelledWindows, store: FeatureStore | None = None) -> Self:
        """The identity of labelled windows.

        Args:
            windows: Labelled windows.
            store: The store they were cut from, if any; it describes their bars.

        Raises `ConfigError` for an unknown feature set.
        """
        bars: BarIdentity | None
        if store is not None:
            own, bars = store.feature_names, BarIdentity.of([store])
        else:
            described = describe_features(windows.feature_set, windows.parameters)
            own, bars = tuple(name for name, _, _ in described), BarIdentity.of_windows(windows)
        return cls(windows.feature_set, windows.parameters, own, windows.feature_names[len(own) :], bars)

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> Self:
        """Reads what :meth:`record` returned. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        return cls(
            str(record["feature_set"]),
            dict(record["parameters"]),
            tuple(map(str, record["columns"])),
            tuple(map(str, record["extra"])),
            BarIdentity.parse(record["bars"]) if "bars" in record else None,
        )

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        values = {
            "feature_set": self.feature_set,
            "parameters": dict(self.parameters),
            "columns": list(self.columns),
            "extra": list(self.extra),
        }
        return values if self.bars is None else values | {"bars": self.bars.record()}

    @property
    def width(self) -> int:
        """D, columns of the input."""
        return len(self.columns) + len(self.extra)

    def require(self, given: FeatureIdentity, source: str) -> None:
        """Checks that `given`, the features of `source`, are the ones the model was trained on.

        Features match if the same bars give the same numbers in the same columns. `warmup_bars` is not compared: it
        decides which bars are hidden, not their values, and the model accepts any mask. So a model may be pre-trained
        with a warm-up of 105 bars, fine-tuned on pre-cut windows with 20 hidden bars, and predict on windows with none
        hidden. :meth:`notes` reports a shorter warm-up than in training.

        Raises `FeatureMismatchError`, which states the difference.
        """
        problem = advice = None
        if given.feature_set != self.feature_set:
            problem = f"{source} has the features {given.feature_set}, the weights were trained on {self.feature_set}"
            advice = f"Build a store with --feature-set {self.feature_set}"
        elif names := [n for n in self._depends_on if given.parameters.get(n) != self.parameters.get(n)]:
            theirs = ", ".join(f"{n} {given.parameters.get(n)}" for n in names)
            ours = ", ".join(f"{n} {self.parameters.get(n)}" for n in names)
            problem = f"{source} was built with {theirs}, the weights were trained with {ours}"
            advice = "Build a store with these parameters (--config)"
        elif given.columns != self.columns:
            theirs, ours = ", ".join(given.columns), ", ".join(self.columns)
            problem = f"{source} has the columns {theirs}, the weights expect {ours}"
            advice = "Build a store with the moola that trained these weights"
        elif given.extra != self.extra:
            kept = [", ".join(extra) or "none" for extra in (given.extra, self.extra)]
            problem = f"the kept columns of {source} are {kept[0]}, the weights were trained with {kept[1]}"
            advice = "Give the same ones, in the same order, from a store built with --keep"
        if problem is not None and advice is not None:
            raise FeatureMismatchError(problem, advice)
        if self.bars is not None and given.bars is not None:
            self.bars.require(given.bars, source)

    @property
    def _depends_on(self) -> Sequence[str]:
        """The names of the parameters that the feature values depend on."""
        every = [name for name in self.parameters if name != "warmup_bars"]
        # A feature set of another version of moola may depend on all of them.
        known = self.feature_set in _core.feature_sets()
        return _core.feature_set_depends_on(self.feature_set) if known else every

    def notes(self, given: FeatureIdentity, source: str) -> Iterator[str]:
        """Differences to report when `given`, the features of `source`, pass :meth:`require`."""
        mine, theirs = (of.parameters.get("warmup_bars") for of in (self, given))
        if mine is not None and theirs is not None and theirs < mine:
            yield (
                f"{source} shows bars after a warm-up of {theirs}, the weights were trained on bars after {mine}: at "
                "the start of a segment, features have settled less"
            )
        if given.bars is None:
            return
        if self.bars is not None:
            yield from self.bars.notes(given.bars, source)
        else:
            yield (
                "the interval of the training bars is unknown, because an older moola wrote the run or its windows "
                f"have no times; the bars of {source} are {given.bars.apart} apart: check that these match"
            )


@dataclass(frozen=True)
class Origin:
    """The record in a weights file: the run that a loaded module comes from, and the input it needs."""

    kind: str
    """`pretrain` or `finetune`."""
    model: ModelConfig
    features: FeatureIdentity
    """The features it needs as input."""
    window_length: int
    """K in training. The model accepts any K."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further values from training, such as epoch and seed."""

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> Self:
        """Reads what :meth:`record` returned. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        return cls(
            str(record["kind"]),
            ModelConfig.model_validate(record["model"]),
            FeatureIdentity.parse(record["features"]),
            int(record["window_length"]),
            dict(record["more"]),
        )

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "kind": self.kind,
            "model": self.model.model_dump(),
            "features": self.features.record(),
            "window_length": self.window_length,
            "more": dict(self.more),
        }


@dataclass(frozen=True)
class Weights:
    """The content of a weights file."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]
    """The record that :func:`save_weights` was given: plain values."""
    digest: str
    """A hash over tensors and record."""


def save_weights(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], record: Mapping[str, Any]
) -> None:
    """Writes a safetensors file with a record in its header, and a hash over both.

    The file is replaced atomically: a reader sees the old file or the new one. Raises `StoreWriteError` if it cannot
    be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(dict(record), sort_keys=True, allow_nan=False)
    # Only one key, because safetensors writes several in no fixed order.
    header = {"moola": json.dumps({"format": _FORMAT, "digest": digest_of(plain, text), "record": text})}
    write_file(path, save(plain, metadata=header))


def load_weights(path: str | os.PathLike[str]) -> Weights:
    """Reads a file of :func:`save_weights` onto the CPU. Nothing in it is executed.

    Raises `WeightsError`, naming the file, if it is missing, truncated, altered, or not written by moola.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(
            path, "there is no such file", "Give a run directory, or a .safetensors file of one"
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = (file.metadata() or {}).get("moola")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(path, f"is damaged: {error}", "Restore it from a copy, or train again") from None
    if header is None:
        raise WeightsError(path, "was not written by moola", "Give a .safetensors file of a run of moola")
    try:
        envelope = json.loads(header)
        number, digest, text = (envelope[name] for name in ("format", "digest", "record"))
        intact = digest == digest_of(tensors, text)
        record = json.loads(text)
    except (ValueError, KeyError, TypeError, AttributeError):
        intact, number, record, digest = False, _FORMAT, {}, ""
    if not intact:
        raise WeightsError(
            path, "is damaged: its hash does not match", "Restore it from a copy, or train again"
        )
    if number != _FORMAT:
        raise WeightsError(path, f"has format {number}, not {_FORMAT}", "Install the moola that wrote it")
    return Weights(tensors, record, digest)


def weights_path(run: str | os.PathLike[str]) -> Path:
    """The path of a run's weights: `run` itself if it is a file, else its `best.safetensors`."""
    path = Path(run)
    return path / "best.safetensors" if path.is_dir() else path


def digest_of(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """A BLAKE2b hash over named tensors and a text, such as their record; 64 hexadecimal digits."""
    hashed = hashlib.blake2b(text.encode(), digest_size=32)
    for name in sorted(tensors):
        tensor = tensors[name]
        hashed.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        # As bytes, because NumPy has no bfloat16.
        hashed.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return hashed.hexdigest()
