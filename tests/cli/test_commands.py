"""The commands that make features: their output, and options that reach the library."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import moola

MOOLA = [sys.executable, "-m", "moola"]
SCRIPT = [str(Path(sys.executable).with_name("moola"))]


@pytest.mark.parametrize("command", [MOOLA, SCRIPT], ids=["module", "script"])
def test_the_commands_go_from_bars_to_a_verified_store(
    execute: Any, tmp_path: Path, command: list[str]
) -> None:
    made = execute("make-bars", "bars.parquet", "--bars", 9_000, "--seed", 3, command=command, cwd=tmp_path)
    assert (made.code, made.err) == (0, "making bars …\n")
    assert re.search(r"^bars +9,000, 2020-06-07T22:00:00Z to 2020-06-1\dT", made.out, re.MULTILINE)
    assert re.search(r"^file +bars\.parquet \(\d+\.\d kB\)$", made.out, re.MULTILINE)

    options = ("--data", "bars.parquet", "--output", "store")
    built = execute("build-features", *options, command=command, cwd=tmp_path)
    assert (built.code, built.err) == (0, "reading bars …\ncomputing features …\nwriting to disk …\n")
    assert re.search(r"^segments +1$", built.out, re.MULTILINE)
    assert re.search(r"^train +6,195 windows of 105 bars in 6,300 bars$", built.out, re.MULTILINE)
    assert re.search(
        r"^quality +\d+ gaps \(the longest step 2d 1h\), \d+ zero-range bars$", built.out, re.MULTILINE
    )
    stages = "start|read|features|check|publish|total"
    assert len(re.findall(rf"(?:{stages}) \d+\.\d\d s", built.out)) == 6
    assert re.search(r"^store +\S+/store: relativity10, layout bars, \d+\.\d kB$", built.out, re.MULTILINE)
    assert "note: timestamps are taken as the open of each bar" in built.out
    assert "--stamp close" in built.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bars.parquet", "store"]

    verified = execute(
        "verify-features", "--feature-dir", "store", *options[:2], command=command, cwd=tmp_path
    )
    assert verified.code == 0
    assert "checking hashes …\n" in verified.err
    assert verified.out.endswith("store is sound\n")
    assert re.search(
        r"^ok +recomputed +all 9,000 rows from the bars, to the bit$", verified.out, re.MULTILINE
    )
    assert re.search(r"^ok +source ", verified.out, re.MULTILINE)

    inspected = execute("inspect", "store", command=command, cwd=tmp_path)
    assert (inspected.code, inspected.err) == (0, "")
    assert "Gaps are never filled" in inspected.out


def test_version_prints_the_version(execute: Any) -> None:
    ran = execute("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"moola {moola.__version__}\n", "")


@pytest.mark.parametrize("args", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands(run: Any, args: tuple[str, ...]) -> None:
    ran = run(*args)
    assert ran.code == 0
    for command in ("make-bars", "build-features", "verify-features", "inspect"):
        assert command in ran.out


def test_help_of_a_command_shows_its_defaults(run: Any) -> None:
    ran = run("build-features", "--help")
    text = re.sub(r"[\s│]+", " ", ran.out)
    for option in (
        "--data",
        "--columns",
        "--reset-on-gap",
        "--drop-bad-bars",
        "--dedup",
        "--sort",
        "--embargo",
    ):
        assert option in text
    for default in ("default: relativity10", "default: (0.7,0.15,0.15)", "default: (open)", "default: 105"):
        assert default in text


# make-bars


def test_make_bars_writes_symbols_with_labels(run: Any, tmp_path: Path) -> None:
    output, labels = tmp_path / "bars.csv", tmp_path / "labels.parquet"
    ran = run("make-bars", output, "--bars", 6_000, "--symbols", 2, "--expansions", labels, "--json")
    record = ran.json
    assert ran.err == ""
    assert (record["bars"], record["symbols"], record["output"]) == (12_000, ["SIM1", "SIM2"], str(output))
    assert record["labels"] == pq.read_metadata(labels).num_rows > 0
    assert pyarrow.csv.read_csv(output).num_rows == 12_000
    text = run("make-bars", output, "--bars", 6_000, "--symbols", 2, "--expansions", labels)
    assert "12,000 of 2 symbols (SIM1, SIM2)" in text.out
    assert f"{record['labels']} expansions in {labels}" in text.out


# build-features


def test_the_build_command_prints_json(run: Any, bars: Path, tmp_path: Path) -> None:
    ran = run("build-features", "--data", bars, "--output", tmp_path / "store", "--json")
    record = ran.json
    store = moola.FeatureStore.open(tmp_path / "store")
    assert (ran.code, ran.err) == (0, "")
    assert record["store_id"] == store.id
    assert (record["bars"], record["symbols"], record["segments"]) == (20_000, [], 1)
    assert record["features"] == list(store.feature_names)
    assert record["splits"]["train"] == {"bars": 14_000, "windows": 14_000 - 105}
    assert set(record["timings"]) >= {"read", "features", "publish", "total"}
    assert record["bytes"] == sum(file.stat().st_size for file in (tmp_path / "store").iterdir())
    assert "--stamp close" in record["notices"][0]


def test_options_reach_the_builder(run: Any, tmp_path: Path) -> None:
    """Every option, checked by what it changes in the store."""
    table = pa.table(
        {
            "When": [
                "2024-01-01 00:00",
                "2024-01-01 00:00",
                *(f"2024-01-0{1 + i // 1440} {i // 60 % 24:02d}:{i % 60:02d}" for i in range(1, 4_000)),
            ],
            "first": [100.0, 100.0, *([101.0, 99.5] * 2_000)[:3_999]],
            "H": [102.0] * 4_001,
            "L": [98.0] * 4_001,
            "C": [100.0, 100.0, *([101.5, 98.5, 100.0] * 2_000)[:3_999]],
            "Vol": [float(i) for i in [0, *range(4_000)]],
            "ticker": ["X"] * 4_001,
            "contract": ["H"] * 2_001 + ["M"] * 2_000,
        }
    ).set_column(3, "L", pa.array([98.0] * 500 + [None] + [98.0] * 3_500))
    table = table.take(pa.array([*range(4_000, 2_000, -1), *range(2_001)]))
    pyarrow.csv.write_csv(table, tmp_path / "bars.csv")
    config = tmp_path / "config.yaml"
    config.write_text("atr_period: 7\nzigzag_k: 0.5\nwarmup_bars: 20\n")
    ran = run(
        *("build-features", "--data", tmp_path / "bars.csv", "--output", tmp_path / "store", "--json"),
        *("--feature-set", "ohlc4", "--config", config, "--layout", "windows", "--window-length", 30),
        *(
            "--train-end",
            "2024-01-01",
            "--val-end",
            "2024-01-02",
            "--test-end",
            "2024-01-03",
            "--embargo",
            11,
        ),
        *(
            "--reset-on-gap",
            "4h",
            "--segment-by",
            "symbol,contract",
            "--columns",
            "When=timestamp,first=open",
        ),
        *("--keep", "volume", "--tz", "Europe/Berlin", "--time-format", "%Y-%m-%d %H:%M", "--stamp", "close"),
        *("--drop-bad-bars", "--dedup", "identical", "--sort"),
    )
    assert ran.code == 0, ran.out
    record = ran.json
    store = moola.FeatureStore.open(tmp_path / "store")
    assert (store.feature_set, store.layout, store.window_length) == ("ohlc4", "windows", 30)
    assert (store.config["atr_period"], store.config["zigzag_k"], store.config["warmup_bars"]) == (7, 0.5, 20)
    assert (record["symbols"], record["segments"]) == (["X"], 2)
    assert record["quality"]["dropped_bad_bars"] == 1
    assert record["quality"]["dropped_duplicates"] == 1
    # A bar stamped 00:00 in Berlin with its close opened at 23:59, which is 22:59 UTC.
    assert store.timestamps[0] == 1_704_063_540 * 10**9
    assert store.extra is not None
    assert store.extra.shape == (3_999, 1)
    options = store.metadata["read_options"]
    assert (options["stamp"], options["sort"], options["reset_on_gap"]) == ("close", True, 4 * 3600 * 10**9)
    splits = json.loads((tmp_path / "store" / "splits.json").read_text())
    assert (splits["method"], splits["tz"], splits["embargo"]) == ("dates", "Europe/Berlin", 11)
    assert not any("stamp" in notice for notice in record["notices"])


def test_several_sources_and_shares_are_accepted(run: Any, bars: Path, tmp_path: Path) -> None:
    table = pq.read_table(bars)
    for i in range(3):
        pq.write_table(table.slice(i * 1_000, 1_000), tmp_path / f"{i}.parquet")
    data = [word for i in range(3) for word in ("--data", tmp_path / f"{i}.parquet")]
    record = run(
        "build-features", *data, "--output", tmp_path / "store", "--split", "0.5,0.3,0.2", "--json"
    ).json
    assert record["bars"] == 3_000
    assert [split["bars"] for split in record["splits"].values()] == [1_500, 900, 600]
    text = run("inspect", tmp_path / "store").out
    assert f"from {tmp_path}/0.parquet, " in text


def test_a_split_without_windows_gives_a_note(run: Any, bars: Path, tmp_path: Path) -> None:
    ran = run("build-features", "--data", bars, "--output", tmp_path / "store", "--split", "0.9,0.1,0")
    assert ran.code == 0
    assert "note: test has no window of 105 bars (0 bars)" in ran.out


def test_overwrite_replaces_a_store(run: Any, bars: Path, tmp_path: Path) -> None:
    command = ("build-features", "--data", bars, "--output", tmp_path / "store", "--json")
    first = run(*command).json["store_id"]
    refused = run(*command)
    assert (refused.code, refused.json["error"]) == (1, "StoreExistsError")
    assert "pass --overwrite" in refused.json["message"]
    assert moola.FeatureStore.open(tmp_path / "store").id == first
    assert run(*command, "--overwrite").json["store_id"] != first
