"""Saved states of streams are restored and continue with the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import moola

SETS = ("relativity10", "relativity12", "relative_transform11", "ohlc4")


def bars_of(kept: Path) -> tuple[list[list[float]], list[int]]:
    with pa.memory_map(str(kept / "bars" / "closes.arrow")) as source:
        bars = pa.ipc.open_file(source).read_all()
    prices = np.stack([np.asarray(bars[name]) for name in ("open", "high", "low", "close")], axis=1)
    return prices.tolist(), np.asarray(bars["timestamp"].cast(pa.int64())).tolist()


def pushed(stream: Any, kept: Path, kind: str, first: int) -> tuple[list[Any], list[bool]]:
    prices, times = bars_of(kept)
    rows, valid = [], []
    for bar, time in zip(prices[first:], times[first:], strict=True):
        rows.append(stream.push(*bar, time) if kind == "gaps" else stream.push(*bar))
        valid.append(stream.valid)
    return rows, valid


@pytest.mark.parametrize("kind", ["defaults", "gaps"])
@pytest.mark.parametrize("name", SETS)
def test_a_state_continues_with_the_same_bits(name: str, kind: str, kept: Path) -> None:
    made = json.loads((kept / "streams" / "made.json").read_text())
    first = made["saved_after"]
    expected = np.load(kept / "streams" / f"{name}-{kind}.npz")
    assert 0 < first < len(expected["rows"]) - 100
    state = (kept / "streams" / f"{name}-{kind}.state").read_bytes()
    stream = moola.FeatureStream.from_state(state)
    rows, valid = pushed(stream, kept, kind, first)
    np.testing.assert_array_equal(rows, expected["rows"][first:])
    assert valid == expected["valid"][first:].tolist()


@pytest.mark.parametrize("kind", ["defaults", "gaps"])
@pytest.mark.parametrize("name", SETS)
def test_a_stream_from_the_beginning_gives_the_same_bits(name: str, kind: str, kept: Path) -> None:
    gaps = json.loads((kept / "streams" / "made.json").read_text())["gaps"]
    expected = np.load(kept / "streams" / f"{name}-{kind}.npz")
    options = (gaps["config"], gaps["reset_on_gap"]) if kind == "gaps" else ()
    rows, valid = pushed(moola.FeatureStream(name, *options), kept, kind, 0)
    np.testing.assert_array_equal(rows, expected["rows"])
    assert valid == expected["valid"].tolist()


@pytest.mark.parametrize("name", SETS)
def test_a_restored_state_is_saved_again(name: str, kept: Path) -> None:
    """This version saves it, in its current form."""
    state = (kept / "streams" / f"{name}-gaps.state").read_bytes()
    again = moola.FeatureStream.from_state(moola.FeatureStream.from_state(state).state())
    rows, _ = pushed(again, kept, "gaps", 200)
    np.testing.assert_array_equal(rows, np.load(kept / "streams" / f"{name}-gaps.npz")["rows"][200:])
