"""The sample market as a user gets it: files, labels, refusals. Rust tests cover the bars themselves."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

import moola
from moola import _core
from moola.bars.market import ROW_GROUP
from moola.errors import ConfigError

CHICAGO = ZoneInfo("America/Chicago")
COLUMNS = ["timestamp", "open", "high", "low", "close", "volume"]


def test_the_file_matches_the_summary(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    made = moola.make_bars(path, 5000)
    table = pq.read_table(path)
    assert table.schema.names == COLUMNS
    assert table.schema.types == [pa.timestamp("ns", "UTC"), *[pa.float64()] * 4, pa.int64()]
    assert table.num_rows == made.bars == 5000
    assert made.output == path
    assert made.symbols == []
    assert (made.expansions, made.labels) == (None, 0)
    times = table["timestamp"].cast(pa.int64()).to_numpy()
    assert (times[0], times[-1]) == (made.first_timestamp, made.last_timestamp)
    assert (np.diff(times) > 0).all()
    o, h, low, c = (table[name].to_numpy() for name in COLUMNS[1:5])
    assert (low <= np.minimum(o, c)).all()
    assert (h >= np.maximum(o, c)).all()
    assert (table["volume"].to_numpy() >= 1).all()
    assert all(table[name].null_count == 0 for name in COLUMNS)
    assert os.listdir(tmp_path) == ["bars.parquet"]


def test_every_bar_is_in_trading_hours(tmp_path: Path) -> None:
    moola.make_bars(tmp_path / "bars.parquet", 300_000)
    table = pq.read_table(tmp_path / "bars.parquet")
    # Checking one minute in 41 is enough, because it reaches each minute of the session.
    for minute in table["timestamp"].cast(pa.int64()).to_numpy()[::41] // 60_000_000_000:
        local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=int(minute))).astimezone(CHICAGO)
        evening = local + timedelta(hours=7)  # the trading day, which begins at 17:00 the day before
        assert local.hour != 16, local
        assert evening.replace(tzinfo=None).weekday() < 5, local


def test_the_default_is_five_years_in_row_groups(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    moola.make_bars(tmp_path / "bars.parquet", progress=lambda written, total: done.append((written, total)))
    metadata = pq.read_metadata(tmp_path / "bars.parquet")
    assert metadata.num_rows == 1_818_450
    assert metadata.num_row_groups == len(done) == -(-1_818_450 // ROW_GROUP)
    assert done[-1] == (1_818_450, 1_818_450)
    last = pq.read_table(tmp_path / "bars.parquet", columns=["timestamp"])["timestamp"][-1].as_py()
    assert f"{last:%Y-%m-%d}" == "2025-06-30"


def test_the_bytes_are_pinned() -> None:
    # The Rust tests pin the same bars; here they come from the optimised build, in several takes.
    source = _core.SampleBars(17, 0, True)
    takes = [source.take(n) for n in (1, 4095, 15_904)]
    columns = [np.concatenate(parts) for parts in zip(*takes, strict=True)]
    digest = hashlib.sha256(b"".join(column.tobytes() for column in columns))
    digest.update(repr(source.take_expansions()).encode())
    assert digest.hexdigest() == "62361f95f0f8afc3f471eff9901cc5189b9f0d0e272ffbd628d6788b73a8d5d0"
    assert source.take_expansions() == []


def test_the_seed_determines_the_bars(tmp_path: Path) -> None:
    for name, seed in [("a", 3), ("b", 3), ("c", 4)]:
        moola.make_bars(tmp_path / f"{name}.parquet", 3000, seed=seed, expansions=tmp_path / f"{name}.csv")
    content = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert content["a.parquet"] == content["b.parquet"] != content["c.parquet"]
    assert content["a.csv"] == content["b.csv"]


def test_symbols_have_their_own_random_streams(tmp_path: Path) -> None:
    made = moola.make_bars(tmp_path / "three.parquet", 2000, symbols=3)
    assert made.symbols == ["SIM1", "SIM2", "SIM3"]
    assert made.bars == 6000
    three = pq.read_table(tmp_path / "three.parquet")
    assert three.schema.names == ["timestamp", "symbol", *COLUMNS[1:]]
    assert three["symbol"].to_pylist() == [name for name in made.symbols for _ in range(2000)]
    moola.make_bars(tmp_path / "one.parquet", 2000, symbols=1)
    one = pq.read_table(tmp_path / "one.parquet")
    assert one.to_pylist() == three.slice(0, 2000).to_pylist()
    moola.make_bars(tmp_path / "none.parquet", 2000)
    assert pq.read_table(tmp_path / "none.parquet").equals(one.drop_columns(["symbol"]))
    closes = three["close"].to_numpy().reshape(3, 2000)
    assert len(np.unique(closes, axis=0)) == 3


def test_many_short_series_share_row_groups(tmp_path: Path) -> None:
    moola.make_bars(tmp_path / "bars.parquet", 1000, symbols=300)
    metadata = pq.read_metadata(tmp_path / "bars.parquet")
    assert metadata.num_rows == 300_000
    assert metadata.num_row_groups == 3
    symbols = pq.read_table(tmp_path / "bars.parquet")["symbol"].to_pylist()
    assert symbols == [f"SIM{k + 1}" for k in range(300) for _ in range(1000)]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".CSV"])
def test_csv_has_the_same_bars(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bars{suffix}"
    moola.make_bars(path, 4000, symbols=2, expansions=tmp_path / f"labels{suffix}")
    moola.make_bars(tmp_path / "bars.parquet", 4000, symbols=2, expansions=tmp_path / "labels.parquet")
    for name in ("bars", "labels"):
        expected = pq.read_table(tmp_path / f"{name}.parquet")
        types = {f.name: pa.string() if pa.types.is_dictionary(f.type) else f.type for f in expected.schema}
        packing = "gzip" if suffix == ".csv.gz" else None
        with pa.input_stream(tmp_path / f"{name}{suffix}", compression=packing) as f:
            got = pa_csv.read_csv(f, convert_options=pa_csv.ConvertOptions(column_types=types))
        assert got.num_rows > 0
        assert got.equals(expected.cast(got.schema))


def test_labels_point_at_bars(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    made = moola.make_bars(tmp_path / "bars.parquet", 60_000, symbols=2, expansions=path)
    labels = pq.read_table(path)
    assert labels.schema.names == ["symbol", "window_end", "class", "start", "end"]
    time = pa.timestamp("ns", "UTC")
    assert labels.schema.types == [pa.string(), time, pa.string(), time, time]
    assert made.expansions == path
    assert made.labels == labels.num_rows
    assert set(labels["symbol"].to_pylist()) == {"SIM1", "SIM2"}
    assert set(labels["class"].to_pylist()) == {"consolidation", "retracement"}
    bars = pq.read_table(tmp_path / "bars.parquet")
    times = bars["timestamp"].cast(pa.int64()).to_numpy().reshape(2, 60_000)
    close = bars["close"].to_numpy().reshape(2, 60_000)
    for name in ("window_end", "start", "end"):
        labels = labels.set_column(labels.schema.get_field_index(name), name, labels[name].cast(pa.int64()))
    ratios = []
    for label in labels.to_pylist():
        k = int(label["symbol"][3:]) - 1
        rows = np.searchsorted(times[k], [label["window_end"], label["start"], label["end"]])
        assert times[k][rows].tolist() == [label["window_end"], label["start"], label["end"]]
        window_end, start, end = rows
        first = window_end - 104
        assert first < start < end <= window_end
        assert times[k][window_end] - times[k][first] < 23 * 3600 * 10**9
        # A surge moves the price more per bar than the bars around it.
        steps = np.abs(np.diff(close[k][first : window_end + 1]))
        inside = np.zeros(104, dtype=bool)
        inside[start - first - 1 : end - first] = True
        ratios.append(steps[inside].mean() / max(steps[~inside].mean(), 0.05))
    assert np.median(ratios) > 1.5


def test_labels_of_one_series_have_an_empty_symbol(tmp_path: Path) -> None:
    made = moola.make_bars(tmp_path / "bars.parquet", 30_000, expansions=tmp_path / "labels.parquet")
    labels = pq.read_table(tmp_path / "labels.parquet")
    assert made.labels == labels.num_rows > 3
    assert set(labels["symbol"].to_pylist()) == {""}


def test_one_bar_gives_no_labels(tmp_path: Path) -> None:
    made = moola.make_bars(tmp_path / "bars.parquet", 1, expansions=tmp_path / "labels.parquet")
    assert made.first_timestamp == made.last_timestamp == 1_591_567_200 * 10**9  # 2020-06-07 17:00 in Chicago
    assert pq.read_table(tmp_path / "labels.parquet").num_rows == made.labels == 0


def test_numpy_numbers_are_accepted_by_make_bars(tmp_path: Path) -> None:
    assert moola.make_bars(tmp_path / "bars.parquet", np.int64(10), seed=np.uint64(2**64 - 1)).bars == 10  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "name", "message"),
    [
        ({"bars": 0}, "bars", "0 is out of range; give a whole number from 1 to 80,000,000"),
        ({"bars": -5}, "bars", "-5 is out of range"),
        ({"bars": 80_000_001}, "bars", "80000001 is out of range; give a whole number from 1 to 80,000,000"),
        ({"bars": 1.5}, "bars", "1.5 is not a whole number"),
        ({"bars": True}, "bars", "True is not a whole number"),
        ({"bars": "many"}, "bars", "'many' is not a whole number"),
        (
            {"seed": -1},
            "seed",
            "-1 is out of range; give a whole number from 0 to 18,446,744,073,709,551,615",
        ),
        ({"seed": 2**64}, "seed", "18446744073709551616 is out of range"),
        ({"symbols": 0}, "symbols", "0 is out of range; give a whole number from 1"),
        ({"output": "bars.xlsx"}, "output", "'bars.xlsx' does not say which format to write. Let the name"),
        ({"output": "bars"}, "output", ".parquet, .csv or .csv.gz"),
        ({"output": "."}, "output", ". is a directory. Name a file in it, such as bars.parquet"),
        ({"output": "nowhere/bars.csv"}, "output", "there is no directory nowhere. Create it first"),
        ({"expansions": "labels.txt"}, "expansions", "'labels.txt' does not say which format to write"),
        ({"expansions": "bars.parquet"}, "expansions", "bars.parquet is the output itself. Give the labels"),
    ],
)
def test_wrong_arguments_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object], name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as refused:
        moola.make_bars(**{"output": "bars.parquet", "bars": 10, **arguments})  # type: ignore[arg-type]
    assert refused.value.name == name
    assert message in str(refused.value)
    assert os.listdir(tmp_path) == []


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    moola.make_bars(path, 100)
    before = path.read_bytes()

    def stop(written: int, total: int) -> None:
        assert path.read_bytes() == before
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        moola.make_bars(path, 200, seed=5, expansions=tmp_path / "labels.csv", progress=stop)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["bars.parquet"]
    moola.make_bars(path, 200, seed=5)
    assert pq.read_metadata(path).num_rows == 200


@pytest.mark.parametrize("name", ["bars.parquet", "bars.csv"])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    script = (
        "import resource, signal, sys, moola\n"
        "import pyarrow.parquet, pyarrow.csv\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try:\n    moola.make_bars(sys.argv[1], 500_000)\n"
        "except OSError as error:\n    print('refused:', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "refused:" in done.stdout
    assert (
        f"{tmp_path / name}: cannot be written: File too large; nothing was left behind. Raise the"
        in done.stdout
    )
    assert os.listdir(tmp_path) == []


def test_ctrl_c_stops_market_generation_and_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import sys, moola\n"
        "moola.make_bars(sys.argv[1], 80_000_000, progress=lambda *_: print('going', flush=True))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "bars.parquet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "going\n"
        asked = time.monotonic()
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=30)
        took = time.monotonic() - asked
    assert "KeyboardInterrupt" in errors
    assert child.returncode != 0
    assert took < 2.0  # half a second, and the interpreter's end on a busy machine
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["bars.parquet", "bars.csv.gz"])
def test_the_next_run_clears_leftovers_of_a_killed_process(tmp_path: Path, name: str) -> None:
    script = (
        "import sys, moola\n"
        "moola.make_bars(sys.argv[1], 80_000_000, progress=lambda *_: print('going', flush=True))\n"
    )
    command = [sys.executable, "-c", script, tmp_path / name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "going\n"
        (temporary,) = os.listdir(tmp_path)
        assert temporary.endswith(".moola-tmp")
        foreign = tmp_path / f".other-{name}.0123abcd.moola-tmp"
        foreign.touch()
        moola.make_bars(tmp_path / name, 200)
        assert sorted(os.listdir(tmp_path)) == sorted([temporary, foreign.name, name]), "it is at work still"
        child.kill()
    moola.make_bars(tmp_path / name, 300)
    assert sorted(os.listdir(tmp_path)) == sorted([foreign.name, name])


def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    script = (
        "import resource, sys, moola\n"
        "moola.make_bars(sys.argv[1], int(sys.argv[2]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )

    def peak(bars: int) -> int:
        command = [sys.executable, "-c", script, tmp_path / "bars.parquet", str(bars)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    # 1.5 million bars more are 72 MB of columns.
    assert peak(1_800_000) - peak(300_000) < 48 * 1024
