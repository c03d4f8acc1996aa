"""`moola verify-features` and `moola inspect`: text, JSON and exit codes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

import moola

# verify-features


def test_verify_prints_json(run: Any, store: Path, bars: Path) -> None:
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


def test_verify_can_skip_recomputing(run: Any, store: Path) -> None:
    ran = run("verify-features", "--feature-dir", store, "--skip-reproducibility")
    assert ran.code == 0
    assert "recomputed" not in ran.out


def test_verify_finds_a_flipped_bit(run: Any, execute: Any, bars: Path, tmp_path: Path) -> None:
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


def test_verify_finds_other_bars(run: Any, store: Path, tmp_path: Path) -> None:
    moola.make_bars(tmp_path / "other.parquet", 20_000, seed=18)
    ran = run("verify-features", "--feature-dir", store, "--data", tmp_path / "other.parquet")
    assert ran.code == 1
    assert re.search(r"^FAIL  source ", ran.out, re.MULTILINE)


# inspect


def test_inspect_prints_a_report(run: Any, store: Path) -> None:
    out = run("inspect", store).out
    assert re.search(r"^bars +20,000, 19,895 past the warm-up, every 1m$", out, re.MULTILINE)
    assert re.search(r"^dist_to_prev_SH .* -3 … 3 +\d+ bars$", out, re.MULTILINE)
    assert re.search(r"^train +14,000 +13,895 +2020-06-07T22:00:00Z", out, re.MULTILINE)
    assert re.search(r"^daily break +\d+ +1h ", out, re.MULTILINE)
    assert re.search(r"^missing bars +\d+ ", out, re.MULTILINE)
    assert re.search(r"^suggested: --reset-on-gap 4h: ends segments at ", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) < 200


def test_inspect_prints_json(run: Any, store: Path) -> None:
    ran = run("inspect", store, "--json")
    record = ran.json
    assert (ran.code, ran.err, record["bars"]) == (0, "", 20_000)
    assert record["suggestion"]["reset_on_gap"] == "4h"
    assert record["features"][0]["name"] == "open_norm"


def test_inspect_shortens_many_segments(run: Any, tmp_path: Path) -> None:
    moola.make_bars(tmp_path / "bars.parquet", 300, symbols=12)
    moola.build_features(tmp_path / "bars.parquet", tmp_path / "store")
    out = run("inspect", tmp_path / "store").out
    assert "of 12 symbols (SIM1, SIM10, SIM11, SIM12, SIM2, …)" in out
    assert "… and 4 more; --json lists all" in out


def test_markup_in_names_is_text(run: Any, bars: Path, tmp_path: Path) -> None:
    table = pq.read_table(bars).slice(0, 400)
    table = table.append_column("symbol", pa.array(["[bold]X[/bold]"] * 400))
    moola.build_features(table, tmp_path / "[red]store")
    out = run("inspect", tmp_path / "[red]store").out
    assert "[bold]X[/bold] " in out
    assert "[red]store" in out
