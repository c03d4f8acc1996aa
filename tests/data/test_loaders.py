"""The loaders: their batches, their order, and resuming in the middle of an epoch."""

from __future__ import annotations

import gc
import json
import math
import pickle
import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mask_oracle import Arrays, column, empty, expected_mask
from tiny_store import build

from moola import FastWindowedDataset, _core
from moola.data.device import DeviceWindowLoader
from moola.data.fast_windowed_loader import create_fast_dataloaders, create_strided_dataloaders
from moola.data.masks import draw_masks
from moola.data.order import Shares, WindowOrder
from moola.errors import ConfigError, StaleStoreError, StateError, StoreMissingError

K = 10


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    for layout in ("bars", "windows"):
        build(folder / layout, lengths=(300, 9, 150), extra=2, layout=layout, window_length=K).close()
    return {layout: folder / layout for layout in ("bars", "windows")}


def everything(loader) -> tuple[torch.Tensor, ...]:
    return tuple(map(torch.cat, zip(*loader, strict=True)))


def equal(one, other) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def equal_batches(one, other) -> bool:
    return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))


# Order


@given(
    windows=st.integers(0, 300),
    batch_size=st.integers(1, 40),
    world_size=st.integers(1, 5),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    epoch=st.integers(0, 3),
    block=st.integers(1, 7),
)
def test_ranks_share_an_epoch(windows, batch_size, world_size, shuffle, drop_last, epoch, block):
    served = []
    for rank in range(world_size):
        order = WindowOrder(windows, batch_size, shuffle, drop_last, rank, world_size)
        whole = order.numbers(1, epoch, 0, order.batches)
        parts = [
            order.numbers(1, epoch, at, min(at + block, order.batches))
            for at in range(0, order.batches, block)
        ]
        assert np.array_equal(np.concatenate([*parts, np.empty(0, np.int64)]), whole)
        assert len(whole) == order.size
        if drop_last:
            assert len(whole) == windows // world_size // batch_size * batch_size
        served.append(whole)
    numbers = np.concatenate(served)
    assert len(np.unique(numbers)) == len(numbers)
    if not drop_last:
        assert sorted(numbers.tolist()) == list(range(windows))
    if not shuffle:
        for rank, whole in enumerate(served):
            assert whole.tolist() == [rank + world_size * i for i in range(len(whole))]


def test_every_epoch_and_every_seed_has_its_own_order():
    order = WindowOrder(10_000, 100, True, True)
    orders = [order.numbers(seed, epoch, 0, 100) for seed in (0, 1) for epoch in (0, 1)]
    for i, one in enumerate(orders):
        assert abs(np.corrcoef(one, np.arange(10_000))[0, 1]) < 0.05
        for other in orders[:i]:
            assert (one == other).mean() < 0.005


@given(
    symbols=st.lists(st.sampled_from("abcd"), min_size=1, max_size=12),
    weights=st.lists(st.sampled_from([0, 1, 2.5, 7]), min_size=4, max_size=4),
    data=st.data(),
)
def test_weights_divide_an_epoch_among_symbols(symbols, weights, data):
    counts = np.array(data.draw(st.lists(st.integers(1, 9), min_size=len(symbols), max_size=len(symbols))))
    total = int(counts.sum())
    given = {name: weight for name, weight in zip("abcd", weights, strict=True) if name in symbols}
    if not any(given.values()):
        with pytest.raises(ConfigError, match="at least one symbol"):
            Shares.make(given, symbols, counts, total)
        return
    shares = Shares.make(given, symbols, counts, total)
    numbers = shares.windows(np.arange(total), 3, 4)
    owner = np.repeat(symbols, counts)
    for name, weight in given.items():
        drawn = numbers[owner[numbers] == name]
        assert abs(len(drawn) - total * weight / sum(given.values())) < 1
        # Every window comes as often as any other of its symbol, give or take one.
        times = np.bincount(drawn, minlength=total)[owner == name]
        assert times.max() - times.min() <= 1


def test_weights_must_name_every_symbol():
    counts = np.array([5, 5])
    for weights, message in [
        ({"a": 1}, "'b' has no weight"),
        ({"a": 1, "b": -1}, "'b' has -1"),
        ({"a": 1, "b": math.inf}, "'b' has inf"),
        ({"a": 1, "b": 1, "c": 1}, "there is no symbol 'c'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            Shares.make(weights, ["a", "b"], counts, 10)


def test_an_order_of_a_billion_windows_takes_no_memory():
    order = WindowOrder(1_000_000_000, 256, True, True, rank=3, world_size=8)
    numbers = order.numbers(0, 0, order.batches - 2, order.batches)
    assert len(np.unique(numbers)) == 512
    assert 0 <= numbers.min() < numbers.max() < 1_000_000_000


# Masks on a device


@given(
    length=st.integers(1, 120),
    ratio=st.sampled_from([0.0, 1.0, 0.15, 0.29]) | st.floats(0, 1),
    patch=st.integers(0, 12),
    seed=st.integers(0, (1 << 63) - 1),
    epoch=st.integers(0, 1 << 40),
)
def test_torch_draws_the_engines_masks(length, ratio, patch, seed, epoch):
    windows = Arrays().windows(length, symbol="ES")
    numbers = np.arange(0, len(windows), 7)
    batch = empty(len(numbers), length, 3)
    windows.fill(numbers, [batch], seed, epoch, ratio, patch)
    keys = torch.from_numpy(windows.keys(numbers, seed, epoch).view(np.int64))
    drawn = draw_masks(keys, torch.from_numpy(batch[2]).bool(), ratio, patch)
    assert np.array_equal(drawn.numpy(), batch[1].astype(bool))


# Loaders


@pytest.fixture(params=["bars", "windows"])
def path(request, stores) -> Path:
    return stores[request.param]


def test_train_is_shuffled_and_drops_the_last_batch(path):
    loaders = create_fast_dataloaders(path, batch_size=32, seed=3)
    dataset = FastWindowedDataset(path, seed=3)
    assert len(loaders.train) == len(dataset) // 32
    whole = dataset.batch(range(len(dataset)))
    seen = []
    for epoch in range(3):
        batches = list(loaders.train)
        assert [len(x) for x, _, _ in batches] == [32] * len(loaders.train)
        order = WindowOrder(len(dataset), 32, True, True).numbers(3, epoch, 0, len(loaders.train))
        x, mask, valid = everything(batches)
        assert torch.equal(x, whole[0][torch.from_numpy(order)])
        assert torch.equal(valid, whole[2][torch.from_numpy(order)])
        dataset.set_epoch(epoch)
        assert torch.equal(mask, dataset.batch(order)[1])
        seen.append(order.tolist())
    assert seen[0] != seen[1] != seen[2]


def test_val_and_test_are_in_order_and_whole(path):
    loaders = create_fast_dataloaders(path, batch_size=7, seed=3)
    for split, loader in (("val", loaders.val), ("test", loaders.test)):
        dataset = FastWindowedDataset(path, split, seed=3)
        assert len(loader) == math.ceil(len(dataset) / 7)
        first = everything(loader)
        assert equal(first, dataset.batch(range(len(dataset))))
        # In the second epoch too.
        assert equal(everything(loader), first)


def test_strided_loaders_have_every_nth_window(path):
    loaders = create_strided_dataloaders(path, stride=5, batch_size=4, seed=0, extra=["kept1"])
    dataset = FastWindowedDataset(path, stride=5, seed=0, extra=["kept1"])
    assert len(loaders.train) == len(dataset) // 4
    x = everything(loaders.train)[0]
    assert x.shape[1:] == (K, 4)
    rows = {row.numpy().tobytes() for row in dataset.batch(range(len(dataset)))[0]}
    assert {row.numpy().tobytes() for row in x} <= rows
    assert create_strided_dataloaders(path).train.dataset.stride == 52


@pytest.mark.parametrize("extra", [(), ("kept1", "kept0")])
@pytest.mark.parametrize("strategy", ["random", "patch"])
def test_arrays_on_the_device_serve_the_same_batches(stores, path, extra, strategy):
    paths = [path, stores["bars"], stores["windows"]]
    dataset = FastWindowedDataset(
        paths, extra=extra, mask_strategy=strategy, mask_ratio=0.4, patch_size=3, seed=9
    )
    options = {"batch_size": 13, "shuffle": True, "device": "cpu"}
    streamed = DeviceWindowLoader(dataset, **options)
    resident = DeviceWindowLoader(dataset, **options, resident=True)
    for _ in range(2):
        assert equal_batches(list(streamed), list(resident))


@pytest.mark.parametrize("times", [1.9, 2.1])
def test_arrays_are_kept_on_the_device_if_they_take_at_most_half_of_it(path, monkeypatch, times):
    dataset = FastWindowedDataset(path, extra=["kept0"])
    (store,) = dataset.stores
    size = store.features.nbytes + store.valid.nbytes + 4 * len(store)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(times * size), 1 << 40))
    monkeypatch.setattr(DeviceWindowLoader, "_upload", lambda self: "uploaded")
    assert DeviceWindowLoader(dataset, device="cuda")._resident == ("uploaded" if times > 2 else None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("resident", [True, False])
def test_a_gpu_serves_the_same_batches(path, resident):
    dataset = FastWindowedDataset(path, seed=9, extra=["kept1"])
    here = DeviceWindowLoader(dataset, 13, shuffle=True)
    there = DeviceWindowLoader(dataset, 13, shuffle=True, device="cuda", resident=resident)
    assert equal_batches(list(here), [tuple(tensor.cpu() for tensor in batch) for batch in there])


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("stop", [0, 1, 5, 9])
def test_resuming_gives_the_batches_that_would_have_come(path, stop, resident):
    dataset = FastWindowedDataset(path, seed=None)
    loader = DeviceWindowLoader(dataset, 30, shuffle=True, drop_last=True, resident=resident)
    assert len(loader) == 9
    epochs = [list(loader), list(loader)]
    loader.set_epoch(0)
    assert equal_batches(list(islice(loader, stop)), epochs[0][:stop])
    state = json.loads(json.dumps(loader.state_dict()))

    other = DeviceWindowLoader(
        FastWindowedDataset(path, seed=None), 30, shuffle=True, drop_last=True, resident=not resident
    )
    other.load_state_dict(state)
    assert other.state_dict() == state
    # As training scripts do at the start of each epoch.
    other.set_epoch(state["epoch"])
    rest = epochs[0][stop:] if stop < 9 else epochs[1]
    assert equal_batches(list(other), rest)
    following = epochs[1] if stop < 9 else None
    assert following is None or equal_batches(list(other), following)


def test_a_foreign_state_is_refused(path, stores):
    loader = create_fast_dataloaders(path, batch_size=8, seed=1).train
    state = loader.state_dict()
    for change, name in [
        ({"batch_size": 9}, "batch_size"),
        ({"mask_ratio": 0.2}, "mask"),
        ({"window_length": None, "stride": 2}, "windows|stride"),
        ({"world_size": 2}, "world_size"),
    ]:
        other = create_fast_dataloaders(path, **({"batch_size": 8} | change)).train
        with pytest.raises(StateError, match=name):
            other.load_state_dict(state)
    with pytest.raises(StateError, match="version"):
        loader.load_state_dict({})
    with pytest.raises(StateError, match="not a number"):
        loader.load_state_dict(state | {"batch": "3"})
    with pytest.raises(StateError, match=rf"batch 999 of an epoch that has {len(loader)}"):
        loader.load_state_dict(state | {"batch": 999})


def test_a_broken_loop_starts_the_next_epoch_and_leaves_no_thread(path):
    loader = create_fast_dataloaders(path, batch_size=8, seed=1).train
    epochs = [list(loader) for _ in range(3)]
    loader.set_epoch(0)
    before = threading.active_count()
    for batch in loader:
        assert equal(batch, epochs[0][0])
        break
    gc.collect()
    assert threading.active_count() == before
    assert loader.state_dict()["batch"] == 1
    assert equal_batches(list(loader), epochs[1])
    assert loader.epoch == 1
    loader.set_epoch(1)
    assert equal_batches(list(loader), epochs[1])


@given(steps=st.lists(st.sampled_from(["keep", "drop"]), min_size=1, max_size=60))
def test_a_batch_does_not_change_while_it_is_referenced(stores, steps):
    loader = DeviceWindowLoader(FastWindowedDataset(stores["bars"]), 5, shuffle=True, drop_last=True)
    kept = []
    for batch, step in zip(loader, steps, strict=False):
        if step == "keep":
            # A view keeps the memory as well as the batch does.
            kept.append(
                ([tensor[1:, :-1] for tensor in batch], [tensor[1:, :-1].clone() for tensor in batch])
            )
        else:
            batch[0].zero_()
        del batch
    for views, copies in kept:
        assert equal(views, copies)


def test_memory_is_reused_only_when_all_of_it_is_free(stores):
    dataset = FastWindowedDataset(stores["bars"])
    numbers = np.arange(12)

    def lend(size: int = 4) -> list[tuple[torch.Tensor, ...]]:
        return [tuple(map(torch.from_numpy, batch)) for batch in dataset.batches(numbers, size, 0)]

    def places(batches: list[tuple[torch.Tensor, ...]]) -> set[int]:
        return {x.data_ptr() for x, _, _ in batches}

    batches = lend()
    where = places(batches)
    assert len(where) == 3
    # Any of the three tensors, or a part of it, keeps the memory of all.
    for kept in range(3):
        view, held = batches[0][kept][1:], batches[0][0].data_ptr()
        wanted = view.clone()
        del batches
        batches = lend()
        assert held not in places(batches)
        assert len(places(batches) & where) == 2
        assert torch.equal(view, wanted)
        del batches, view
        batches = lend()
        where = places(batches)
        assert held in where
    # Memory of another size is not reused.
    del batches
    for got, expected in zip(lend(5), numbers[:10].reshape(2, 5), strict=False):
        assert equal(got, dataset.batch(expected))
    assert [len(x) for x, _, _ in lend(5)] == [5, 5, 2]


def test_an_empty_split_gives_no_batches(stores):
    loaders = create_fast_dataloaders(stores["bars"], window_length=400)
    for loader in loaders:
        assert len(loader) == 0
        assert list(loader) == list(loader) == []
        loader.load_state_dict(loader.state_dict())


def test_wrong_arguments_are_refused_by_name(stores):
    for options, name in [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.0}, "batch_size"),
        ({"num_workers": -1}, "num_workers"),
        ({"rank": 1}, "rank"),
        ({"rank": "0"}, "rank"),
        ({"rank": -1, "world_size": 2}, "rank"),
        ({"world_size": 0}, "world_size"),
        ({"weights": {"ES": 1}}, "weights"),
        ({"stride": 0}, "stride"),
        ({"mask_ratio": 2}, "mask_ratio"),
    ]:
        with pytest.raises(ConfigError) as caught:
            create_fast_dataloaders(stores["bars"], **options)
        assert caught.value.name == name
    dataset = FastWindowedDataset(stores["bars"])
    with pytest.raises(ConfigError, match="shuffle=True"):
        DeviceWindowLoader(dataset, weights={"": 1})
    with pytest.raises(ConfigError, match="epoch"):
        DeviceWindowLoader(dataset).set_epoch(-1)


def test_workers_and_pinning_are_accepted(stores):
    loaders = create_fast_dataloaders(stores["bars"], num_workers=4, pin_memory=True, seed=0)
    plain = create_fast_dataloaders(stores["bars"], seed=0)
    assert equal_batches(list(loaders.val), list(plain.val))
    assert "seed 0" in repr(loaders.train)


def test_a_store_that_disappears_has_its_own_error(tmp_path):
    build(tmp_path / "store").close()
    loader = create_fast_dataloaders(tmp_path / "store", batch_size=4).train
    copy = pickle.loads(pickle.dumps(loader.dataset))
    (tmp_path / "store").rename(tmp_path / "gone")
    assert len(list(loader)) == len(loader)
    with pytest.raises(StoreMissingError):
        list(DeviceWindowLoader(copy, 4))
    build(tmp_path / "store").close()
    with pytest.raises(StaleStoreError):
        list(DeviceWindowLoader(copy, 4))


def test_symbols_of_a_panel_are_weighted(tmp_path):
    """Two symbols with 80 and 20 windows are served half and half."""
    arrays, length = Arrays(bars=200), 50
    windows = _core.Windows(
        [(arrays.features, arrays.valid, arrays.times, arrays.extra, (), False)],
        (
            column(np.uint64, 80, 20),
            column(np.uint64, 0, 130),
            column(np.uint64, 0, 130),
            column(np.uint32, 0, 0),
            column(np.uint64, _core.symbol_hash("ES"), _core.symbol_hash("NQ")),
        ),
        length,
        1,
        3,
    )
    shares = Shares.make({"ES": 1, "NQ": 1}, ["ES", "NQ"], np.array([80, 20]), 100)
    numbers = shares.windows(WindowOrder(100, 10, True, True).numbers(0, 0, 0, 10), 0, 0)
    assert (numbers < 80).sum() == 50
    batch = empty(100, length, 3)
    windows.fill(numbers, [batch], 0, 0, 0.15, 0)
    for i, number in enumerate(numbers):
        symbol, row = ("ES", number) if number < 80 else ("NQ", number + 50)
        rows = slice(row, row + length)
        options = {"seed": 0, "epoch": 0, "symbol": symbol, "ratio": 0.15}
        wanted = expected_mask(arrays.valid[rows], time=int(arrays.times[rows][-1]), **options)
        assert np.array_equal(batch[1][i].astype(bool), wanted)
        assert np.array_equal(batch[0][i], arrays.features[rows])
