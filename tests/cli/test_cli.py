"""The command line: what each command prints, to whom, and with which exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import moola
from moola.cli import app

MOOLA = [sys.executable, "-m", "moola"]
SCRIPT = [str(Path(sys.executable).with_name("moola"))]


class Ran:
    """What a command did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict[str, Any]:
        record = json.loads(self.out)
        assert isinstance(record, dict)
        return record


def run(*args: object) -> Ran:
    """A command in this process."""
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


def execute(*args: object, command: list[str] = MOOLA, **options: Any) -> Ran:
    """A command in a process of its own."""
    words = [*command, *(str(arg) for arg in args)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, **options)
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bars") / "bars.parquet"
    moola.make_bars(path, 20_000)
    return path


@pytest.fixture(scope="module")
def store(bars: Path) -> Path:
    path = bars.with_name("store")
    moola.build_features(bars, path)
    return path


# The whole way, as a user goes it


@pytest.mark.parametrize("command", [MOOLA, SCRIPT], ids=["module", "script"])
def test_the_whole_way(tmp_path: Path, command: list[str]) -> None:
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


def test_version() -> None:
    ran = execute("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"moola {moola.__version__}\n", "")


@pytest.mark.parametrize("args", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands(args: tuple[str, ...]) -> None:
    ran = run(*args)
    assert ran.code == 0
    for command in ("make-bars", "build-features", "verify-features", "inspect"):
        assert command in ran.out


def test_help_of_a_command_says_its_defaults() -> None:
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


def test_make_bars_of_symbols_with_labels(tmp_path: Path) -> None:
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


def test_build_as_json(bars: Path, tmp_path: Path) -> None:
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


def test_options_reach_the_builder(tmp_path: Path) -> None:
    """Every option, with what it changed read back from the store."""
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


def test_several_sources_and_shares(bars: Path, tmp_path: Path) -> None:
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


def test_split_without_windows_is_a_note(bars: Path, tmp_path: Path) -> None:
    ran = run("build-features", "--data", bars, "--output", tmp_path / "store", "--split", "0.9,0.1,0")
    assert ran.code == 0
    assert "note: test has no window of 105 bars (0 bars)" in ran.out


def test_overwrite(bars: Path, tmp_path: Path) -> None:
    command = ("build-features", "--data", bars, "--output", tmp_path / "store", "--json")
    first = run(*command).json["store_id"]
    refused = run(*command)
    assert (refused.code, refused.json["error"]) == (1, "StoreExistsError")
    assert "pass --overwrite" in refused.json["message"]
    assert moola.FeatureStore.open(tmp_path / "store").id == first
    assert run(*command, "--overwrite").json["store_id"] != first


def test_bad_bars_are_told_row_by_row(tmp_path: Path) -> None:
    data = tmp_path / "bars.csv"
    rows = [f"2024-01-01T00:{i:02d}:00Z,10,12,9,11" for i in range(6)]
    rows[2] = "2024-01-01T00:02:00Z,10,8,9,11"
    rows[4] = "2024-01-01T00:04:00Z,10,12,9,-1"
    data.write_text("\n".join(["time,open,high,low,close", *rows]) + "\n")
    ran = run("build-features", "--data", data, "--output", tmp_path / "store")
    assert ran.code == 1
    assert ran.out == ""
    assert "error: 2 bars refused\n" in ran.err
    assert f"{data}, row 3 (line 4), at 2024-01-01T00:02:00Z: high = 8" in ran.err
    assert f"{data}, row 5 (line 6), at 2024-01-01T00:04:00Z: close = -1" in ran.err
    assert "→ repair the source" in ran.err
    assert not (tmp_path / "store").exists()

    record = run("build-features", "--data", data, "--output", tmp_path / "store", "--json").json
    assert record["error"] == "BarError"
    assert record["counts"] == {"high_below_low": 1, "out_of_range": 1}
    assert [(p["row"], p["line"], p["column"], p["value"]) for p in record["problems"]] == [
        (3, 4, "high", 8.0),
        (5, 6, "close", -1.0),
    ]


# What was asked wrongly: exit code 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--feature-set", "relativty10"],
            "--feature-set: there is no 'relativty10'; did you mean 'relativity10'?",
        ),
        (["--layout", "window"], "--layout: there is no 'window'; did you mean 'windows'?"),
        (["--window-length", "0"], "--window-length: 0 is not a number of bars; give 1 or more"),
        (["--window-length", "many"], "Invalid value for '--window-length'"),
        (["--embargo", "-1"], "--embargo: -1 is not a number of bars; give 0 or more"),
        (
            ["--split", "0.7,half"],
            "--split: '0.7,half' is not three numbers; give shares such as 0.7,0.15,0.15",
        ),
        (
            ["--split", "0.7,0.7,0.7"],
            "--split: [0.7, 0.7, 0.7] sum to 2.1; give shares that sum to 1 or less",
        ),
        (
            ["--train-end", "2024-02-31"],
            "--train-end: 2024-02-31 is not in the calendar; give a day as YYYY-MM-DD",
        ),
        (
            ["--train-end", "2024-02-01"],
            "--val-end: is missing; give train_end, val_end and test_end together",
        ),
        (
            ["--reset-on-gap", "4 hours"],
            "--reset-on-gap: '4 hours' is not a duration; write for example '4h'",
        ),
        (["--stamp", "opn"], "--stamp: must be 'open' or 'close', not 'opn'"),
        (["--dedup", "all"], "--dedup: 'all' is not a way to drop repeats; give 'identical'"),
        (["--tz", "Mars/Phobos"], "--tz: "),
        (["--columns", "When"], "--columns: must be FILE_COLUMN=ROLE,… but 'When' has no '='"),
        (["--widow-length", "5"], "No such option: --widow-length (Possible options: --window-length)"),
    ],
)
def test_build_options_that_make_no_sense(bars: Path, tmp_path: Path, args: list[str], message: str) -> None:
    ran = run("build-features", "--data", bars, "--output", tmp_path / "store", *args)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith(f"error: {message}"), ran.err
    as_json = run("build-features", "--data", bars, "--output", tmp_path / "store", *args, "--json")
    assert (as_json.code, as_json.err) == (2, "")
    assert as_json.json["error"] in ("ConfigError", "UsageError")
    assert as_json.json["message"].startswith(message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["build-featurs"], "No such command 'build-featurs'. Did you mean 'build-features'"),
        (["build-features", "--output", "x"], "Missing option '--data'.\nTry `moola build-features --help`"),
        (["build-features", "--data", "x"], "Missing option '--output'.\nTry `moola build-features --help`"),
        (["inspect"], "Missing argument 'STORE'.\nTry `moola inspect --help`"),
        (["inspect", "a", "b"], "Got unexpected extra argument"),
        (["verify-features"], "Missing option '--feature-dir'.\nTry `moola verify-features --help`"),
        (["verify-features", "--feature-dir", "x", "--samples", "-1"], "Invalid value for '--samples'"),
        (["make-bars"], "Missing argument 'OUT'.\nTry `moola make-bars --help`"),
        (["make-bars", "x.parquet", "--bars", "0"], "--bars: 0 is not a whole number from 1 to 80,000,000"),
        (["make-bars", "x.parquet", "--seed", "-1"], "--seed: -1 is not a whole number"),
        (["make-bars", "x.parquet", "--symbols", "0"], "--symbols: 0 is not a whole number"),
        (["make-bars", "x.txt"], "output: 'x.txt' does not say which format to write"),
        (["make-bars", "nowhere/x.csv"], "output: there is no directory nowhere. Create it first"),
    ],
)
def test_commands_asked_wrongly(
    args: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run(*args)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {message}"), ran.err
    if len(args) > 1 or args == ["inspect"]:
        as_json = run(*args, "--json")
        assert (as_json.code, as_json.err) == (2, "")
        assert as_json.json["message"].startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_config_that_makes_no_sense(bars: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    command = ("build-features", "--data", bars, "--output", tmp_path / "store", "--config", config)
    missing = run(*command)
    assert missing.code == 1
    assert missing.err == (
        f"error: {config}: cannot be read: No such file or directory. Give the path of a YAML file\n"
    )
    for text, code, message in (
        (
            "atr_perod: 7",
            2,
            "atr_perod: there is no such parameter; the parameters are range_ema_period, atr_period",
        ),
        ("atr_period: 0", 2, "atr_period: input should be greater than or equal to 1, not 0"),
        ("atr_period: [", 1, f"{config}: is not valid YAML: "),
        ("- 7", 1, f"{config}: must be a mapping of names to values"),
    ):
        config.write_text(text)
        ran = run(*command)
        assert ran.code == code
        assert ran.err.startswith(f"error: {message}"), ran.err
        assert not (tmp_path / "store").exists()


# What did not work: exit code 1


def test_no_such_data(tmp_path: Path) -> None:
    ran = execute("build-features", "--data", "nothing.parquet", "--output", "store", cwd=tmp_path)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: nothing.parquet: there is no such file. Check the path.\n"
    assert list(tmp_path.iterdir()) == []


def test_data_that_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n")
    ran = run("build-features", "--data", tmp_path / "report.pdf", "--output", tmp_path / "store")
    assert ran.code == 1
    assert "report.pdf: is a PDF" in ran.err
    record = run(
        "build-features", "--data", tmp_path / "report.pdf", "--output", tmp_path / "store", "--json"
    ).json
    assert record["error"] == "InputError"
    assert record["source"] == str(tmp_path / "report.pdf")


def test_output_that_is_a_file(bars: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    for more in ((), ("--overwrite",)):
        ran = run("build-features", "--data", bars, "--output", tmp_path / "taken", *more)
        assert ran.code == 1
        assert "there is a file of this name" in ran.err
        assert "Traceback" not in ran.err
    assert (tmp_path / "taken").read_text() == "mine"


def test_no_store(tmp_path: Path) -> None:
    for args in (("inspect", tmp_path / "store"), ("verify-features", "--feature-dir", tmp_path / "store")):
        ran = run(*args)
        assert (ran.code, ran.out) == (1, "")
        assert ran.err == (
            f"error: {tmp_path}/store: there is no feature store. "
            "Check the path, or build a store there with `moola build-features`\n"
        )
        record = run(*args, "--json").json
        assert (record["error"], record["path"]) == ("StoreMissingError", f"{tmp_path}/store")


def test_place_that_cannot_be_written() -> None:
    ran = run("make-bars", "/proc/bars.parquet", "--bars", 10)
    assert ran.code == 1
    assert ran.err.startswith("error: ")
    assert "/proc/" in ran.err
    assert "Check that the directory can be written to" in ran.err
    assert "Traceback" not in ran.err


def test_full_disk(bars: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for it."""
    limit = "ulimit -f 200; trap '' XFSZ; exec \"$@\""
    command = ["bash", "-c", limit, "bash", *MOOLA]
    ran = execute("build-features", "--data", bars, "--output", tmp_path / "store", command=command)
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert ran.err.splitlines()[-1].startswith("error: ")
    assert "File too large" in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("json", [[], ["--json"]])
def test_standard_output_that_is_full(store: Path, json: list[str], unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*MOOLA, "inspect", store, *json],
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "error: No space left on device. Free some space, or choose a place on another disk\n"
    )


def test_reader_that_has_seen_enough(store: Path) -> None:
    process = subprocess.Popen(
        [*MOOLA, "inspect", store], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


# verify-features


def test_verify_as_json(store: Path, bars: Path) -> None:
    ran = run("verify-features", "--feature-dir", store, "--data", bars, "--samples", 2, "--json")
    record = ran.json
    assert (ran.code, ran.err, record["ok"]) == (0, "", True)
    assert [check["name"] for check in record["checks"]][-4:] == [
        "recomputed",
        "streamed",
        "causal",
        "source",
    ]
    assert "2 windows" in next(check["detail"] for check in record["checks"] if check["name"] == "streamed")


def test_verify_without_recomputing(store: Path) -> None:
    ran = run("verify-features", "--feature-dir", store, "--skip-reproducibility")
    assert ran.code == 0
    assert "recomputed" not in ran.out


def test_verify_finds_a_flipped_bit(bars: Path, tmp_path: Path) -> None:
    moola.build_features(bars, tmp_path / "store")
    with (tmp_path / "store" / "features.npy").open("r+b") as file:
        file.seek(123_456)
        byte = file.read(1)[0]
        file.seek(123_456)
        file.write(bytes([byte ^ 1]))
    ran = execute("verify-features", "--feature-dir", tmp_path / "store")
    assert ran.code == 1
    assert re.search(r"^FAIL  hashes +features\.npy", ran.out, re.MULTILINE)
    assert re.search(r"^FAIL  recomputed +1 rows? of features", ran.out, re.MULTILINE)
    assert re.search(r"^\d of \d+ checks failed: do not train on .*build it again", ran.out, re.MULTILINE)
    as_json = run("verify-features", "--feature-dir", tmp_path / "store", "--json")
    assert (as_json.code, as_json.json["ok"]) == (1, False)


def test_verify_against_other_bars(store: Path, tmp_path: Path) -> None:
    moola.make_bars(tmp_path / "other.parquet", 20_000, seed=18)
    ran = run("verify-features", "--feature-dir", store, "--data", tmp_path / "other.parquet")
    assert ran.code == 1
    assert re.search(r"^FAIL  source ", ran.out, re.MULTILINE)


# inspect


def test_inspect(store: Path) -> None:
    out = run("inspect", store).out
    assert re.search(r"^bars +20,000, 19,895 past the warm-up, every 1m$", out, re.MULTILINE)
    assert re.search(r"^dist_to_prev_SH .* -3 … 3 +\d+ bars$", out, re.MULTILINE)
    assert re.search(r"^train +14,000 +13,895 +2020-06-07T22:00:00Z", out, re.MULTILINE)
    assert re.search(r"^daily break +\d+ +1h ", out, re.MULTILINE)
    assert re.search(r"^missing bars +\d+ ", out, re.MULTILINE)
    assert re.search(r"^suggested: --reset-on-gap 4h: ends segments at ", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) < 200


def test_inspect_as_json(store: Path) -> None:
    ran = run("inspect", store, "--json")
    record = ran.json
    assert (ran.code, ran.err, record["bars"]) == (0, "", 20_000)
    assert record["suggestion"]["reset_on_gap"] == "4h"
    assert record["features"][0]["name"] == "open_norm"


def test_inspect_many_segments(tmp_path: Path) -> None:
    moola.make_bars(tmp_path / "bars.parquet", 300, symbols=12)
    moola.build_features(tmp_path / "bars.parquet", tmp_path / "store")
    out = run("inspect", tmp_path / "store").out
    assert "of 12 symbols (SIM1, SIM10, SIM11, SIM12, SIM2, …)" in out
    assert "… and 4 more; --json lists all" in out


def test_markup_in_names_is_text(bars: Path, tmp_path: Path) -> None:
    table = pq.read_table(bars).slice(0, 400)
    table = table.append_column("symbol", pa.array(["[bold]X[/bold]"] * 400))
    moola.build_features(table, tmp_path / "[red]store")
    out = run("inspect", tmp_path / "[red]store").out
    assert "[bold]X[/bold] " in out
    assert "[red]store" in out


# Ctrl-C, terminals, start-up


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_interrupt(tmp_path: Path, more: tuple[str, ...]) -> None:
    command = [*MOOLA, "make-bars", str(tmp_path / "bars.csv"), "--bars", "50000000", *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not any(tmp_path.iterdir()):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    # Where the interrupt went through C code that runs Python, Python ends by the signal: 130 to a shell as well.
    assert process.returncode in (130, -signal.SIGINT)
    if more:
        assert json.loads(out)["error"] == "KeyboardInterrupt"
    else:
        assert err.splitlines()[-1] == "error: interrupted: nothing unfinished is left behind"
        assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_waits_until_numpy_is_ready() -> None:
    """Whoever first asks NumPy for its functions runs Python, and cannot bear an exception there."""
    code = """
        import os, signal
        import numpy.lib
        from moola import _core

        class Interrupted(numpy.lib.NumpyVersion):
            def __init__(self, version):
                os.kill(os.getpid(), signal.SIGINT)
                super().__init__(version)

        numpy.lib.NumpyVersion = Interrupted
        try:
            _core.load_numpy()
            raise SystemExit("was not interrupted")
        except KeyboardInterrupt:
            pass
        _core.load_numpy()
        print(_core.permute(numpy.arange(3), 3, 1))
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[")


def test_interrupt_of_a_build(tmp_path: Path) -> None:
    # So many that the build is still under way when a busy machine gets round to the signal.
    moola.make_bars(tmp_path / "bars.parquet", 4_000_000)
    command = [*MOOLA, "build-features", "--data", "bars.parquet", "--output", "store"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, bufsize=1
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "reading bars …\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("error: interrupted: nothing unfinished is left behind\n")
    assert [path.name for path in tmp_path.iterdir()] == ["bars.parquet"]


def test_progress_bar_on_a_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*MOOLA, "make-bars", str(tmp_path / "bars.csv"), "--bars", "1000000"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:  # That is how Linux says that the other end is closed.
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"making bars" in seen
    assert b"1000000" in seen
    assert seen.count(b"\x1b[?25l") == seen.count(b"\x1b[?25h") == 1, (
        "the cursor is hidden once, and shown again"
    )
    assert out.startswith(b"bars        1,000,000, ")


def test_start_up_imports_little() -> None:
    """What a command does not need is not imported with the command line."""
    heavy = ("numpy", "pyarrow", "pydantic", "rich.console", "ruamel", "torch")
    code = f"import sys, moola.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
