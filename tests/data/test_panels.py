"""Panels: many symbols, many segments and many windows as one dataset, and no bar in two splits."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections import Counter
from datetime import date, timedelta
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_store import MINUTE, START

import moola
from moola import FastWindowedDataset, _core
from moola.data.fast_windowed_loader import create_fast_dataloaders
from moola.errors import ConfigError, InputError
from moola.files.json import write_json
from moola.splits import NAMES, Segment, assert_no_shared_bars
from moola.store import FeatureStore
from moola.store.layout import METADATA, SPLITS, arrays_of

K = 30
SIZES = {"SIM1": 3_000, "SIM2": 1_000, "SIM3": 2_000}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Bars of three symbols; one has more bars than another."""
    path = tmp_path_factory.mktemp("bars") / "bars.parquet"
    moola.make_bars(path, max(SIZES.values()), seed=2, symbols=3)
    table = pq.read_table(path)
    parts = [table.filter(pc.equal(table["symbol"], name)).slice(0, n) for name, n in SIZES.items()]
    return pa.concat_tables(parts)


@pytest.fixture(scope="module")
def panel(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    path = tmp_path_factory.mktemp("panel") / "store"
    return moola.build_features(table, path, window_length=K, stamp="open", reset_on_gap="4h")


def symbols_of(dataset: FastWindowedDataset, numbers: np.ndarray) -> np.ndarray:
    """The symbol of each window, from the segment of its first bar."""
    places = dataset.places(numbers)
    names = np.empty(len(numbers), object)
    for i, store in enumerate(dataset.stores):
        first = np.array([segment.first_row for segment in store.segments])
        segment = np.searchsorted(first, places.row, side="right") - 1
        here = places.store == i
        names[here] = [store.segments[s].symbol for s in segment[here]]
    return names


def served(loader, of: dict[bytes, int]) -> list[int]:
    """The numbers of the windows that an epoch serves, identified by their bytes."""
    return [of[row.numpy().tobytes()] for x, _, _ in loader for row in x]


def numbers_by_bytes(dataset: FastWindowedDataset) -> dict[bytes, int]:
    x, _, _ = dataset.batch(range(len(dataset)))
    of = {row.numpy().tobytes(): i for i, row in enumerate(x)}
    assert len(of) == len(dataset), "two windows look alike"
    return of


def test_a_panel_is_one_dataset(panel):
    dataset = FastWindowedDataset(panel.path)
    assert dataset.symbols == list(SIZES)
    names = symbols_of(dataset, np.arange(len(dataset)))
    assert set(names) == set(SIZES)
    places = dataset.places(np.arange(len(dataset)))
    x, _, _ = dataset.batch(np.arange(len(dataset)))
    for i in range(0, len(dataset), 17):
        row = places.row[i]
        assert np.array_equal(x[i], panel.features[row : row + K])
        assert places.last_timestamp[i] == panel.timestamps[row + K - 1]


@pytest.mark.parametrize(
    "weights",
    [
        {"SIM1": 1, "SIM2": 1, "SIM3": 1},
        {"SIM1": 0.5, "SIM2": 6, "SIM3": 0},
        {"SIM1": 0, "SIM2": 1, "SIM3": 0},
    ],
)
@pytest.mark.parametrize("stores", [1, 2])
def test_symbols_have_their_given_share(panel, weights, stores):
    """For one store, and for the same store twice, where each symbol has twice the windows."""
    paths = [panel.path] * stores
    loader = create_fast_dataloaders(paths, 50, seed=4, weights=weights).train
    dataset = FastWindowedDataset(panel.path)
    of, names = numbers_by_bytes(dataset), symbols_of(dataset, np.arange(len(dataset)))
    total = len(loader.dataset)
    assert total == stores * len(dataset)
    epochs = [served(loader, of) for _ in range(2)]
    assert epochs[0] != epochs[1]
    for numbers in epochs:
        assert len(numbers) == total // 50 * 50
        counts = Counter(names[numbers])
        windows = Counter(numbers)
        for name, weight in weights.items():
            # Up to 49 windows of an epoch are in the dropped batch.
            share = total * weight / sum(weights.values())
            assert share - 51 <= counts[name] <= share + 1
            # A symbol with more share than windows serves all of them before it repeats any.
            times = [windows[i] for i in np.flatnonzero(names == name)]
            most = -(-share // len(times))
            assert max(times) <= most + (stores - 1)
            if share >= len(times):
                assert times.count(0) < 50


def test_a_state_of_a_weighted_panel_continues(panel):
    options = {"batch_size": 64, "weights": {"SIM1": 1, "SIM2": 3, "SIM3": 2}}
    loader = create_fast_dataloaders(panel.path, seed=1, **options).train
    whole = list(loader)
    loader.set_epoch(0)
    batches = iter(loader)
    for _ in range(7):
        next(batches)
    other = create_fast_dataloaders(panel.path, seed=2, **options).train
    other.load_state_dict(json.loads(json.dumps(loader.state_dict())))
    rest = list(other)
    assert len(rest) == len(whole) - 7
    assert all(
        torch.equal(a, b)
        for one, two in zip(rest, whole[7:], strict=True)
        for a, b in zip(one, two, strict=True)
    )


def test_symbols_without_weight_are_named(panel):
    with pytest.raises(ConfigError, match="'SIM3' has no weight"):
        create_fast_dataloaders(panel.path, weights={"SIM1": 1, "SIM2": 1})


@pytest.mark.parametrize("scale", [1e308, 5e-324])
def test_only_the_ratio_of_weights_matters(panel, scale):
    def served(weights):
        loader = create_fast_dataloaders(panel.path, 64, seed=3, weights=weights).train
        return loader._order.numbers(0, 0, 0, 4)

    plain = served({"SIM1": 1, "SIM2": 1, "SIM3": 1})
    assert served({"SIM1": scale, "SIM2": scale, "SIM3": scale}).tolist() == plain.tolist()


@pytest.mark.parametrize("weight", [10**400, "2", None, float("inf"), float("nan"), -1])
def test_weights_that_are_not_numbers_are_refused(panel, weight):
    with pytest.raises(ConfigError, match=r"weights: 'SIM2' has .*; give finite numbers from 0 on"):
        create_fast_dataloaders(panel.path, weights={"SIM1": 1, "SIM2": weight, "SIM3": 1})


def test_a_panel_and_one_store_per_symbol_serve_the_same(table, panel, tmp_path):
    """A mask depends on symbol and time, and not on the window's store."""
    whole = FastWindowedDataset(panel.path, mask_ratio=0.3, seed=8)
    masks = {}
    names, places = symbols_of(whole, np.arange(len(whole))), whole.places(np.arange(len(whole)))
    _, mask, _ = whole.batch(np.arange(len(whole)))
    for name, time, row in zip(names, places.last_timestamp, mask, strict=True):
        masks[name, int(time)] = row
    paths = []
    for name in SIZES:
        bars = table.filter(pc.equal(table["symbol"], name))
        options = {"window_length": K, "stamp": "open", "reset_on_gap": "4h", "split": (1, 0, 0)}
        paths.append(moola.build_features(bars, tmp_path / name, **options).path)
    parts = FastWindowedDataset(paths, mask_ratio=0.3, seed=8)
    assert parts.symbols == list(SIZES)
    numbers = np.arange(0, len(parts), 7)
    names, places = symbols_of(parts, numbers), parts.places(numbers)
    _, mask, _ = parts.batch(numbers)
    found = 0
    for name, time, row in zip(names, places.last_timestamp, mask, strict=True):
        # All bars are in train here, and so there are windows that the panel does not have.
        if (name, int(time)) in masks:
            assert torch.equal(row, masks[name, int(time)])
            found += 1
    assert found > 300


# Splits

HOUR = 60 * MINUTE
DAY = date(2024, 3, 1)


def hourly(symbols: list[list[tuple[int, int]]], begin: int) -> pa.Table:
    """Flat bars; each symbol in stretches of (hours missing before it, bars)."""
    times, names = [], []
    midnight = int(np.datetime64(DAY, "ns").astype(np.int64))
    for k, stretches in enumerate(symbols):
        at = midnight + begin * HOUR
        for gap, bars in stretches:
            at += gap * HOUR
            times += range(at, at + bars * HOUR, HOUR)
            names += [f"S{k}"] * bars
            at += bars * HOUR
    columns = dict.fromkeys(("open", "high", "low", "close"), pa.array(np.full(len(times), 100.0)))
    stamps = pa.array(times, pa.timestamp("ns", "UTC"))
    return pa.table({"timestamp": stamps, "symbol": pa.array(names)} | columns)


CUTS = st.one_of(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
    .map(sorted)
    .map(
        lambda days: {
            name: DAY + timedelta(days=day)
            for name, day in zip(("train_end", "val_end", "test_end"), days, strict=True)
        }
    ),
    st.lists(st.integers(0, 10), min_size=3, max_size=3)
    .filter(lambda shares: sum(shares) > 0)
    .map(lambda shares: {"split": [share / sum(shares) * (1 - 1e-9) for share in shares]}),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    symbols=st.lists(
        st.lists(st.tuples(st.integers(0, 60), st.integers(1, 120)), min_size=1, max_size=3),
        min_size=1,
        max_size=3,
    ),
    begin=st.integers(0, 23),
    cuts=CUTS,
    embargo=st.integers(0, 30),
    length=st.integers(1, 20),
    other=st.integers(1, 40),
    stride=st.integers(1, 5),
    zone=st.sampled_from(["UTC", "America/New_York", "Asia/Tokyo"]),
    reset=st.sampled_from([None, "4h"]),
)
def test_no_bar_is_in_two_splits(symbols, begin, cuts, embargo, length, other, stride, zone, reset):
    """For any dates or shares, gaps, symbols, embargo and K, including a K other than the store's."""
    # Here, because all examples would share a fixture's directory.
    with TemporaryDirectory() as folder:
        options = {"feature_set": "ohlc4", "config": {"warmup_bars": 2}, "stamp": "open", "tz": zone}
        try:
            store = moola.build_features(
                hourly(symbols, begin),
                Path(folder) / "store",
                window_length=length,
                embargo=embargo,
                reset_on_gap=reset,
                **cuts,
                **options,
            )
        except InputError:
            return
        for k in (length, other):
            used, starts, owner = {}, [], []
            for split in NAMES:
                dataset = FastWindowedDataset(store.path, split, window_length=k, stride=stride)
                rows = dataset.places(range(len(dataset))).row
                starts += rows.tolist()
                owner += [split] * len(rows)
                used[split] = set((rows[:, None] + np.arange(k)).ravel().tolist())
            for one, two in combinations(NAMES, 2):
                assert not used[one] & used[two]
            # The project's own check says the same, in time: at no moment do two splits both have a bar.
            starts, owner = np.array(starts, np.int64), np.array(owner)
            for one, two in combinations(NAMES, 2):
                train, test = np.flatnonzero(owner == one), np.flatnonzero(owner == two)
                if len(train) and len(test):
                    assert_no_shared_bars(starts, starts + k - 1, train, test, times=store.timestamps)
            # Between the last bar of one split and the first of a later one, each symbol drops the embargo's bars.
            for segment_symbol in {segment.symbol for segment in store.segments}:
                own = [
                    row
                    for segment in store.segments
                    if segment.symbol == segment_symbol
                    for row in range(segment.first_row, segment.last_row + 1)
                ]
                for one, two in combinations(NAMES, 2):
                    before = [i for i, row in enumerate(own) if row in used[one]]
                    after = [i for i, row in enumerate(own) if row in used[two]]
                    if before and after:
                        assert min(after) - max(before) > embargo
        store.close()


# Many windows

SEGMENTS, LONG, SYMBOLS = 100_000, 10_104, 100

MANY = """
import json, sys
from resource import RLIMIT_DATA, setrlimit
from time import perf_counter
import numpy as np, torch
from moola.data.fast_windowed_loader import create_fast_dataloaders

with open("/proc/self/status") as status:
    data = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:"))
# Own memory only: maps of files do not count.
setrlimit(RLIMIT_DATA, (data + int(sys.argv[3]),) * 2)
weights = {f"S{k:02}": k % 3 for k in range(int(sys.argv[2]))}
started = perf_counter()
# Few windows: each has its own pages to read.
plain = create_fast_dataloaders(sys.argv[1], 16, seed=0).train
opened = perf_counter() - started
weighed = create_fast_dataloaders(sys.argv[1], 16, seed=0, weights=weights).train
started = perf_counter()
for loader in (plain, weighed):
    batches = iter(loader)
    for _ in range(4):
        x, _, _ = next(batches)
        assert x.shape == (16, 105, 1)
    del batches
served = perf_counter() - started
started = perf_counter()
numbers = [loader._order.numbers(0, 0, 0, 1600) for loader in (plain, weighed)]
drawn = perf_counter() - started
some = np.concatenate([numbers[0][:50], numbers[1][:50]])
last = plain.dataset.batch([len(plain.dataset) - 1])
print(json.dumps({
    "windows": len(plain.dataset), "opened": opened, "served": served, "drawn": drawn,
    "numbers": [these.tolist() for these in numbers],
    "some": some.tolist(), "rows": plain.dataset.places(some).row.tolist(),
    "last": last[0].flatten().tolist(), "masked": int(last[1].sum()),
}))
"""


@pytest.fixture(scope="module")
def vast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 100,000 segments and 10⁹ windows. Its files are mostly holes, which read as 0."""
    folder = tmp_path_factory.mktemp("vast")
    bars = SEGMENTS * LONG
    arrays = arrays_of("bars", bars=bars, width=1)
    for name, array in arrays.items():
        with open(folder / name, "wb") as file:
            file.write(array.header)
            file.truncate(array.nbytes)
            # The last window is filled with its own number.
            rows = {"features.npy": np.arange(105, dtype=np.float32), "valid.npy": np.ones(105, bool)}
            if name in rows:
                file.seek(array.nbytes - rows[name].nbytes)
                file.write(rows[name].tobytes())
    segments = []
    for i in range(SEGMENTS):
        row, time = i * LONG, START + i % (SEGMENTS // SYMBOLS) * (LONG + 60) * MINUTE
        segments.append(
            Segment(
                f"S{i // (SEGMENTS // SYMBOLS):02}", row, row + LONG - 1, time, time + (LONG - 1) * MINUTE,
                MINUTE, row + 100,
            )
        )  # fmt: skip
    splits = {
        name: {"ranges": ranges, "bars": sum(b - a for a, b in ranges), "windows": windows}
        for name, ranges, windows in [("train", [[0, bars]], 10**9), ("val", [], 0), ("test", [], 0)]
    }
    record = {"method": "fractions", "purge": 104, "embargo": 0, "boundaries": [], "splits": splits}
    files = {name: array.record() for name, array in arrays.items()}
    files[SPLITS] = {"bytes": write_json(folder / SPLITS, record)}
    write_json(
        folder / METADATA,
        {
            "format_version": 1,
            "store_id": uuid.uuid4().hex,
            "moola_version": _core.__version__,
            "created": "2025-01-01T00:00:00Z",
            "feature_set": "made_up",
            "features": [{"name": "f0", "low": 0, "high": 1.0}],
            "parameters": {},
            "window_length": 105,
            "layout": "bars",
            "files": files,
            "segments": [segment._asdict() for segment in segments],
            "sources": [],
            "read_options": {"keep": []},
            "quality": {},
            "timings": {},
            "known_after": {},
        },
    )
    # No hash of the 45 GB of holes is taken: opening does not read them.
    (folder / "checksums.b3").write_text(
        "".join(f"{0:064x}  {name}\n" for name in sorted([*arrays, METADATA, SPLITS]))
    )
    return folder


def test_a_billion_windows_in_a_hundred_thousand_segments_fit_in_memory(vast):
    """Memory does not grow with the windows: one byte for each would be a gigabyte, which is over the limit."""
    result = subprocess.run(
        [sys.executable, "-c", MANY, vast, str(SYMBOLS), str(700_000_000)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["windows"] == 10**9
    # Generous, for a busy machine: opening takes 1 s, drawing 51,200 numbers 10 ms.
    assert found["opened"] < 30, f"{found['opened']:.1f} s"
    assert found["drawn"] < 2, f"{found['drawn']:.1f} s"
    assert found["served"] < 30, f"{found['served']:.1f} s"
    assert found["last"] == list(range(105))
    assert found["masked"] == 15
    # 10,000 windows per segment, so that none crosses into the next.
    some = np.array(found["some"])
    assert found["rows"] == (some // 10_000 * LONG + some % 10_000).tolist()
    plain, weighed = map(np.array, found["numbers"])
    assert len(np.unique(plain)) == len(plain) == len(weighed) == 25_600
    assert plain.min() >= 0
    assert plain.max() < 10**9
    # Each symbol has its share of an epoch.
    each = 10_000 * (SEGMENTS // SYMBOLS)
    for numbers, weights in ((plain, np.ones(SYMBOLS)), (weighed, np.arange(SYMBOLS) % 3)):
        expected = 25_600 * weights / weights.sum()
        assert (
            abs(np.bincount(numbers // each, minlength=SYMBOLS) - expected) <= 5 * np.sqrt(expected)
        ).all()
