"""Labels of small stores, and raw windows, shared by several tests of labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import strategies as st
from tiny_store import MINUTE, START

from moola.errors import LabelError
from moola.errors.labels import LABEL_KINDS
from moola.labels import LabelledWindows

K = 10

LENGTHS = (300, 9, 150)

WARMUP = 5

ARRAYS = (
    *("X", "valid_mask", "y", "spans", "weight", "symbols", "starts", "ends", "label_ends"),
    *("times", "first_times", "groups", "splits"),
)

PLAIN = (
    *("classes", "feature_names", "feature_set", "parameters", "window_length", "store_id", "notices"),
    "reach",
)


def assert_same(one: LabelledWindows, other: LabelledWindows) -> None:
    for name in ARRAYS:
        a, b = getattr(one, name), getattr(other, name)
        if a is None or b is None:
            assert a is b, name
            continue
        assert a.dtype == b.dtype, name
        assert np.array_equal(a, b), name
    for name in PLAIN:
        assert getattr(one, name) == getattr(other, name), name


def iso(nanoseconds: int) -> str:
    return str(np.datetime64(int(nanoseconds), "ns")) + "Z"


def refused(*kinds: str, reading: Callable[[], object]) -> LabelError:
    """The error. It must list these kinds, explain each, and give advice."""
    with pytest.raises(LabelError) as caught:
        reading()
    error = caught.value
    assert set(error.counts) == set(kinds)
    assert {problem.kind for problem in error.problems} == set(kinds)
    for kind in kinds:
        what, advice = LABEL_KINDS[kind]
        assert f"  {what}: {error.counts[kind]:,}\n" in str(error)
        assert f"\n    → {advice}" in str(error)
    return error


def ends_that_count(length: int) -> list[int]:
    """Computed by hand: the rows at which windows of this length may end."""
    rows, first = [], 0
    for bars in LENGTHS:
        rows += [first + i for i in range(bars) if i >= WARMUP and i + 1 >= length]
        first += bars
    return rows


@st.composite
def labels(draw: st.DrawFn) -> dict[str, Any]:
    length = draw(st.integers(1, 25))
    # Beyond the first rows, where a number could be a bar or a row.
    ends = draw(
        st.lists(
            st.sampled_from([row for row in ends_that_count(length) if row >= 2 * max(length, K)]),
            min_size=1,
            max_size=12,
            unique=True,
        )
    )
    spans = []
    for _ in ends:
        start = draw(st.integers(-1, length - 1))
        spans.append((start, -1 if start < 0 else draw(st.integers(start, length - 1))))
    classes = draw(st.lists(st.sampled_from("abc"), min_size=len(ends), max_size=len(ends)))
    return {"length": length, "ends": np.array(ends), "spans": np.array(spans), "classes": classes}


def rows(**columns: list[Any]) -> pa.Table:
    """Labels of two valid windows; `columns` replace or add."""
    usual: dict[str, list[Any]] = {"window_end": [100, 200], "class": ["up", "down"]}
    return pa.table(usual | columns)


T = START + np.arange(300) * MINUTE


def candles(n: int, length: int, seed: int = 0) -> np.ndarray:
    """`[n, length, 4]`: windows of random candles on a tick grid."""
    rng = np.random.default_rng(seed)
    close = 4000 + rng.integers(-8, 9, (n, length)).cumsum(axis=1) * 0.25
    open_ = np.roll(close, 1, axis=1)
    open_[:, 0] = close[:, 0]
    high = np.maximum(open_, close) + rng.integers(0, 4, (n, length)) * 0.25
    low = np.minimum(open_, close) - rng.integers(0, 4, (n, length)) * 0.25
    return np.stack([open_, high, low, close], axis=2)


def nested(windows: Any, kind: str = "list", number: pa.DataType | None = None) -> pa.Array:
    number = number or pa.float64()
    lists = windows.tolist() if isinstance(windows, np.ndarray) else windows
    match kind:
        case "list":
            dtype = pa.list_(pa.list_(number))
        case "large":
            dtype = pa.large_list(pa.large_list(number))
        case "fixed bars":
            dtype = pa.list_(pa.list_(number, 4))
        case "fixed":
            dtype = pa.list_(pa.list_(number, 4), len(lists[0]))
    return pa.array(lists, dtype)


def raw(windows: Any, **columns: Any) -> pa.Table:
    features = windows if isinstance(windows, pa.Array | pa.ChunkedArray) else nested(windows)
    usual = {
        "features": features,
        "label": ["up", "down"] * (len(features) // 2) + ["up"] * (len(features) % 2),
    }
    return pa.table(usual | columns)
