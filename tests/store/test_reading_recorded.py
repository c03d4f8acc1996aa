"""Verification reads the source with the options that the store records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moola

TIMES = np.datetime64("2024-03-04T14:30", "m") + np.arange(300)


def rows(form: str, **facts: str) -> list[str]:
    close = 1000 + np.cumsum(np.random.default_rng(3).integers(-30, 31, 300)) / 100
    open = np.concatenate([[1000.0], close[:-1]])
    bars = zip(TIMES, open, np.maximum(open, close) + 0.1, np.minimum(open, close) - 0.1, close, strict=True)
    return [form.format(t=time, **dict(zip("ohlc", prices, strict=True)), **facts) for time, *prices in bars]


@pytest.mark.parametrize(
    ("name", "lines", "options"),
    [
        (
            "EURUSD_1min.csv",
            [
                "time;o;h;l;c",
                *(row.replace(".", ",") for row in rows("{t}Z;{o:.3f};{h:.3f};{l:.3f};{c:.3f}")),
            ],
            {"decimal": ",", "symbol_from_name": "{symbol}_1min.csv"},
        ),
        (
            "a.csv",
            [
                "not a header,at all,1,2,3",
                "time,sym,o,h,l,c",
                *rows("{t}Z,ES,{o:.2f},{h:.2f},{l:.2f},{c:.2f}"),
                *rows("{t}Z,ES-NQ,{o:.2f},{h:.2f},{l:.2f},{c:.2f}"),
            ],
            {"skip_lines": 1, "exclude_symbols": "*-*"},
        ),
        (
            "b.csv",
            [
                "Date,Time,O,H,L,C",
                *(row.replace("T", ",") for row in rows("{t},{o:.2f},{h:.2f},{l:.2f},{c:.2f}")),
            ],
            {"tz": "UTC+5", "stamp": "close"},
        ),
    ],
)
def test_a_store_is_verified_with_its_own_options(
    tmp_path: Path, name: str, lines: list[str], options: dict[str, Any]
) -> None:
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    store = moola.build_features(path, tmp_path / "store", window_length=30, **options)
    report = moola.verify_features(store.path, path)
    assert report.ok, [check for check in report.checks if not check.ok]
    # The check can fail: another file is found out.
    path.write_text(path.read_text().replace("1000", "1001", 1))
    assert not moola.verify_features(store.path, path).ok
