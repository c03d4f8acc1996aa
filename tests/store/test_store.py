"""Opening a store, and all kinds of damage."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from tiny_store import build, make_segments, write_hashes

import moola
from moola.errors import ConfigError, DamagedStoreError, StaleStoreError, StoreError, StoreMissingError
from moola.files.json import write_json
from moola.store import FeatureStore
from moola.store.layout import dump_checksums, parse_checksums
from moola.store.verify.files import check_hashes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    build(tmp_path / "store", extra=2).close()
    return tmp_path / "store"


def refused(path: Path, file: str, message: str) -> DamagedStoreError:
    with pytest.raises(DamagedStoreError, match=message) as caught:
        FeatureStore.open(path)
    assert caught.value.file == file
    assert str(caught.value).startswith(f"{path}: {file}: ")
    assert re.search(r"\. [A-Z].*(again|away)", str(caught.value)), "it ends with what to do"
    return caught.value


def edit(path: Path, change) -> None:
    """Changes the metadata like a careful forger, with matching hashes."""
    metadata = json.loads((path / "metadata.json").read_text())
    change(metadata)
    (path / "metadata.json").unlink()
    write_json(path / "metadata.json", metadata)
    write_hashes(path)


# What an open store offers


def test_all_arrays_exist_and_are_read_only(path):
    assert moola.FeatureStore is FeatureStore
    with FeatureStore.open(path) as store:
        assert len(store) == 160
        for array, dtype, shape in [
            (store.features, "<f4", (160, 3)),
            (store.valid, "|b1", (160,)),
            (store.timestamps, "<i8", (160,)),
            (store.bars, "<f8", (160, 4)),
            (store.extra, "<f4", (160, 2)),
        ]:
            assert isinstance(array, np.memmap)
            assert (array.dtype, array.shape) == (np.dtype(dtype), shape)
            assert array.flags.c_contiguous
            assert array.flags.aligned
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1
        for name, array in [("features", store.features), ("bars", store.bars), ("extra", store.extra)]:
            assert np.array_equal(array, np.load(path / f"{name}.npy"))
        assert store.segments == make_segments([120, 40])
        assert store.segments[1].last_row == 159
        assert store.valid.sum() == 115 + 35
        assert list(store.splits) == ["train", "val", "test"]
        assert store.splits["train"].ranges.tolist() == [[0, 112]]
        assert store.splits["train"].bars == 112
        assert (store.layout, store.window_length, store.window_starts) == ("bars", 10, None)
        assert store.feature_names == ("f0", "f1", "f2")
        assert (store.feature_set, store.config) == ("made_up", {"range_ema_period": 20})
        assert store.id == store.metadata["store_id"]
        assert store.path == path
        assert repr(store) == f"<FeatureStore '{path}': made_up, 160 bars>"


def test_a_store_without_kept_columns_has_none(tmp_path):
    with build(tmp_path / "store") as store:
        assert store.extra is None
        assert "extra.npy" not in store.files()


def test_a_window_is_a_view(path):
    with FeatureStore.open(path) as store:
        window = store.window(100, 50)
        assert np.shares_memory(window, store.features)
        assert np.array_equal(window, store.features[100:150])
        assert store.window(np.int64(0), 160).shape == (160, 3)
        assert store.window(159, 1).shape == (1, 3)
        for i, length in [(-1, 5), (0, 161), (160, 1), (155, 6)]:
            with pytest.raises(IndexError, match=r"of 160; give rows from 0 to 159"):
                store.window(i, length)
        with pytest.raises(ConfigError, match="length: a window of 0 bars; give 1 or more"):
            store.window(5, 0)
        with pytest.raises(TypeError):
            store.window(1.5, 5)


def test_the_dense_layout_serves_only_its_length(tmp_path):
    with build(tmp_path / "bars") as sparse, build(tmp_path / "dense", layout="windows") as store:
        starts = store.window_starts
        # 5 bars of warm-up: windows of 10 end at row 9 at the earliest, and all of those are valid.
        assert starts.tolist() == [*range(111), *range(120, 151)]
        assert store.features.shape == (142, 10, 3)
        assert store.valid.shape == (142, 10)
        assert len(store) == 160
        for i in (0, 110, 120, 150):
            assert np.array_equal(store.window(i, 10), sparse.window(i, 10))
        with pytest.raises(ConfigError, match="windows of 10 bars, not 9; build with --layout bars"):
            store.window(0, 9)
        for i in (111, 119):
            with pytest.raises(IndexError, match=f"no window starts at row {i}"):
                store.window(i, 10)
        assert repr(store).endswith("160 bars, windows of 10>")
        assert "features.npy" not in store.files()
        assert "features_3d.npy" in store.files()


def test_closing_releases_the_files(path):
    before = len(os.listdir("/proc/self/fd"))
    store = FeatureStore.open(path)
    features = store.features
    store.close()
    store.close()
    for use in (
        lambda: store.features,
        lambda: store.window(0, 5),
        store.checksums,
        lambda: store.hash("bars.npy"),
    ):
        with pytest.raises(ValueError, match="closed; open it again with reopen"):
            use()
    assert features[0, 0] >= 0
    del features
    assert len(os.listdir("/proc/self/fd")) == before
    for _ in range(3):
        FeatureStore.open(path)
    with pytest.raises(StoreError):
        FeatureStore.open(path.parent)
    assert len(os.listdir("/proc/self/fd")) == before


def test_hashes_equal_those_of_b3sum(path, monkeypatch):
    with FeatureStore.open(path) as store:
        hashes = store.checksums()
        assert sorted(hashes) == [name for name in store.files() if name != "checksums.b3"]
        assert all(store.hash(name) == known for name, known in hashes.items())
        # The files of the directory that was opened, even if the path now refers to another.
        shutil.move(path, path.with_name("moved"))
        assert store.hash("bars.npy") == hashes["bars.npy"]
        assert json.loads(store.read_bytes("metadata.json")) == store.metadata


def test_opening_takes_milliseconds_and_imports_little(path):
    script = f"""
import sys, time
import moola
store = moola.FeatureStore.open({str(path)!r})
times = []
for _ in range(20):
    begin = time.perf_counter()
    moola.FeatureStore.open({str(path)!r})
    times.append(time.perf_counter() - begin)
heavy = {{"torch", "pyarrow", "pydantic", "rich", "typer", "pandas", "polars"}} & set(sys.modules)
assert not heavy, heavy
print(sorted(times)[10])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(result.stdout) < 0.010


# Stores that are replaced


def test_a_pickled_store_is_opened_again(path):
    with FeatureStore.open(path) as store:
        data = pickle.dumps(store)
        assert len(data) < 1000
        with pickle.loads(data) as again:
            assert again.id == store.id
            assert np.array_equal(again.features, store.features)


def test_another_store_at_the_path_is_stale(path):
    store = FeatureStore.open(path)
    old = np.array(store.features)
    data = pickle.dumps(store)
    build(path, overwrite=True, lengths=(50,)).close()
    with pytest.raises(StaleStoreError, match=r"another store has been published .*\. Open the new one"):
        store.reopen()
    with pytest.raises(StaleStoreError):
        pickle.loads(data)
    assert np.array_equal(store.features, old), "the old bytes are still there"
    shutil.rmtree(path)
    with pytest.raises(StoreMissingError):
        store.reopen()


def _first_feature(store: FeatureStore) -> float:
    return float(store.features[0, 0])


def test_a_spawned_worker_opens_its_own_store(path):
    with FeatureStore.open(path) as store, get_context("spawn").Pool(1) as pool:
        assert pool.apply(_first_feature, (store,)) == store.features[0, 0]


# Paths without a store


def test_a_path_without_a_store_is_refused(tmp_path):
    (tmp_path / "file").write_text("%PDF-1.7")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "features.npy").write_text("")
    for name, message in [
        ("none", "there is no feature store. Check the path, or build"),
        ("file", "is not a directory, so not a feature store. Give"),
        ("empty", "is a directory, but not a feature store. Give"),
        ("other", "is a directory, but not a feature store. Give"),
    ]:
        with pytest.raises(StoreMissingError, match=message) as caught:
            FeatureStore.open(tmp_path / name)
        assert isinstance(caught.value, FileNotFoundError)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")


# Damage


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


FILES = [
    "bars.npy",
    "checksums.b3",
    "extra.npy",
    "features.npy",
    "metadata.json",
    "splits.json",
    "timestamps.npy",
    "valid.npy",
]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(path, name):
    assert names(path) == FILES
    (path / name).unlink()
    refused(path, name, "is missing")


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_size_is_named(path, name):
    good = (path / name).read_bytes()
    what = {"metadata.json": "JSON", "checksums.b3": r"line \d|its lines|every other"}.get(
        name, "has .* bytes, not"
    )
    for size in sorted({0, 1, len(good) // 2, len(good) - 1}):
        (path / name).write_bytes(good[:size])
        refused(path, name, what)
    for tail in (b"\0", b" ", b"\n", b"x" * 5000):
        (path / name).write_bytes(good + tail)
        refused(path, name, what)
    (path / name).write_bytes(good)
    FeatureStore.open(path).close()


@pytest.mark.parametrize("extra", ["notes.txt", "DS_Store", ".hidden", "features_3d.npy", "metadata.json~"])
def test_a_foreign_file_is_named(path, extra):
    (path / extra).write_text("")
    refused(path, extra, "does not belong to the store. Move it away")


@pytest.mark.parametrize(
    "dropping",
    [
        ".DS_Store",
        ".directory",
        "Thumbs.db",
        "desktop.ini",
        "._metadata.json",
        ".nfs00000000012ab3c400000001",
    ],
)
def test_files_that_operating_systems_leave_are_ignored(path, dropping):
    (path / dropping).write_bytes(b"\0")
    with FeatureStore.open(path) as store:
        assert dropping not in store.files()
        assert check_hashes(store) == "BLAKE3 of 7 files as written"


@pytest.mark.parametrize("name", FILES)
def test_only_regular_files_are_read(path, name, tmp_path):
    kept = (path / name).rename(tmp_path / "kept")
    (path / name).symlink_to(kept)
    refused(path, name, "is not a regular file")
    (path / name).unlink()
    (path / name).mkdir()
    refused(path, name, "is not a regular file")
    (path / name).rmdir()
    os.mkfifo(path / name)
    refused(path, name, "is not a regular file")
    (path / name).unlink()
    with socket.socket(socket.AF_UNIX) as end:
        os.chdir(path)
        end.bind(name)
        refused(path, name, "is not a regular file")


@pytest.fixture(autouse=True)
def _stay_here():
    here = os.getcwd()
    yield
    os.chdir(here)


@pytest.mark.parametrize("layout", ["bars", "windows"])
def test_a_flipped_header_bit_is_refused(tmp_path, layout):
    path = tmp_path / "store"
    build(path, layout=layout, extra=1).close()
    for name in [name for name in names(path) if name.endswith(".npy")]:
        good = (path / name).read_bytes()
        with open(path / name, "r+b") as file:
            for bit in range(8 * 128):
                byte = good[bit // 8]
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit % 8]), bit // 8)
                refused(path, name, "header")
                os.pwrite(file.fileno(), bytes([byte]), bit // 8)
    FeatureStore.open(path).close()


@pytest.mark.parametrize("name", ["metadata.json", "splits.json", "checksums.b3"])
def test_a_flipped_bit_in_a_text_file_is_refused(tmp_path, name):
    path = tmp_path / "store"
    build(path, lengths=(60,), width=1).close()
    good = (path / name).read_bytes()
    opened = 0
    with open(path / name, "r+b") as file:
        for bit in range(8 * len(good)):
            os.pwrite(file.fileno(), bytes([good[bit // 8] ^ 1 << bit % 8]), bit // 8)
            try:
                store = FeatureStore.open(path)
            except DamagedStoreError:
                pass
            else:
                # Valid on its own: then the hash reveals it. A wrong hash makes its file look wrong.
                opened += 1
                with store:
                    wrong = [file for file, known in store.checksums().items() if store.hash(file) != known]
                assert len(wrong) == 1
                assert wrong == [name] or name == "checksums.b3"
            os.pwrite(file.fileno(), good[bit // 8 : bit // 8 + 1], bit // 8)
    assert 0 < opened < 4 * len(good)
    FeatureStore.open(path).close()


def set_file(name: str, **change):
    return lambda meta: meta["files"][name].update(change)


def set_segment(i: int, **change):
    return lambda meta: meta["segments"][i].update(change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format_version=2), "format 2 is newer than 1.*Install a newer moola"),
        (lambda m: m.update(format_version=True), "format_version is True"),
        (lambda m: m.pop("format_version"), "format_version is None"),
        (lambda m: m.update(store_id="x"), "store_id is not 32 hexadecimal digits"),
        (lambda m: m.update(layout="rows"), "layout is neither"),
        (lambda m: m.update(layout="windows"), "window_starts.npy.* is missing"),
        (lambda m: m.update(window_length=0), "window_length is 0"),
        (lambda m: m.update(features=[]), "features is empty"),
        (
            lambda m: m["features"].append({"name": "more", "low": None, "high": None}),
            "features.npy.*the rest of the metadata give",
        ),
        (lambda m: m["features"][0].update(name=3), r"features\[0\].name is a int"),
        (lambda m: m["features"][0].update(low="0"), r"features\[0\].low is a str"),
        (lambda m: m.pop("parameters"), "parameters is missing"),
        (lambda m: m.update(sources={}), "sources is a dict"),
        (lambda m: m["files"].pop("valid.npy"), "files lists .*; this layout has .* valid.npy"),
        (lambda m: m["files"].update({"more.npy": {}}), "files lists .* more.npy"),
        (lambda m: m["files"].update({"timestamps.npy": 3}), "timestamps.npy.* is a int"),
        (set_file("features.npy", dtype="<f8"), "'features.npy'.*the rest of the metadata give"),
        (set_file("features.npy", shape=[160, 3.0]), "'features.npy'.*the rest of the metadata give"),
        (set_file("features.npy", bytes=10), "'features.npy'.*the rest of the metadata give"),
        (set_file("features.npy", more=1), "'features.npy'.*the rest of the metadata give"),
        (set_file("timestamps.npy", shape=[1 << 62]), "the rest of the metadata give|segments end"),
        (set_file("timestamps.npy", shape=[-160]), "timestamps.npy.* whole number"),
        (set_file("timestamps.npy", shape=[]), "timestamps.npy.* is empty"),
        (set_file("splits.json", bytes="many"), "splits.json.*bytes is 'many'"),
        (lambda m: m["segments"].pop(), "segments end at row 120, but there are 160"),
        (set_segment(1, first_row=121), "should begin at 120"),
        (set_segment(1, last_row=160), "end before 160"),
        (set_segment(0, first_valid=120), "first_valid is 120, outside"),
        (set_segment(0, first_timestamp=True), "wrong type"),
        (set_segment(0, symbol=None), "wrong type"),
        (set_segment(0, last_timestamp=1 << 80), "wrong type"),
        (set_segment(0, last_timestamp=0), "do not ascend"),
        (set_segment(0, more=0), "does not have symbol, first_row"),
        (lambda m: m["segments"].append(3), "does not have symbol, first_row"),
    ],
)
def test_metadata_that_contradict_themselves_are_refused(path, change, message):
    edit(path, change)
    refused(path, "metadata.json", message)


def test_metadata_that_are_no_object_are_refused(path):
    for text in ("[]", "3", "null", '"x"'):
        (path / "metadata.json").write_text(text)
        refused(path, "metadata.json", "it is")


def test_nothing_is_unpickled(path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(path.parent / "executed"),)

    np.save(path / "features.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    refused(path, "features.npy", "bytes")
    size = 128 + 160 * 3 * 4
    data = (path / "features.npy").read_bytes()
    (path / "features.npy").write_bytes(data.ljust(size, b"\0"))
    refused(path, "features.npy", "header")
    assert not (path.parent / "executed").exists()


def test_a_list_of_hashes_names_every_other_file(path):
    hashes = parse_checksums((path / "checksums.b3").read_bytes())
    for change in ({"bars.npy": None}, {"more.npy": "0" * 64}, {"checksums.b3": "0" * 64}):
        changed = {file: known for file, known in (hashes | change).items() if known is not None}
        (path / "checksums.b3").write_bytes(dump_checksums(changed))
        refused(path, "checksums.b3", "it does not list every other file")


# The text files


def test_checksums_are_strict():
    a, b = "a" * 64, "b" * 64
    data = f"{a}  bars.npy\n{b}  valid.npy\n".encode()
    assert parse_checksums(data) == {"bars.npy": a, "valid.npy": b}
    assert dump_checksums({"valid.npy": b, "bars.npy": a}) == data
    for bad in (
        data[:-1],
        data + b"\n",
        data.upper(),
        data.replace(b"  ", b" *"),
        data.replace(b"\n", b"\r\n"),
        data.replace(b"bars", b"../x"),
        data + data,
        b"".join(reversed(data.splitlines(keepends=True))),
        data.replace(b"bars", b"b\xc3\xa4rs"),
        data[1:],
    ):
        with pytest.raises(ValueError, match=r"line \d|its lines"):
            parse_checksums(bad)


def test_headers_equal_those_of_numpy(tmp_path):
    for array in (
        np.zeros((3, 10), np.float32),
        np.zeros(7, bool),
        np.zeros(0, np.int64),
        np.zeros((1, 4)),
        np.zeros((2, 105, 12), np.float32),
    ):
        np.save(tmp_path / "x.npy", array)
        header = moola._core.npy_header(array.dtype.str, array.shape)
        assert (tmp_path / "x.npy").read_bytes()[:128] == header
    for descr, shape in [("<f4", (1, 2, 3, 4)), ("object", (1,))]:
        with pytest.raises(ValueError, match="plain numbers and at most three dimensions"):
            moola._core.npy_header(descr, shape)
    with pytest.raises(moola.errors.ConfigError, match="larger than any file"):
        moola._core.npy_header("<f4", ((1 << 64) - 1,) * 3)


def test_rows_that_a_file_does_not_have_are_an_error(tmp_path):
    (tmp_path / "bars.npy").write_bytes(moola._core.npy_header("<f8", (10, 4)) + bytes(320))
    for segments in ([(5, 10)], [(0, 5), (6, 5)], [(0, 5), (4, 5)], [(0, 1), (1, (1 << 64) - 1)]):
        with pytest.raises(ValueError, match="segments must follow one another from row 0 on"):
            moola._core.verify_features(tmp_path, segments, "ohlc4", None, 1)
    (tmp_path / "timestamps.npy").write_bytes(moola._core.npy_header("<i8", (10,)) + bytes(80))
    for each, symbols in ((False, 1), (True, 2)):
        counted = moola._core.count_steps(tmp_path / "timestamps.npy", 10, [0, 5], of_each_symbol=each)
        assert counted == ([(0, 0, 0, 0, 0)] * symbols, 0)
    for firsts in ([5, 0], [0, 11]):
        with pytest.raises(ValueError, match="firsts must ascend"):
            moola._core.count_steps(tmp_path / "timestamps.npy", 10, firsts)


def test_hash_file_takes_paths_and_handles(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert moola._core.hash_file(tmp_path / "x") == empty
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        assert moola._core.hash_file("x", dir_fd=directory) == empty
        with pytest.raises(FileNotFoundError, match="none"):
            moola._core.hash_file("none", dir_fd=directory)
    finally:
        os.close(directory)
    with pytest.raises(OSError, match="Bad file descriptor"):
        moola._core.hash_file("x", dir_fd=directory)
    with pytest.raises(ValueError, match="dir_fd must be an open directory"):
        moola._core.hash_file("x", dir_fd=-1)


def test_a_hundred_thousand_segments_open(tmp_path):
    build(tmp_path / "store", lengths=[11] * 100_000, width=1).close()
    # Processor time: other tests run beside this one.
    begin = time.process_time()
    with FeatureStore.open(tmp_path / "store") as store:
        took = time.process_time() - begin
        assert len(store.segments) == 100_000
    assert took < 5, f"{took:.2f} s"
