"""FastWindowedDataset: every window equals a slice, and every way of reading gives the same."""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mask_oracle import expected_mask
from scipy.stats import chi2
from tiny_store import build, write_hashes
from torch.utils.data import DataLoader

import moola
import moola.errors
from moola import FastWindowedDataset
from moola.data.batches import WindowBatch
from moola.errors import ConfigError, DamagedStoreError, StaleStoreError, StoreMissingError
from moola.files.json import write_json
from moola.splits import window_starts
from moola.store import FeatureStore

LENGTHS = (300, 9, 150)
K = 10


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same bars in both layouts."""
    folder = tmp_path_factory.mktemp("stores")
    for layout in ("bars", "windows"):
        build(folder / layout, lengths=LENGTHS, extra=3, layout=layout, window_length=K).close()
    return {layout: folder / layout for layout in ("bars", "windows")}


@pytest.fixture(params=["bars", "windows"])
def path(request, stores) -> Path:
    return stores[request.param]


def everything(loader) -> tuple[torch.Tensor, ...]:
    return tuple(map(torch.cat, zip(*loader, strict=True)))


def equal(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# Windows


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("stride", [1, 3, 52])
@pytest.mark.parametrize("extra", [(), ("kept2", "kept0")])
def test_every_window_is_a_slice(stores, path, split, stride, extra):
    dataset = FastWindowedDataset(path, split, stride=stride, extra=extra, seed=5)
    with FeatureStore.open(stores["bars"]) as store:
        starts = window_starts(store, store.splits[split].ranges, K, stride)
        assert len(dataset) == len(starts) > 0
        columns = [store.extra_names.index(name) for name in extra]
        x, mask, valid = dataset.batch(range(len(dataset)))
        assert (x.dtype, mask.dtype, valid.dtype) == (torch.float32, torch.bool, torch.bool)
        assert x.shape == (len(starts), K, 3 + len(extra))
        assert mask.shape == valid.shape == (len(starts), K)
        places = dataset.places(range(len(dataset)))
        assert places.row.tolist() == starts.tolist()
        assert set(places.store.tolist()) == {0}
        for i, start in enumerate(starts):
            rows = slice(start, start + K)
            wanted = np.concatenate([store.features[rows], store.extra[rows][:, columns]], axis=1)
            assert np.array_equal(x[i], wanted)
            assert np.array_equal(valid[i], store.valid[rows])
            last = int(store.timestamps[start + K - 1])
            assert places.last_timestamp[i] == last
            options = {"seed": 5, "epoch": 0, "symbol": "", "time": last, "ratio": 0.15}
            assert np.array_equal(mask[i], expected_mask(store.valid[rows], **options))
    assert dataset.feature_names == ("f0", "f1", "f2", *extra)


@pytest.mark.parametrize("length", [1, 9, 50, 149])
def test_any_length_is_served_from_rows(stores, length):
    dataset = FastWindowedDataset(stores["bars"], "train", window_length=length)
    with FeatureStore.open(stores["bars"]) as store:
        starts = window_starts(store, store.splits["train"].ranges, length)
        assert len(dataset) == len(starts)
        x, mask, valid = dataset.batch(range(len(dataset)))
        for i, start in enumerate(starts):
            assert np.array_equal(x[i], store.features[start : start + length])
    assert torch.equal(mask.sum(1), torch.tensor([math.floor(0.15 * int(n)) for n in valid.sum(1)]))
    assert not (mask & ~valid).any()


def test_items_are_rows_of_batches(path):
    dataset = FastWindowedDataset(path)
    batch = dataset.batch([4, 0, -1, 4])
    for i, number in enumerate([4, 0, len(dataset) - 1, 4]):
        assert equal(dataset[number], [tensor[i] for tensor in batch])
    assert equal(dataset[-1], dataset[len(dataset) - 1])
    assert isinstance(dataset[0], tuple)
    assert dataset[np.int64(3)][0].shape == (K, 3)
    for bad in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError, match="there is no window"):
            dataset[bad]
        with pytest.raises(IndexError, match="there is no window"):
            dataset.places([bad])
    assert [tensor.shape[0] for tensor in dataset.batch([])] == [0, 0, 0]
    # Otherwise a flag per window would be read as windows 0 and 1.
    for bad in ([0.5], [True, False], torch.ones(len(dataset), dtype=torch.bool), [[1, 2]], 3, ["1"]):
        with pytest.raises(TypeError, match="whole numbers"):
            dataset.batch(bad)
    for bad in (1.5, slice(0, 3), "1"):
        with pytest.raises(TypeError):
            dataset[bad]


def test_a_batch_belongs_to_its_caller(path):
    dataset = FastWindowedDataset(path)
    one = dataset.batch([0, 1])
    kept = [tensor.clone() for tensor in one]
    two = dataset.batch([2, 3])
    assert equal(one, kept)
    one[0].zero_()
    assert not (two[0] == 0).all()
    assert equal(dataset.batch([0, 1]), kept)


def test_several_stores_are_one_dataset(tmp_path, stores):
    build(tmp_path / "other", lengths=(200,), extra=3, window_length=K).close()
    paths = [stores["bars"], tmp_path / "other", stores["windows"]]
    dataset = FastWindowedDataset(paths, extra=["kept1"])
    parts = [FastWindowedDataset(path, extra="kept1") for path in paths]
    assert len(dataset) == sum(map(len, parts))
    whole = dataset.batch(range(len(dataset)))
    assert equal(whole, everything(part.batch(range(len(part))) for part in parts))
    assert np.unique(dataset.places(range(len(dataset))).store).tolist() == [0, 1, 2]
    mixed = np.random.default_rng(0).permutation(len(dataset))[:50]
    assert equal(dataset.batch(mixed), [tensor[torch.from_numpy(mixed)] for tensor in whole])


# Masks


@pytest.mark.parametrize("strategy", ["random", "patch"])
@pytest.mark.parametrize("ratio", [0, 0.15, 0.5, 1])
def test_mask_counts_are_exact_and_only_valid_positions_are_masked(path, strategy, ratio):
    dataset = FastWindowedDataset(path, mask_ratio=ratio, mask_strategy=strategy, patch_size=3)
    _, mask, valid = dataset.batch(range(len(dataset)))
    assert mask.sum(1).tolist() == [math.floor(ratio * n) for n in valid.sum(1).tolist()]
    assert not (mask & ~valid).any()
    if ratio == 1:
        assert torch.equal(mask, valid)


def test_positions_are_masked_equally_often(stores):
    """Chi-square over the positions of all windows in many epochs, with `random`."""
    dataset = FastWindowedDataset(stores["bars"], window_length=40, mask_ratio=0.2, seed=11)
    _, _, valid = dataset.batch(range(len(dataset)))
    whole = np.flatnonzero(valid.all(1))
    epochs, counts = 60, np.zeros(40)
    for epoch in range(epochs):
        dataset.set_epoch(epoch)
        counts += dataset.batch(whole)[1].sum(0).numpy()
    drawn = epochs * len(whole)
    assert drawn > 10_000
    # 8 of 40 without putting back: positions are negatively correlated, which (K − 1)/K makes up for.
    statistic = ((counts - drawn / 5) ** 2).sum() / (drawn / 5 * 4 / 5) * 39 / 40
    assert 1e-3 < chi2.sf(statistic, 39) < 1 - 1e-3


def test_patches_are_runs(stores):
    dataset = FastWindowedDataset(
        stores["bars"], window_length=100, mask_ratio=0.25, mask_strategy="patch", patch_size=10
    )
    _, mask, _ = dataset.batch(range(50, len(dataset)))
    edges = torch.diff(mask.int(), dim=1, prepend=torch.zeros(len(mask), 1), append=torch.zeros(len(mask), 1))
    for row in edges:
        runs = (torch.nonzero(row == -1) - torch.nonzero(row == 1)).flatten().tolist()
        # 25 in runs of 10, 10 and 5, which may touch.
        assert sorted(runs) in ([5, 10, 10], [10, 15], [5, 20], [25])


def test_epochs_change_only_the_masks_of_train(path):
    train, val = FastWindowedDataset(path, seed=3), FastWindowedDataset(path, "val", seed=3)
    first = train.batch(range(20))
    train.set_epoch(1)
    second = train.batch(range(20))
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])
    train.set_epoch(0)
    assert equal(train.batch(range(20)), first)
    before = val.batch(range(20))
    val.set_epoch(7)
    assert (val.epoch, train.epoch) == (0, 0)
    assert equal(val.batch(range(20)), before)
    for bad in (-1, 1.5, True, 1 << 63):
        with pytest.raises(ConfigError, match="epoch"):
            train.set_epoch(bad)


def test_a_missing_seed_is_drawn_and_reported(path):
    one, two = FastWindowedDataset(path, seed=None), FastWindowedDataset(path, seed=None)
    assert one.seed != two.seed
    assert f"seed {one.seed}>" in repr(one)
    again = FastWindowedDataset(path, seed=one.seed)
    assert equal(again.batch(range(9)), one.batch(range(9)))
    assert not torch.equal(two.batch(range(99))[1], one.batch(range(99))[1])
    assert equal(pickle.loads(pickle.dumps(one)).batch(range(9)), one.batch(range(9)))


# DataLoader


@pytest.mark.parametrize(
    ("workers", "context", "collate"),
    [
        (0, None, None),
        (0, None, FastWindowedDataset.collate),
        (1, "fork", None),
        (2, "fork", FastWindowedDataset.collate),
        (2, "spawn", FastWindowedDataset.collate),
        (1, "spawn", None),
    ],
)
def test_all_loaders_serve_the_same(stores, workers, context, collate):
    dataset = FastWindowedDataset(stores["bars"], mask_ratio=0.3)
    dataset.set_epoch(2)
    wanted = dataset.batch(range(len(dataset)))
    options = {"num_workers": workers, "multiprocessing_context": context, "collate_fn": collate}
    assert equal(everything(DataLoader(dataset, batch_size=37, **options)), wanted)
    order = torch.randperm(len(dataset)).tolist()
    shuffled = everything(DataLoader(dataset, batch_size=64, sampler=order, **options))
    assert equal(shuffled, [tensor[order] for tensor in wanted])


def test_collate_returns_the_batch_without_a_copy(path):
    dataset = FastWindowedDataset(path)
    batch = dataset.__getitems__([1, 2, 3])
    assert isinstance(batch, WindowBatch)
    assert len(batch) == 3
    assert FastWindowedDataset.collate(batch) is batch.tensors
    assert equal(FastWindowedDataset.collate([dataset[1], dataset[2]]), dataset.batch([1, 2]))
    for items in (list(batch), [batch[i] for i in range(3)], list(batch[0:3])):
        assert all(equal(item, dataset[i]) for item, i in zip(items, [1, 2, 3], strict=True))
    assert batch[0][0].data_ptr() == batch.tensors[0].data_ptr()
    with pytest.raises(IndexError):
        _ = batch[3]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_that_persist_learn_of_a_new_epoch(stores, context):
    dataset = FastWindowedDataset(stores["bars"])
    loader = DataLoader(
        dataset,
        batch_size=50,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context=context,
        collate_fn=FastWindowedDataset.collate,
    )
    for epoch in (0, 1, 5):
        dataset.set_epoch(epoch)
        assert equal(everything(loader), dataset.batch(range(len(dataset))))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_replaced_store_is_stale_in_workers(tmp_path, context):
    build(tmp_path / "store").close()
    dataset = FastWindowedDataset(tmp_path / "store")
    before = dataset.batch(range(20))
    build(tmp_path / "store", overwrite=True, fill=0.5).close()
    # A process that has it open keeps the old bytes.
    assert equal(dataset.batch(range(20)), before)
    loader = DataLoader(dataset, batch_size=20, num_workers=1, multiprocessing_context=context)
    with pytest.raises(StaleStoreError, match="another store has been published"):
        next(iter(loader))
    with pytest.raises(StaleStoreError, match="another store has been published"):
        pickle.loads(pickle.dumps(dataset))[0]


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda path: os.truncate(path / "features.npy", 500), DamagedStoreError),
        (lambda path: (path / "valid.npy").unlink(), DamagedStoreError),
        (lambda path: path.rename(path.with_name("elsewhere")), StoreMissingError),
    ],
)
def test_damage_in_a_worker_raises_the_stores_error(tmp_path, damage, error):
    build(tmp_path / "store").close()
    dataset = FastWindowedDataset(tmp_path / "store")
    damage(tmp_path / "store")
    with pytest.raises(error) as caught:
        FastWindowedDataset(tmp_path / "store")
    assert caught.value.path == tmp_path / "store"
    loader = DataLoader(dataset, batch_size=4, num_workers=1, multiprocessing_context="fork")
    with pytest.raises(error, match=str(tmp_path)):
        next(iter(loader))


KILLED = """
import os, signal, sys
from torch.utils.data import DataLoader
from moola import FastWindowedDataset

dataset = FastWindowedDataset(sys.argv[1])
batches = iter(DataLoader(dataset, num_workers=1, prefetch_factor=2, multiprocessing_context="fork"))
next(batches)
os.kill(batches._workers[0].pid, signal.SIGKILL)
print(sum(1 for _ in batches), "more were served")
"""


def test_a_killed_worker_is_an_error_and_not_a_hang(stores):
    # In a separate process, because torch raises at an arbitrary place when it notices the death.
    command = [sys.executable, "-c", KILLED, stores["bars"]]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.stdout == ""
    # If it dies while it passes a batch, the other end of the connection notices first.
    death = (
        r"RuntimeError: DataLoader worker .* (exited unexpectedly|is killed)|ConnectionResetError|EOFError"
    )
    assert re.search(death, result.stderr)


def test_a_fork_reads_independently(stores):
    """A child's use of the dataset does not affect the parent."""
    dataset = FastWindowedDataset(stores["bars"])
    wanted = dataset.batch([0, 5])
    child = os.fork()
    if child == 0:
        os._exit(0 if equal(dataset.batch([0, 5]), wanted) and dataset.stores[0].features.size else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert equal(dataset.batch([0, 5]), wanted)


# Refusals


@pytest.mark.parametrize(
    ("options", "name", "message"),
    [
        ({"split": "training"}, "split", "give train, val, test"),
        ({"stride": 0}, "stride", "from 1"),
        ({"stride": 1.5}, "stride", "from 1"),
        ({"window_length": 0}, "window_length", "from 1"),
        ({"window_length": True}, "window_length", "from 1"),
        ({"mask_ratio": -0.1}, "mask_ratio", "from 0 to 1"),
        ({"mask_ratio": 1.01}, "mask_ratio", "from 0 to 1"),
        ({"mask_ratio": math.nan}, "mask_ratio", "from 0 to 1"),
        ({"mask_ratio": "all"}, "mask_ratio", "from 0 to 1"),
        ({"mask_strategy": "block"}, "mask_strategy", "give random or patch"),
        ({"patch_size": 0}, "patch_size", "from 1"),
        ({"seed": -1}, "seed", "from 0"),
        ({"seed": 1 << 63}, "seed", "2⁶³"),
        ({"extra": ["volume"]}, "extra", "it has kept0, kept1, kept2; build with --keep"),
        ({"feature_dir": []}, "feature_dir", "give a feature store"),
    ],
)
def test_wrong_arguments_are_refused_by_name(stores, options, name, message):
    with pytest.raises(ConfigError, match=message) as caught:
        FastWindowedDataset(**({"feature_dir": stores["bars"]} | options))
    assert caught.value.name == name


def test_stores_are_paths_or_open(stores):
    with FeatureStore.open(stores["bars"]) as store:
        dataset = FastWindowedDataset([store, stores["bars"]])
    # The dataset keeps its own reference to the arrays.
    assert equal(dataset.batch([0]), dataset.batch([len(dataset) // 2]))
    assert equal(pickle.loads(pickle.dumps(dataset)).batch([0]), dataset.batch([0]))
    for bad in (None, 5, b"store", [stores["bars"], 5], {stores["bars"]: 1}):
        with pytest.raises(TypeError, match="feature_dir must be the path of a store"):
            FastWindowedDataset(bad)


def test_the_dense_layout_serves_only_its_length(stores):
    assert len(FastWindowedDataset(stores["windows"], window_length=K))
    with pytest.raises(ConfigError, match="windows of 10 bars, not 11; build with --layout bars"):
        FastWindowedDataset(stores["windows"], window_length=11)


def test_a_split_without_windows_is_empty(stores):
    for split in ("train", "val", "test"):
        # The longer one would need more memory than there is, if it needed any.
        for length in (400, 10**12):
            dataset = FastWindowedDataset(stores["bars"], split, window_length=length)
            assert len(dataset) == 0
            assert list(DataLoader(dataset, batch_size=8)) == []
            with pytest.raises(IndexError):
                dataset[0]
            x, mask, valid = dataset.batch([])
            assert (x.shape, mask.shape, valid.shape) == ((0, length, 3), (0, length), (0, length))


def test_stores_with_different_features_are_refused(tmp_path, stores):
    build(tmp_path / "wide", lengths=(200,), width=4).close()
    with pytest.raises(ConfigError, match=r"feature_names.*build them with the same features"):
        FastWindowedDataset([stores["bars"], tmp_path / "wide"])
    build(tmp_path / "long", lengths=(200,), window_length=20).close()
    with pytest.raises(ConfigError, match=r"defaults differ \(10, 20\); give one"):
        FastWindowedDataset([stores["bars"], tmp_path / "long"])
    assert FastWindowedDataset([stores["bars"], tmp_path / "long"], window_length=15).window_length == 15


def test_window_starts_that_are_not_the_segments_are_damage(tmp_path):
    build(tmp_path / "store", layout="windows").close()
    starts = np.load(tmp_path / "store" / "window_starts.npy")
    starts[3:] += 1
    np.save(tmp_path / "store" / "window_starts.npy", starts)
    write_hashes(tmp_path / "store")
    with pytest.raises(DamagedStoreError, match=r"window_starts.npy: its windows are not"):
        FastWindowedDataset(tmp_path / "store")


def test_kept_columns_without_names_are_damage(tmp_path):
    build(tmp_path / "store", extra=2).close()
    metadata = json.loads((tmp_path / "store" / "metadata.json").read_text())
    metadata["read_options"]["keep"] = ["volume"]
    (tmp_path / "store" / "metadata.json").unlink()
    write_json(tmp_path / "store" / "metadata.json", metadata)
    write_hashes(tmp_path / "store")
    with pytest.raises(DamagedStoreError, match="does not name the 2 columns"):
        FastWindowedDataset(tmp_path / "store", extra=["volume"])


# The package


def test_the_dataset_is_exported_by_moola():
    assert moola.FastWindowedDataset is FastWindowedDataset
    assert moola.data.FastWindowedDataset is FastWindowedDataset


def test_the_error_without_torch_names_the_package():
    code = """
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else find_spec(name, *rest)
import moola
moola.FeatureStream().push(100.0, 100.5, 99.5, 100.25)
for use in ("from moola import FastWindowedDataset", "import moola.data.dataset"):
    try:
        exec(use)
    except ImportError as error:
        print(error)
assert "torch" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert all("pip install 'torch" in line for line in lines)
