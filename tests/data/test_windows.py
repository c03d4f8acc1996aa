"""The engine's windows and masks, compared with slices and with the definition in Python's integers."""

from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_oracle import MASK64, Arrays, column, empty, expected_mask, frozen, masks

from moola import _core


@given(
    length=st.integers(1, 150),
    stride=st.integers(1, 9),
    seed=st.integers(0, MASK64),
    epoch=st.integers(0, 1 << 40),
    ratio=st.sampled_from([0.0, 1.0, 0.15, 0.29, 0.57]) | st.floats(0, 1),
    patch=st.integers(0, 12),
    symbol=st.sampled_from(["", "ES", "Δ€"]),
    sizes=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    columns=st.sampled_from([(), (2,), (3, 0)]),
    choose=st.randoms(use_true_random=False),
)
def test_every_window_is_a_slice_with_the_defined_mask(
    length, stride, seed, epoch, ratio, patch, symbol, sizes, columns, choose
):
    arrays = Arrays()
    windows = arrays.windows(length, stride=stride, symbol=symbol, columns=columns)
    assert len(windows) == (400 - length) // stride + 1
    numbers = [choose.randrange(len(windows)) for _ in range(sum(sizes))]
    batches = [empty(size, length, 3 + len(columns)) for size in sizes]
    windows.fill(np.array(numbers, np.int64), batches, seed, epoch, ratio, patch)
    x, mask, valid = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    for i, number in enumerate(numbers):
        rows = slice(number * stride, number * stride + length)
        assert np.array_equal(x[i, :, :3], arrays.features[rows])
        assert np.array_equal(x[i, :, 3:], arrays.extra[rows][:, list(columns)])
        assert np.array_equal(valid[i], arrays.valid[rows])
        wanted = expected_mask(
            arrays.valid[rows],
            seed=seed,
            epoch=epoch,
            symbol=symbol,
            time=int(arrays.times[rows][-1]),
            ratio=ratio,
            patch=patch,
        )
        assert np.array_equal(mask[i], wanted)
        assert wanted.sum() == math.floor(ratio * int(valid[i].sum()))
        assert not (wanted & ~arrays.valid[rows].astype(bool)).any()


@pytest.mark.parametrize("patch", [0, 10])
def test_a_mask_does_not_depend_on_its_batch(patch):
    windows = Arrays().windows(105)
    alone = np.concatenate([masks(windows, [i], 105, patch=patch) for i in range(40)])
    assert np.array_equal(masks(windows, list(range(40)), 105, patch=patch), alone)
    assert np.array_equal(masks(windows, list(range(39, -1, -1)), 105, patch=patch), alone[::-1])


@pytest.mark.parametrize("patch", [0, 10])
def test_masks_depend_on_seed_epoch_symbol_time_and_length(patch):
    arrays = Arrays()
    windows = arrays.windows(100)
    numbers = list(range(60, 100))
    usual = masks(windows, numbers, 100, patch=patch)
    others = [
        masks(windows, numbers, 100, patch=patch, seed=1),
        masks(windows, numbers, 100, patch=patch, epoch=1),
        masks(arrays.windows(100, symbol="ES"), numbers, 100, patch=patch),
        masks(windows, [i + 1 for i in numbers], 100, patch=patch),
        # The same last bars, one more bar before them.
        masks(arrays.windows(101), [i - 1 for i in numbers], 101, patch=patch)[:, 1:],
    ]
    for other in others:
        # With 15 of 100 masked, two independent masks agree in about 2 of 15, in patches about as many.
        shared = (usual & other).sum() / usual.sum()
        assert 0.02 < shared < 0.35


def test_the_dense_layout_gives_the_same_batches():
    arrays, length = Arrays(), 30
    rows = np.arange(20, 300)[:, None] + np.arange(length)
    dense = _core.Windows(
        [
            (
                frozen(arrays.features[rows]),
                frozen(arrays.valid[rows]),
                arrays.times,
                arrays.extra,
                (1,),
                True,
            )
        ],
        (
            column(np.uint64, 50),
            column(np.uint64, 30),
            column(np.uint64, 10),
            column(np.uint32, 0),
            column(np.uint64, _core.symbol_hash("")),
        ),
        length,
        3,
        3,
    )
    numbers = np.arange(50)
    batch, other = empty(50, length, 4), empty(50, length, 4)
    dense.fill(numbers, [batch], 5, 6, 0.4, 0)
    arrays.windows(length, columns=(1,)).fill(30 + 3 * numbers, [other], 5, 6, 0.4, 0)
    for one, two in zip(batch, other, strict=True):
        assert np.array_equal(one, two)
    store, row, place, time = dense.locate(np.array([0, 49]))
    assert store.tolist() == [0, 0]
    assert row.tolist() == [30, 30 + 49 * 3]
    assert place.tolist() == [10, 10 + 49 * 3]
    assert time.tolist() == arrays.times[row.astype(int) + length - 1].tolist()


def test_arrays_that_do_not_fit_are_refused():
    arrays = Arrays()
    windows = arrays.windows(10)
    numbers = np.array([0, 1])

    def fill(
        numbers: np.ndarray = numbers, batch: tuple = empty(2, 10, 3), ratio: float = 0.1, patch: int = 0
    ) -> None:
        windows.fill(numbers, [batch], 0, 0, ratio, patch)

    fill()
    for bad in (-1, len(windows), 1 << 62):
        with pytest.raises(IndexError, match="there is no window"):
            fill(np.array([0, bad]))
        with pytest.raises(IndexError, match="there is no window"):
            windows.locate(np.array([bad]))
    for shape in [(2, 10, 4), (2, 9, 3), (2, 30, 1)]:
        with pytest.raises(ValueError, match="wrong shape"):
            fill(batch=empty(*shape))
    for size in (1, 3):
        with pytest.raises(ValueError, match="do not have the size of these windows"):
            fill(batch=empty(size, 10, 3))
    for ratio in (-0.1, 1.01, math.nan):
        with pytest.raises(ValueError, match="masked share"):
            fill(ratio=ratio)
    x, mask, valid = empty(2, 10, 3)
    with pytest.raises(TypeError):
        fill(batch=(frozen(x), mask, valid))
    with pytest.raises(TypeError):
        fill(batch=(x.astype(float), mask, valid))
    with pytest.raises(TypeError, match="contiguous"):
        fill(batch=(np.empty((2, 10, 6), np.float32)[:, :, ::2], mask, valid))


def test_writeable_arrays_are_refused():
    arrays = Arrays()
    arrays.features = arrays.features.copy()
    with pytest.raises(ValueError, match="read-only"):
        arrays.windows(10)


def test_threads_fill_batches_in_parallel():
    windows = Arrays().windows(50)
    numbers = np.arange(300)
    wanted = empty(300, 50, 3)
    windows.fill(numbers, [wanted], 0, 0, 0.15, 0)
    batches = [empty(300, 50, 3) for _ in range(8)]
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(lambda batch: windows.fill(numbers, [batch], 0, 0, 0.15, 0), batches))
    for batch in batches:
        assert all(np.array_equal(one, other) for one, other in zip(batch, wanted, strict=True))


def test_an_array_made_writeable_again_changes_no_window():
    arrays, length = Arrays(), 30
    windows = arrays.windows(length)
    numbers = np.arange(len(windows))
    before = [part.copy() for part in windows.batches(numbers, len(numbers), 1, 0, 0.15, 0)[0]]
    times = windows.locate(numbers)[3]
    for array in (arrays.features, arrays.valid.base, arrays.valid, arrays.times, arrays.extra):
        # NumPy allows it: the array owns its memory.
        array.flags.writeable = True
        array[:] = 0
    after = windows.batches(numbers, len(numbers), 1, 0, 0.15, 0)[0]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert np.array_equal(windows.locate(numbers)[3], times)


def test_mapped_and_immutable_memory_is_read_in_place(tmp_path):
    arrays, length = Arrays(), 30
    names = ("features", "valid", "times", "extra")
    for name in names:
        array = getattr(arrays, name)
        array.tofile(tmp_path / name)
        setattr(arrays, name, np.memmap(tmp_path / name, array.dtype, "r", shape=array.shape))
    before = [sys.getrefcount(getattr(arrays, name)) for name in names]
    mapped = arrays.windows(length)
    assert [sys.getrefcount(getattr(arrays, name)) for name in names] == [n + 1 for n in before], "not copied"
    numbers = np.arange(len(mapped))
    expected = mapped.batches(numbers, len(numbers), 1, 0, 0.15, 0)[0]
    for name in names:
        array = getattr(arrays, name)
        setattr(arrays, name, np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape))
    found = arrays.windows(length).batches(numbers, len(numbers), 1, 0, 0.15, 0)[0]
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        arrays.times.flags.writeable = True
