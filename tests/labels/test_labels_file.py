"""The file of imported labels: saving, loading, alteration, and the command that writes it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from label_files import ARRAYS, assert_same, candles, raw
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from moola import FeatureStore
from moola.cli import app
from moola.errors import InputError, InputMissingError, StoreWriteError
from moola.labels import LabelledWindows, read_labels, read_raw_windows


def test_saving_and_loading_changes_nothing(
    windows: LabelledWindows, market: FeatureStore, tmp_path: Path
) -> None:
    path = tmp_path / "L.safetensors"
    several = [
        windows,
        read_labels(market.path.with_name("expansions.parquet"), market),
        read_raw_windows(raw(candles(3, 30), symbol=["ES", "NQ", "ES"]), window_length=30),
        windows.take([]),
    ]
    for one in several:
        one.save(path)
        assert_same(one, LabelledWindows.load(path))
    assert [file.name for file in tmp_path.iterdir()] == ["L.safetensors"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    windows: LabelledWindows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "L.safetensors"
    windows.save(path)
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        self.open("wb").close()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(StoreWriteError, match=r"cannot be written: No space left.*Free some space"):
            windows.take([0]).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["L.safetensors"]
    assert path.read_bytes() == before


def forged(path: Path, change: Callable[[dict[str, np.ndarray], dict[str, Any]], object]) -> None:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        record = json.loads(file.metadata()["moola_labels"])
    tensors = load_file(path)
    change(tensors, record)
    save_file(tensors, path, {"moola_labels": json.dumps(record)})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda t, r: t.pop("y"), "y"),
        (lambda t, r: t.pop("weight"), "its arrays are X, ends"),
        (lambda t, r: t.update(more=t["y"]), "its arrays are X, ends, first_times, groups, more"),
        (lambda t, r: t.update(X=t["X"].astype(np.float64)), r"X is float64 of shape \(5, 10, 3\)"),
        (lambda t, r: t.update(X=t["X"][:, :9].copy()), r"X is float32 of shape \(5, 9, 3\)"),
        (lambda t, r: t["X"].put(7, np.nan), "X cannot be right"),
        (lambda t, r: t["y"].put(0, 3), "y cannot be right"),
        (lambda t, r: t["symbols"].put(0, 9), "symbols cannot be right"),
        (lambda t, r: t["spans"].put(1, 10), "spans cannot be right"),
        (lambda t, r: t["spans"].put(1, -1), "spans cannot be right"),
        (lambda t, r: t["weight"].put(0, -1), "weight cannot be right"),
        (lambda t, r: t["ends"].put(0, 0), "starts and ends cannot be right"),
        (lambda t, r: t["splits"].put(0, 3), "splits cannot be right"),
        (lambda t, r: r.update(classes=["up", "down", "none"]), "classes cannot be right"),
        (lambda t, r: r.update(classes="abc"), "classes is 'abc'"),
        (lambda t, r: r.update(parameters=[]), "parameters cannot be right"),
        (lambda t, r: r.pop("store_id"), "store_id"),
        (lambda t, r: r.pop("reach"), "reach"),
        (lambda t, r: r.update(reach=10), "reach cannot be right"),
        (lambda t, r: r.update(reach=10**9), "reach cannot be right"),
        (lambda t, r: r.update(feature_set=7), "feature_set is"),
    ],
)
def test_an_altered_file_is_refused(
    windows: LabelledWindows, tmp_path: Path, change: Callable[..., object], what: str
) -> None:
    path = tmp_path / "L.safetensors"
    windows.save(path)
    forged(path, lambda tensors, record: None)
    assert_same(windows, LabelledWindows.load(path))
    forged(path, change)
    with pytest.raises(
        InputError, match=rf"{path}: does not hold what it says \(.*{what}.*\). Write it again with"
    ):
        LabelledWindows.load(path)


def test_files_without_labelled_windows_are_refused(windows: LabelledWindows, tmp_path: Path) -> None:
    path = tmp_path / "L.safetensors"
    with pytest.raises(InputMissingError, match=r"there is no such file. Check the path"):
        LabelledWindows.load(path)
    windows.save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"x" * 100, whole[:-1], whole[:500], whole + b"x"):
        path.write_bytes(damaged)
        with pytest.raises(
            InputError, match=r"is damaged, or no safetensors file \(.*\). Write it again with"
        ):
            LabelledWindows.load(path)
    save_file({"x": np.zeros(3)}, path)
    with pytest.raises(
        InputError, match=r"holds no labelled windows. Write it again with `moola import-labels`"
    ):
        LabelledWindows.load(path)
    path.write_bytes(whole)
    forged(path, lambda tensors, record: record.update(format_version=1))
    with pytest.raises(InputError, match=r"is of format 1, not 2. Install a newer moola, or write it again"):
        LabelledWindows.load(path)


def test_some_windows_can_be_taken(windows: LabelledWindows) -> None:
    for chosen in ([4, 0], np.array([4, 0]), np.array([], np.intp), windows.y == 1):
        some = windows.take(chosen)
        indices = np.flatnonzero(chosen) if np.asarray(chosen).dtype == bool else np.asarray(chosen, int)
        assert len(some) == len(indices)
        for name in ARRAYS:
            assert np.array_equal(getattr(some, name), getattr(windows, name)[indices])
        assert (some.classes, some.store_id, some.notices) == (windows.classes, windows.store_id, ())
    with pytest.raises(IndexError):
        windows.take([5])
    with pytest.raises(TypeError):
        windows.take([0.5])


def test_the_label_report_is_complete(windows: LabelledWindows, store: FeatureStore) -> None:
    assert windows.report() == [
        "windows: 5 of 10 bars, 3 features (made_up)",
        "class down: 1, 1 with a span of 1 to 1 bars (median 1)",
        "class none: 2",
        "class up: 2, 2 with a span of 1 to 5 bars (median 3)",
        "overlap: 2 windows share bars with others, in 1 group; keep each on one side of a split (groups=)",
        "splits: train 4, val 0, test 1",
        "note: row 6 repeats another exactly and was dropped",
    ]
    spanned = windows.take([0, 2]).report()
    assert "overlap: no two windows share bars or their times" in spanned
    assert spanned[-1].startswith(
        "note: every window has a span; without a class for windows that have none,"
    )
    begin, end = (int(row) for row in store.splits["val"].ranges[0])
    straddling = read_labels(pa.table({"window_end": [begin, end - 1], "class": ["a", "b"]}), store)
    assert straddling.splits is not None
    assert straddling.splits.tolist() == [-1, 1]
    assert "splits: train 0, val 1, test 0, in none 1" in straddling.report()
    assert repr(windows) == "<LabelledWindows: 5 of 10 bars, made_up; down, none, up>"


def command(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["import-labels", *map(str, args)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_command_imports_labels_of_a_store(market: FeatureStore, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "L.safetensors"
    where = ("--labels", folder / "expansions.parquet", "--feature-dir", market.path, "--output", path)
    code, out, err = command(*where)
    want = read_labels(folder / "expansions.parquet", market)
    assert (code, err) == (0, "")
    assert_same(want, LabelledWindows.load(path))
    assert out.splitlines()[:-1] == want.report()
    assert re.fullmatch(rf"file: {path} \(\d+\.\d kB\)", out.splitlines()[-1])

    code, out, err = command(*where, "--window-length", 150, "--json")
    record = json.loads(out)
    assert (code, err) == (0, "")
    assert LabelledWindows.load(path).X.shape == (len(want), 150, 10)
    assert record["windows"] == len(want)
    assert record["classes"] == {name: int((want.y == code).sum()) for code, name in enumerate(want.classes)}
    assert (record["output"], record["window_length"], record["feature_set"]) == (
        str(path),
        150,
        "relativity10",
    )

    code, out, err = command(*where, "--window-length", 60)
    assert (code, out) == (1, "")
    assert "labels refused\n  span outside its window: " in err


def test_the_command_imports_raw_windows(tmp_path: Path) -> None:
    pq.write_table(raw(candles(4, 30), start=[1, 2, 3, 4], end=[5] * 4), tmp_path / "raw.parquet")
    path = tmp_path / "L.safetensors"
    where = ("--labels", tmp_path / "raw.parquet", "--output", path, "--raw")
    code, out, _ = command(*where, "--window-length", 30, "--feature-set", "relative_transform11")
    assert code == 0
    assert "windows: 4 of 30 bars, 11 features (relative_transform11)" in out
    assert LabelledWindows.load(path).X.shape == (4, 30, 11)
    (tmp_path / "config.yaml").write_text("warmup_bars: 3\n")
    assert command(*where, "--window-length", 30, "--config", tmp_path / "config.yaml")[0] == 0
    assert LabelledWindows.load(path).valid_mask.sum() == 4 * 27
    code, _, err = command(*where)
    assert code == 1
    assert "window with a wrong number of bars: 4\n" in err


def test_the_command_does_not_overwrite_its_inputs(
    market: FeatureStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pq.read_table(folder / "expansions.parquet")
    pq.write_table(table, tmp_path / "L.parquet")
    (tmp_path / "link.parquet").symlink_to(tmp_path / "L.parquet")
    monkeypatch.chdir(tmp_path)
    for output in ("L.parquet", tmp_path / "L.parquet", "link.parquet"):
        code, out, err = command("--labels", "L.parquet", "--feature-dir", market.path, "--output", output)
        message = "--output: is L.parquet, an input of this command; give another file, such as L.safetensors"
        assert (code, out, err) == (2, "", f"error: {message}\n")
    assert pq.read_table(tmp_path / "L.parquet").equals(table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "error: --feature-dir: is missing; give the store that was labelled, or --raw\n"),
        (
            ("--raw", "--feature-dir", "x"),
            "error: --feature-dir: has no effect with --raw; leave one of them out\n",
        ),
        (
            ("--raw", "--bar-interval", "5 bars"),
            "error: --bar-interval: '5 bars' is not a duration; write for example '4h', '90m' or '1d'\n",
        ),
        (("--raw", "--stamp", "open"), "error: --stamp: has no effect with --raw; leave one of them out\n"),
        (
            ("--feature-set", "ohlc4"),
            "error: --feature-set: has no effect without --raw; add --raw, or leave it out\n",
        ),
        (
            ("--raw", "--window-length", "0"),
            "error: --window-length: 0 is not a number of bars; give 1 or more\n",
        ),
    ],
)
def test_the_command_refuses_wrong_arguments(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    pq.write_table(raw(candles(2, 30)), tmp_path / "raw.parquet")
    output = tmp_path / "L.safetensors"
    code, out, err = command("--labels", tmp_path / "raw.parquet", "--output", output, *options)
    assert (code, out, err) == (2, "", message)
    assert not output.exists()


def test_label_output_without_the_safetensors_suffix_is_refused(tmp_path: Path) -> None:
    pq.write_table(raw(candles(2, 30)), tmp_path / "raw.parquet")
    for name in ("L.bin", "L", "L.SAFETENSORS"):
        output = tmp_path / name
        code, out, err = command("--labels", tmp_path / "raw.parquet", "--raw", "--output", output)
        problem = f"{output} does not end in .safetensors, as every file of imported labels must"
        message = f"error: --output: {problem}; give a name such as L.safetensors\n"
        assert (code, out, err) == (2, "", message)
        assert not output.exists()


def test_labels_need_no_heavy_library(market: FeatureStore, folder: Path, tmp_path: Path) -> None:
    pq.write_table(raw(candles(2, 30)), tmp_path / "raw.parquet")
    program = f"""
import sys
from moola.labels import LabelledWindows, read_labels, read_raw_windows
read_labels({str(folder / "expansions.parquet")!r}, {str(market.path)!r}).save({str(tmp_path / "L")!r})
LabelledWindows.load({str(tmp_path / "L")!r})
read_raw_windows({str(tmp_path / "raw.parquet")!r}, window_length=30)
print([name for name in ("torch", "sklearn", "scipy", "pandas", "polars", "matplotlib") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
