"""The table of vendors: every export is written as its entry says, and read by the command that the entry gives."""

from __future__ import annotations

import datetime as dt
import gzip
import shlex
import zipfile
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pytest

import moola
from moola.bars.vendors import Vendor, known_vendors, vendors_page

START = dt.datetime(2024, 1, 16, 15, 0, tzinfo=dt.UTC)
"""The open of the first bar: a Tuesday on which no clocks change."""
BARS = 400
PAGE = Path(__file__).parents[2] / "docs" / "bars-from-your-vendor.md"


def prices() -> np.ndarray:
    """[BARS, 4] open, high, low and close with two decimals, and a close that tells rows apart."""
    close = 100 + np.cumsum(np.random.default_rng(5).integers(-20, 21, BARS)) / 100
    open = np.concatenate([[100.0], close[:-1]])
    return np.round(
        np.stack([open, np.maximum(open, close) + 0.05, np.minimum(open, close) - 0.07, close], 1), 2
    )


def lines(vendor: Vendor) -> list[str]:
    """The export of a vendor, line by line."""
    rows = []
    for i, bar in enumerate(prices().tolist()):
        opened = START + dt.timedelta(minutes=i + (vendor.stamp == "close"))
        local = opened.astimezone(ZoneInfo(vendor.zone))
        offset = local.strftime("%z")
        seconds = int(opened.timestamp())
        midnight = local.replace(hour=0, minute=0, second=0)
        facts = {"i": i, "t": local, "offset": f"{offset[:3]}:{offset[3:]}", "v": 10 + i, "symbol": "ABC"}
        facts |= {unit: seconds * 10**power for unit, power in (("s", 0), ("ms", 3), ("us", 6), ("ns", 9))}
        facts |= {
            "ms_end": (seconds + 60) * 1000 - 1,
            "day_ms": (local - midnight) // dt.timedelta(milliseconds=1),
        }
        for name, price in zip("ohlc", bar, strict=True):
            facts |= {name: price, f"{name}10000": round(price * 10_000)}
        rows.append(vendor.row.format(**facts))
    return [*vendor.header, *(reversed(rows) if vendor.newest_first else rows)]


def write(vendor: Vendor, folder: Path) -> Path:
    """Writes the export under the name and in the form that the entry gives."""
    content = ("\n".join(lines(vendor)) + "\n").encode()
    path = folder / vendor.file
    if vendor.written == "feather":
        table = pyarrow.csv.read_csv(pa.py_buffer(content))
        times = table["date"].cast(pa.timestamp("ms")).cast(pa.timestamp("ms", "UTC"))
        pyarrow.feather.write_feather(table.set_column(0, "date", times), path)
    elif vendor.member:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(vendor.member, content)
    else:
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("vendor", known_vendors(), ids=lambda vendor: vendor.name)
def test_the_command_reads_the_export(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch, vendor: Vendor
) -> None:
    """The command is taken as a shell takes it, quotes and all."""
    write(vendor, tmp_path)
    monkeypatch.chdir(tmp_path)
    words = shlex.split(vendor.command())
    assert words[0] == "moola"
    done = run(*words[1:], "--window-length", 30)
    if vendor.refused:
        assert done.code == 1
        assert vendor.refused in done.err
        assert not (tmp_path / "store").exists()
        return
    assert done.code == 0, done.err
    store = moola.FeatureStore.open(tmp_path / "store")
    first = int(START.timestamp()) * 10**9
    np.testing.assert_array_equal(store.timestamps, first + np.arange(BARS) * 60 * 10**9)
    np.testing.assert_array_equal(np.asarray(store.bars), prices())


def test_every_vendor_of_the_issue_is_there() -> None:
    names = [vendor.name for vendor in known_vendors()]
    assert len(set(names)) == len(names) >= 24
    assert {"MetaTrader 4", "MetaTrader 5", "LEAN", "ThetaData", "TradingView"} <= set(names)


def test_the_page_is_that_of_the_table() -> None:
    """Write it again with `moola formats --page > docs/bars-from-your-vendor.md`."""
    assert PAGE.read_text(encoding="utf-8") == vendors_page()


def test_formats_lists_and_shows(run: Any) -> None:
    listed = run("formats")
    assert all(vendor.name in listed.out for vendor in known_vendors())
    shown = run("formats", "metatrader5")
    assert "$ moola build-features --data EURUSD_M1.csv" in shown.out
    assert "HistData" not in shown.out
    assert run("formats", "--page").out == vendors_page()
    assert len(run("formats", "--json").json["vendors"]) == len(known_vendors())
    unknown = run("formats", "Bloomberg")
    assert unknown.code == 2
    assert "moola formats" in unknown.err
