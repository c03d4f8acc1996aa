"""Advice that names an option: its words are taken from the message as a shell takes them, and the build works."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moola

START = np.datetime64("2024-03-01T14:30", "m")
"""No date order but one fits, and no clocks change."""


def bars(
    n: int = 300, first: int = 0, form: str = "%s,%.2f,%.2f,%.2f,%.2f", header: str = "time,o,h,l,c"
) -> list[str]:
    close = 100 + np.cumsum(np.random.default_rng(first).integers(-30, 31, n)) / 100
    open = np.concatenate([[100.0], close[:-1]])
    times = START + first + np.arange(n)
    rows = zip(times, open, np.maximum(open, close) + 0.1, np.minimum(open, close) - 0.1, close, strict=True)
    return [header, *(form % (f"{time}Z", *prices) for time, *prices in rows)]


def put(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def asset_ids(folder: Path) -> None:
    one, two = bars(), bars()
    lines = [
        f"{line},{asset}" for pair in zip(one[1:], two[1:], strict=True) for asset, line in enumerate(pair)
    ]
    put(folder / "a.csv", ["time,o,h,l,c,Asset_ID", *lines])


def blocks(folder: Path) -> None:
    rows = bars()[1:]
    put(folder / "a.csv", ["time,o,h,l,c,<CODE>", *(f"{row},{code}" for code in "AB" for row in rows)])


def names(folder: Path) -> None:
    for symbol in ("EURUSD", "GBPUSD"):
        put(folder / f"{symbol}_1min.csv", bars())


def series(folder: Path) -> None:
    put(folder / "first.csv", bars())
    put(folder / "last.csv", bars(first=300))


def directory(folder: Path) -> None:
    put(
        folder / "ticker=ES" / "a.csv",
        [f"{row},{'symbol' if not i else 'ESH4'}" for i, row in enumerate(bars())],
    )


def two_closes(folder: Path) -> None:
    put(
        folder / "a.csv",
        [f"{row},{'Close' if not i else 7}" for i, row in enumerate(bars(header="time,o,h,l,close"))],
    )


def slashes(folder: Path) -> None:
    rows = [row.replace("2024-03-01T", "03/01/2024 ").replace("Z", "") for row in bars()]
    put(folder / "a.csv", rows)


def letters(folder: Path) -> None:
    rows = [row.replace("T", " ").replace("Z", " EST") for row in bars()[1:]]
    put(folder / "a.csv", ["time,o,h,l,c", *rows])


def dashes(folder: Path) -> None:
    put(folder / "a.csv", [row.replace("2024-03-01T", "03-01-2024 ").replace("Z", "") for row in bars()])


def thousands(folder: Path) -> None:
    rows = bars(form="%s;1,%03.0f;1,%03.0f;1,%03.0f;1,%03.0f", header="time;o;h;l;c")
    put(folder / "a.csv", rows)


def no_header(folder: Path) -> None:
    put(folder / "a.csv", bars()[1:])


def shuffled(folder: Path) -> None:
    header, *rows = bars()
    put(folder / "a.csv", [header, *rows[150:], *rows[:150]])


def repeated(folder: Path) -> None:
    header, *rows = bars()
    put(folder / "a.csv", [header, *rows[:150], rows[149], *rows[150:]])


def missing(folder: Path) -> None:
    header, *rows = bars()
    rows[7] = rows[7].rsplit(",", 1)[0] + ","
    put(folder / "a.csv", [header, *rows])


def negative(folder: Path) -> None:
    header, *rows = bars()
    rows[7] = rows[7].split(",")[0] + ",-1,1,-2,1"
    put(folder / "a.csv", [header, *rows])


def naive(folder: Path) -> None:
    put(folder / "a.csv", [row.replace("Z", "") for row in bars()])


Case = tuple[Callable[[Path], None], list[str], str]
CASES: list[Case] = [
    (asset_ids, [], r"(--columns \S+=symbol)"),
    (blocks, [], r"(--columns '<CODE>=symbol')"),
    (names, [], r"(--symbol-from-name '[^']+')"),
    (series, [], r"(--one-series)"),
    (directory, [], r"(--columns \S+=contract --segment-by symbol,contract)"),
    (two_closes, [], r"(--columns \d+=close)"),
    (slashes, ["--tz", "UTC"], r"(--time-format '[^']+')"),
    (slashes, ["--tz", "UTC"], r"or (--time-format '[^']+')"),
    (letters, [], r"(--tz \S+ --time-format '[^']+')"),
    (dashes, ["--tz", "UTC"], r"(--time-format '[^']+')"),
    (thousands, [], r"(--thousands \S+)"),
    (thousands, [], r"with (--decimal ,)"),
    (no_header, [], r"(--columns \S+=close)"),
    (shuffled, [], r"(--sort)"),
    (repeated, [], r"(--dedup identical)"),
    (missing, [], r"(--drop-bad-bars)"),
    (negative, [], r"(--drop-bad-bars)"),
    (negative, [], r"(--allow-nonpositive)"),
    (naive, [], r"(--tz UTC)"),
    (naive, [], r"or (--tz America/New_York)"),
    (naive, ["--tz", "ET"], r"use (America/New_York)"),
]


@pytest.mark.parametrize(
    ("make", "given", "advice"), CASES, ids=lambda value: getattr(value, "__name__", None)
)
def test_following_the_advice_works(
    run: Any, tmp_path: Path, make: Callable[[Path], None], given: list[str], advice: str
) -> None:
    make(tmp_path / "in")
    build = [
        "build-features",
        "--data",
        tmp_path / "in",
        "--output",
        tmp_path / "store",
        "--window-length",
        "30",
    ]
    refused = run(*build, *given)
    assert refused.code in (1, 2), refused.out
    found = re.search(advice, refused.err)
    assert found, refused.err
    words = shlex.split(found[1].rstrip(".,;:)") if not found[1].endswith((" .", " ,")) else found[1])
    if given and given[0] == "--tz" and words[0] != "--time-format":
        given, words = [], ["--tz", *words]
    done = run(*build, *given, *words)
    assert done.code == 0, (words, done.err)
    with moola.FeatureStore.open(tmp_path / "store") as store:
        assert len(store) >= 299
