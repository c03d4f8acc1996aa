"""What the command line refuses: the message, the stream it goes to, and the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_bad_bars_are_reported_row_by_row(run: Any, tmp_path: Path) -> None:
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
def test_wrong_build_options_are_refused(
    run: Any, bars: Path, tmp_path: Path, args: list[str], message: str
) -> None:
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
        (["build-features", "--output", "x"], "--data: names no bars; give one file or several"),
        (["build-features", "--data", "x"], "--output: names no directory to make"),
        (["inspect"], "Missing argument 'STORE'.\nTry `moola inspect --help`"),
        (["inspect", "a", "b"], "Got unexpected extra argument"),
        (["verify-features"], "Missing option '--feature-dir'.\nTry `moola verify-features --help`"),
        (["verify-features", "--feature-dir", "x", "--samples", "-1"], "Invalid value for '--samples'"),
        (["make-bars"], "Missing argument 'OUT'.\nTry `moola make-bars --help`"),
        (
            ["make-bars", "x.parquet", "--bars", "0"],
            "--bars: 0 is out of range; give a whole number from 1 to 80,000,000",
        ),
        (["make-bars", "x.parquet", "--seed", "-1"], "--seed: -1 is out of range"),
        (["make-bars", "x.parquet", "--symbols", "0"], "--symbols: 0 is out of range"),
        (["make-bars", "x.txt"], "output: 'x.txt' does not say which format to write"),
        (["make-bars", "nowhere/x.csv"], "output: there is no directory nowhere. Create it first"),
    ],
)
def test_wrong_command_arguments_are_refused(
    run: Any, args: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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


def test_a_wrong_config_is_refused(run: Any, bars: Path, tmp_path: Path) -> None:
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


def test_missing_data_is_an_error(execute: Any, tmp_path: Path) -> None:
    ran = execute("build-features", "--data", "nothing.parquet", "--output", "store", cwd=tmp_path)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: nothing.parquet: there is no such file. Check the path.\n"
    assert list(tmp_path.iterdir()) == []


def test_data_that_is_not_bars_is_refused(run: Any, tmp_path: Path) -> None:
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n")
    ran = run("build-features", "--data", tmp_path / "report.pdf", "--output", tmp_path / "store")
    assert ran.code == 1
    assert "report.pdf: is a PDF" in ran.err
    record = run(
        "build-features", "--data", tmp_path / "report.pdf", "--output", tmp_path / "store", "--json"
    ).json
    assert record["error"] == "InputError"
    assert record["source"] == str(tmp_path / "report.pdf")


def test_an_output_that_is_a_file_is_refused(run: Any, bars: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    for more in ((), ("--overwrite",)):
        ran = run("build-features", "--data", bars, "--output", tmp_path / "taken", *more)
        assert ran.code == 1
        assert "there is a file of this name" in ran.err
        assert "Traceback" not in ran.err
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_missing_store_is_an_error(run: Any, tmp_path: Path) -> None:
    for args in (("inspect", tmp_path / "store"), ("verify-features", "--feature-dir", tmp_path / "store")):
        ran = run(*args)
        assert (ran.code, ran.out) == (1, "")
        assert ran.err == (
            f"error: {tmp_path}/store: there is no feature store. "
            "Check the path, or build a store there with `moola build-features`\n"
        )
        record = run(*args, "--json").json
        assert (record["error"], record["path"]) == ("StoreMissingError", f"{tmp_path}/store")


def test_an_unwritable_place_is_refused(run: Any) -> None:
    ran = run("make-bars", "/proc/bars.parquet", "--bars", 10)
    assert ran.code == 1
    assert ran.err.startswith("error: ")
    assert "/proc/" in ran.err
    assert "Check that the directory can be written to" in ran.err
    assert "Traceback" not in ran.err
