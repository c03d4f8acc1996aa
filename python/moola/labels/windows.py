"""Labelled windows in memory, and in one file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moola.errors import ConfigError, InputError, InputMissingError
from moola.files.json import json_line, parse_json
from moola.files.publishing import write_file
from moola.labels.overlaps import join_groups
from moola.store.split_options import NAMES

__all__ = ["LabelledWindows", "together"]

FORMAT_VERSION = 2
_KEY = "moola_labels"

_PER_WINDOW = ("y", "spans", "weight", "starts", "ends", "groups")
_OPTIONAL = ("times", "first_times", "splits")
_DTYPES: Mapping[str, Any] = {
    "X": np.float32,
    "valid_mask": np.bool_,
    "y": np.int64,
    "spans": np.int64,
    "weight": np.float64,
    "symbols": np.int32,
    "starts": np.int64,
    "ends": np.int64,
    "times": np.int64,
    "first_times": np.int64,
    "groups": np.int64,
    "splits": np.int8,
}


@dataclass(frozen=True, eq=False)
class LabelledWindows:
    """n windows with their labels, each of K bars and D features.

    :func:`moola.labels.read_labels` and :func:`moola.labels.read_raw_windows` make them. Two objects are never equal;
    compare their arrays.
    """

    X: NDArray[np.float32]
    """`[n, K, D]`."""
    valid_mask: NDArray[np.bool_]
    """`[n, K]`: which bars are past their segment's warm-up. A window's last bar always is."""
    y: NDArray[np.int64]
    """`[n]`, codes of `classes`."""
    classes: tuple[str, ...]
    """The names of the classes, sorted."""
    spans: NDArray[np.int64]
    """`[n, 2]`, the first and last labelled bar, counted in the window from 0; −1 and −1 for none."""
    weight: NDArray[np.float64]
    """`[n]`, finite, 0 or more; 1 by default."""
    symbols: NDArray[np.str_]
    """`[n]`; `""` if bars have no symbol."""
    starts: NDArray[np.int64]
    """`[n]`, the row of each window's first bar in the store; raw windows count as if they followed one another."""
    ends: NDArray[np.int64]
    """`[n]`, the row of its last bar, inclusive."""
    times: NDArray[np.int64] | None
    """`[n]`, the open time of its last bar, UTC nanoseconds; None if it is not known."""
    groups: NDArray[np.int64]
    """`[n]`: windows share a group if they share bars, or overlap in time across symbols, directly or through others.
    A group stays on one side of a split, and is resampled and shuffled as a whole."""
    splits: NDArray[np.int8] | None
    """`[n]`: the split of the store that has all bars of the window: 0 train, 1 val, 2 test, −1 no split; None without
    a store."""
    feature_names: tuple[str, ...]
    """D names: the features of the set, then kept columns."""
    feature_set: str
    parameters: dict[str, Any]
    """The parameters that the features were computed with."""
    window_length: int
    """K."""
    store_id: str
    """The store whose rows `starts` and `ends` count; `""` for pre-cut windows."""
    first_times: NDArray[np.int64] | None = None
    """`[n]`, the open time of its first bar, UTC nanoseconds; for raw windows computed back from the last bar. None if
    it is not known."""
    notices: tuple[str, ...] = ()
    """Notices from reading the labels, for a person."""
    reach: int | None = None
    """How many bars up to a window's last must stay on one side of a split, if that is more than K because another
    model gets longer windows of the same samples. See :func:`together`."""

    @property
    def label_starts(self) -> NDArray[np.int64]:
        """`[n]`, the first row that any model uses for a label, in its window or in a longer one."""
        return self.starts if self.reach is None else self.ends - (self.reach - 1)

    @property
    def label_ends(self) -> NDArray[np.int64]:
        """`[n]`, the last row that any model uses for a label: the last row of its window."""
        return self.ends

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        classes = ", ".join(self.classes)
        return f"<LabelledWindows: {len(self):,} of {self.window_length} bars, {self.feature_set}; {classes}>"

    def take(self, indices: ArrayLike) -> Self:
        """The windows with these numbers, in this order, or those in a mask. Classes and groups keep their codes."""
        chosen = np.asarray(indices)
        if chosen.dtype != np.bool_:
            chosen = chosen.astype(np.int64, casting="same_kind") if chosen.size else chosen.astype(np.int64)
        arrays: dict[str, Any] = {
            name: None if (array := getattr(self, name)) is None else array[chosen]
            for name in ("X", "valid_mask", "symbols", *_OPTIONAL, *_PER_WINDOW)
        }
        return replace(self, **arrays, notices=())

    def report(self) -> list[str]:
        """Describes the windows in lines for a person."""
        n = len(self)
        shape = f"{n:,} of {self.window_length} bars, {len(self.feature_names)} features ({self.feature_set})"
        lines = [f"windows: {shape}"]
        has_span = self.spans[:, 0] >= 0
        for code, name in enumerate(self.classes):
            of_class = self.y == code
            line = f"class {name}: {of_class.sum():,}"
            if len(lengths := np.diff(self.spans[of_class & has_span], axis=1).ravel() + 1):
                line += (
                    f", {len(lengths):,} with a span of {lengths.min()} to {lengths.max()} bars "
                    f"(median {np.median(lengths):g})"
                )
            lines.append(line)
        shared = np.bincount(self.groups)[self.groups] > 1 if n else np.zeros(0, np.bool_)
        if shared.any():
            groups = len(np.unique(self.groups[shared]))
            what = "bars" if len(np.unique(self.symbols)) == 1 else "bars, or their times,"
            lines.append(
                f"overlap: {shared.sum():,} windows share {what} with others, in {groups:,} "
                f"group{'s' if groups > 1 else ''}; keep each on one side of a split (groups=)"
            )
        else:
            lines.append("overlap: no two windows share bars or their times")
        if self.splits is not None:
            counts = [f"{name} {(self.splits == i).sum():,}" for i, name in enumerate(NAMES)]
            outside = int((self.splits < 0).sum())
            lines.append(f"splits: {', '.join(counts)}" + (f", in none {outside:,}" if outside else ""))
        lines += [f"note: {notice}" for notice in self.notices]
        if n and has_span.all():
            lines.append(
                "note: every window has a span; without a class for windows that have none, the model must assign "
                "every window to an expansion class"
            )
        return lines

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one safetensors file. It replaces an existing file only once it is complete.

        Raises `StoreWriteError` when the system refuses, for instance because the disk is full.
        """
        from safetensors.numpy import save

        names, codes = np.unique(self.symbols, return_inverse=True)
        arrays: dict[str, Any] = {"X": self.X, "valid_mask": self.valid_mask, "symbols": codes.reshape(-1)}
        arrays |= {name: getattr(self, name) for name in _PER_WINDOW}
        arrays |= {name: array for name in _OPTIONAL if (array := getattr(self, name)) is not None}
        record = {
            "format_version": FORMAT_VERSION,
            "classes": self.classes,
            "symbols": names.tolist(),
            "feature_names": self.feature_names,
            "feature_set": self.feature_set,
            "parameters": self.parameters,
            "window_length": self.window_length,
            "store_id": self.store_id,
            "notices": self.notices,
            "reach": self.reach,
        }
        tensors = {name: np.ascontiguousarray(array, _DTYPES[name]) for name, array in arrays.items()}
        data = save(tensors, {_KEY: json_line(record)})
        write_file(path, data)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads what :meth:`save` wrote. It executes no code from the file.

        Raises `InputError` if it is no such file, is damaged, or was written by a newer moola.
        """
        from safetensors import SafetensorError, safe_open

        def refuse(problem: str, advice: str = "Write it again with `moola import-labels`") -> InputError:
            return InputError(problem, advice, source=str(path))

        try:
            with safe_open(os.fspath(path), framework="np") as file:
                text = (file.metadata() or {}).get(_KEY)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- no mapping
        except FileNotFoundError:
            raise InputMissingError("there is no such file", "Check the path", source=str(path)) from None
        except SafetensorError as error:
            raise refuse(f"is damaged, or no safetensors file ({error})") from None
        if text is None:
            raise refuse("holds no labelled windows")
        try:
            record = parse_json(text.encode())
            if record["format_version"] != FORMAT_VERSION:
                raise refuse(
                    f"is of format {record['format_version']}, not {FORMAT_VERSION}",
                    "Install a newer moola, or write it again with this one",
                )
            return cls(**_parsed(record, tensors))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise refuse(f"does not hold what it says ({error})") from None


def _parsed(record: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The fields of the windows. Raises `ValueError`, `KeyError` or `TypeError` if something does not fit."""
    names = {name: _texts(record[name], name) for name in ("classes", "symbols", "feature_names", "notices")}
    for name in ("feature_set", "store_id"):
        _texts([record[name]], name)
    length, reach = record["window_length"], record["reach"]
    n, width = len(tensors["y"]), len(names["feature_names"])
    shapes: dict[str, tuple[int, ...]] = {"X": (n, length, width), "valid_mask": (n, length), "spans": (n, 2)}
    expected = set(_DTYPES) - (set(_OPTIONAL) - set(tensors))
    if set(tensors) != expected:
        raise ValueError(f"its arrays are {', '.join(sorted(tensors))}, not {', '.join(sorted(expected))}")
    for name, array in tensors.items():
        if array.dtype != _DTYPES[name] or array.shape != shapes.get(name, (n,)):
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
    starts, ends, spans = tensors["starts"], tensors["ends"], tensors["spans"]
    sound = {
        "X": np.isfinite(tensors["X"]).all(),
        "y": _within(tensors["y"], 0, len(names["classes"]) - 1),
        "classes": list(names["classes"]) == sorted(set(names["classes"])),
        "symbols": _within(tensors["symbols"], 0, len(names["symbols"]) - 1),
        "groups": _within(tensors["groups"], 0, np.iinfo(np.int64).max),
        "spans": (
            ((spans[:, 0] >= 0) & (spans[:, 0] <= spans[:, 1]) & (spans[:, 1] < length))
            | (spans == -1).all(1)
        ).all(),
        "weight": (np.isfinite(tensors["weight"]) & (tensors["weight"] >= 0)).all(),
        "starts and ends": (starts >= 0).all() and (ends - starts == length - 1).all(),
        "splits": _within(tensors.get("splits", np.zeros(0, np.int8)), -1, len(NAMES) - 1),
        "parameters": isinstance(record["parameters"], dict),
        "reach": reach is None or (type(reach) is int and reach > length and (ends >= reach - 1).all()),
    }
    if wrong := [name for name, good in sound.items() if not good]:
        raise ValueError(f"{', '.join(wrong)} cannot be right")
    return {
        **{name: tensors[name] for name in ("X", "valid_mask", *_PER_WINDOW)},
        "symbols": np.array(names["symbols"] or [""], np.str_)[tensors["symbols"]],
        **{name: tensors.get(name) for name in _OPTIONAL},
        "classes": tuple(names["classes"]),
        "feature_names": tuple(names["feature_names"]),
        "feature_set": record["feature_set"],
        "parameters": record["parameters"],
        "window_length": length,
        "store_id": record["store_id"],
        "notices": tuple(names["notices"]),
        "reach": reach,
    }


def _texts(value: object, name: str) -> Sequence[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{name} is {value!r}")
    return value


def _within(numbers: NDArray[Any], low: int, high: int) -> bool:
    return not len(numbers) or bool(numbers.min() >= low and numbers.max() <= high)


def together(windows: LabelledWindows, others: Mapping[str, LabelledWindows]) -> LabelledWindows:
    """The windows, with groups and reach for splits in which some models get other windows of the same samples.

    Everything that any model uses for a sample then stays on one side of a split: its longest window, from the earliest
    first bar to the last. Samples share a group if any of their windows do, and windows of a store reach back as far as
    the longest.

    Args:
        windows: Labelled windows.
        others: By the name of the model that gets them, the same samples, with other features or of another length.

    Raises `ConfigError` if the others are not the same samples, or if the shared bars cannot be determined: windows of
    a store must end at the same rows, and pre-cut windows can only be combined with pre-cut windows.
    """
    for name, other in others.items():
        if (problem := _difference(windows, other)) is not None:
            raise ConfigError("other_windows", f"of {name} {problem}")
    several = [windows, *others.values()]
    longest = max(one.reach or one.window_length for one in several)
    return replace(
        windows,
        groups=join_groups(one.groups for one in several),
        reach=longest if windows.store_id and longest > windows.window_length else None,
        first_times=windows.first_times if windows.store_id else _earliest(several),
    )


def _earliest(several: Sequence[LabelledWindows]) -> NDArray[np.int64] | None:
    """`[n]`: when the longest window of each sample begins; None if that is not known."""
    known = [one.first_times for one in several if one.first_times is not None]
    return np.minimum.reduce(known) if len(known) == len(several) else None


def _difference(windows: LabelledWindows, other: LabelledWindows) -> str | None:
    """Why a member cannot use the other windows, and what to do; None if it can."""
    same = (
        len(other) == len(windows)
        and other.classes == windows.classes
        and all(
            np.array_equal(getattr(other, field), getattr(windows, field))
            for field in ("y", "weight", "symbols")
        )
        and (other.times is None or windows.times is None or np.array_equal(other.times, windows.times))
    )
    spans = np.array_equal(other.spans, windows.spans)
    if same and not spans and other.window_length != windows.window_length:
        return (
            f"have {other.window_length} bars and the others {windows.window_length}, so spans are counted from "
            "different bars; import both with the same --window-length"
        )
    if not same or not spans:
        return "are not the same windows with the same labels; import one file of labels with each set of features"
    if bool(other.store_id) != bool(windows.store_id):
        return (
            "mixes windows of a store with pre-cut windows, so their shared bars are unknown; import both by reference "
            "to a store, or both raw"
        )
    if windows.store_id and not np.array_equal(other.ends, windows.ends):
        return (
            "end at other rows: their store holds other bars, so shared bars cannot be counted; build both stores from "
            "the same bars"
        )
    return None
