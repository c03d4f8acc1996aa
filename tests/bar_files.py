"""Small files of bars in every format, readers for tests, and checks of refusals."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from moola.bars.options import ReadOptions
from moola.bars.source import Batch, open_bars
from moola.errors import InputError

SHARED = os.environ.get("MOOLA_SHARED")
DATA = Path(SHARED or "") / "data"
NONE = np.iinfo(np.int64).min
START = np.datetime64("2024-05-06T13:30", "ns").astype(np.int64)
MINUTE = 60 * 10**9

FORMATS = ("parquet", "csv", "csv.gz", "arrow", "arrows")


def table(n: int = 5, **columns: Any) -> pa.Table:
    """n bars with a time, and prices that distinguish rows and columns; `columns` replace or add."""
    price = np.arange(n, dtype=np.float64) + 100
    usual: dict[str, Any] = {
        "timestamp": pa.array(START + np.arange(n) * MINUTE, pa.timestamp("ns", "UTC")),
        "open": price + 0.25,
        "high": price + 1,
        "low": price - 1,
        "close": price + 0.5,
    }
    return pa.table({name: column for name, column in (usual | columns).items() if column is not None})


def write(data: pa.Table, path: Path, **csv_options: Any) -> Path:
    """Writes a table in the format given by the path's suffix."""
    match "".join(path.suffixes):
        case ".parquet":
            pq.write_table(data, path)
        case ".csv":
            pyarrow.csv.write_csv(data, path, pyarrow.csv.WriteOptions(**csv_options))
        case ".csv.gz":
            with pa.CompressedOutputStream(str(path), "gzip") as stream:
                pyarrow.csv.write_csv(data, stream, pyarrow.csv.WriteOptions(**csv_options))
        case ".arrow":
            with pa.ipc.new_file(path, data.schema) as writer:
                writer.write_table(data)
        case ".arrows":
            with pa.ipc.new_stream(path, data.schema) as writer:
                writer.write_table(data)
        case other:
            raise ValueError(other)
    return path


def text(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def csv_bars(*times: str, header: str = "timestamp,open,high,low,close") -> str:
    return (
        "\n".join([header, *(f"{time},{i + 1},{i + 3},{i},{i + 2}" for i, time in enumerate(times))]) + "\n"
    )


def read(what: Any, **options: Any) -> SimpleNamespace:
    """Everything in a source, with its batches joined."""
    source = open_bars(what, ReadOptions(**options))
    batches = list(source.batches())
    for batch in batches:
        check_arrays(batch, len(source.keep))
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(batch, name) for batch in batches] or [np.empty(0)])
        for name in ("timestamp", "open", "high", "low", "close")
    }
    for role, names in (("symbol", source.symbols), ("contract", source.contracts)):
        joined[role] = [
            names[i] for b in batches for i in (getattr(b, role) if getattr(b, role) is not None else ())
        ]
    joined["extra"] = [np.concatenate([b.extra[i] for b in batches]) for i in range(len(source.keep))]
    joined["rows"] = [
        row
        for b in batches
        for row in (b.rows if b.rows is not None else range(b.first_row, b.first_row + len(b.open)))
    ]
    return SimpleNamespace(source=source, batches=batches, notation=source.files[0].timestamp, **joined)


def check_arrays(batch: Batch, kept: int) -> None:
    n = len(batch.timestamp)
    assert batch.timestamp.dtype == np.int64
    assert batch.timestamp.flags.c_contiguous
    for prices in (batch.open, batch.high, batch.low, batch.close, *batch.extra):
        assert prices.dtype == np.float64
        assert prices.flags.c_contiguous
        assert len(prices) == n
    assert len(batch.extra) == kept
    for codes in (batch.symbol, batch.contract):
        assert codes is None or (codes.dtype == np.int32 and len(codes) == n)
    assert batch.rows is None or (batch.rows.dtype == np.int64 and len(batch.rows) == n)


def check_usual(result: SimpleNamespace, n: int = 5) -> None:
    expected = table(n)
    np.testing.assert_array_equal(result.timestamp, START + np.arange(n) * MINUTE)
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(getattr(result, name), expected[name].to_numpy())


def refused(what: Any, *substance: str, error: type[Exception] = InputError, **options: Any) -> str:
    """The message with which an input is refused. It must contain `substance`."""
    with pytest.raises(error) as caught:
        read(what, **options)
    message = str(caught.value)
    for part in substance:
        assert part in message, message
    return message


def utc(moment: str) -> int:
    return int(np.datetime64(moment, "ns").astype(np.int64))
