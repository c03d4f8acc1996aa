"""A map-style torch Dataset over feature stores. The engine makes whole batches in one call."""

from __future__ import annotations

import operator
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, default_collate, get_worker_info

from moola import _core
from moola.data.batches import BatchArrays, Window, WindowBatch, WindowPlaces, as_arrays, shared_tensor
from moola.data.pieces import find_pieces, fingerprint_of
from moola.data.stores import StoreHandle, StorePath, check_alike, open_stores, window_length_of
from moola.errors import ConfigError
from moola.settings.whole_numbers import whole_number
from moola.store.reader import FeatureStore
from moola.store.split_options import NAMES

__all__ = ["FastWindowedDataset", "StorePath", "WindowBatch", "WindowPlaces", "open_stores", "whole_number"]

MASK_STRATEGIES = ("random", "patch")


@dataclass(frozen=True, slots=True)
class _Opened:
    """The open stores and the engine of one process."""

    process: int
    stores: list[FeatureStore]
    engine: _core.Windows


class FastWindowedDataset(Dataset[Window]):
    """The windows of one split of one or more feature stores, with masks for a masked autoencoder.

    An item is `(X [K, D] float32, mask [K] bool, valid_mask [K] bool)`. Windows are numbered store by store, by
    segment, then by time. X is unaltered. `mask` marks the positions that a model must reconstruct, `valid_mask` the
    bars past their segment's warm-up.

    Exactly `math.floor(mask_ratio * valid)` of a window's valid positions are masked. The mask is a pure function of
    the seed, the epoch and the window: its symbol, its last bar's time and K. So it is the same for any batch size,
    order and number of workers.

    `__getitems__` fetches a batch in one call into the engine, without the GIL: give it to a `DataLoader` with
    `collate_fn=FastWindowedDataset.collate`, and nothing is copied again. The dataset can be pickled, and used in
    forked and spawned workers: each process maps the files for itself, and gets a `StaleStoreError` when the store
    has been replaced since.

    Args:
        feature_dir: A feature store of either layout, or several with the same features; each its path, or open.
        split: `train`, `val` or `test`, or `all` for every bar, in a split or not. A split without windows
            gives a dataset of length 0.
        window_length: K; the stores' own default if not given. The dense layout serves only its own.
        stride: Bars from one window to the next, counted from each segment's first window in the split.
        mask_ratio: The share of valid positions that are masked, 0 to 1.
        mask_strategy: `random` masks positions uniformly, `patch` runs of consecutive valid positions.
        patch_size: The length of a run; the last one drawn is shortened, so that the count is exact.
        seed: The seed of the masks, 0 to 2⁶³ − 1. None draws one, which `seed` and `repr` show.
        extra: Names of kept columns, appended to the features in this order.
        ranges: For each store `[n, 2]`, half-open ranges of rows, ascending and disjoint: in place of the split's.

    Raises `ConfigError`, which names the parameter, for a parameter that is not valid, and the errors of
    :meth:`FeatureStore.open`.
    """

    def __init__(
        self,
        feature_dir: StorePath | Sequence[StorePath],
        split: Literal["train", "val", "test", "all"] = "train",
        window_length: int | None = None,
        stride: int = 1,
        mask_ratio: float = 0.15,
        mask_strategy: Literal["random", "patch"] = "random",
        patch_size: int = 10,
        seed: int | None = 0,
        extra: Sequence[str] = (),
        *,
        ranges: Sequence[NDArray[np.int64]] | None = None,
    ) -> None:
        if split not in (*NAMES, "all"):
            raise ConfigError("split", f"{split!r} is not a split; give {', '.join(NAMES)} or all")
        if mask_strategy not in MASK_STRATEGIES:
            raise ConfigError(
                "mask_strategy",
                f"{mask_strategy!r} is not a way to mask; give {' or '.join(MASK_STRATEGIES)}",
            )
        if isinstance(mask_ratio, bool) or not isinstance(mask_ratio, int | float | np.number):
            raise ConfigError("mask_ratio", f"{mask_ratio!r} is not a number; give one from 0 to 1")
        if not 0 <= mask_ratio <= 1:
            raise ConfigError("mask_ratio", f"{mask_ratio!r} is not a share; give a number from 0 to 1")
        self.split = split
        self.stride = whole_number("stride", stride, 1)
        self.mask_ratio = float(mask_ratio)
        self.mask_strategy = mask_strategy
        self.patch_size = whole_number("patch_size", patch_size, 1)
        self.seed = secrets.randbits(63) if seed is None else whole_number("seed", seed, 0)
        """The seed of the masks, drawn or given."""
        self.extra = (extra,) if isinstance(extra, str) else tuple(extra)

        stores = open_stores(feature_dir)
        self._handles = [StoreHandle(store.path, store.id) for store in stores]
        check_alike(stores)
        self.feature_names = (*stores[0].feature_names, *self.extra)
        """The names of X's columns: the features, then `extra`."""
        self.window_length = window_length_of(stores, window_length)
        """K."""
        self.columns = [store.extra_columns(self.extra) for store in stores]
        """For each store, which columns of its `extra` are served."""
        if ranges is None:
            ranges = [
                store.splits[split].ranges if split != "all" else np.array([[0, len(store)]], np.int64)
                for store in stores
            ]
        self._pieces, self._symbols = find_pieces(stores, ranges, self.window_length, self.stride)
        self.fingerprint = fingerprint_of(stores, self._pieces)
        """A hash of the windows: of the stores' arrays, and of where in them the windows lie. Two stores that were
        built with the same options from the same bars give the same."""
        # Shared with workers: those that persist from one epoch to the next would not see a new epoch otherwise.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._opened: _Opened | None = _Opened(os.getpid(), stores, self._engine(stores))
        self._length = len(self._opened.engine)

    @property
    def epoch(self) -> int:
        """The epoch whose masks are served; always 0 for val and test."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Serves the masks of this epoch from now on, in workers too. The masks of val and test never change."""
        self._epoch.fill_(self.mask_epoch(whole_number("epoch", epoch, 0)))

    def mask_epoch(self, epoch: int) -> int:
        """The epoch whose masks belong to this one: for val and test always the first."""
        return epoch if self.split == "train" else 0

    @property
    def stores(self) -> list[FeatureStore]:
        """The stores, open in this process."""
        return self._open().stores

    @property
    def engine(self) -> _core.Windows:
        """The engine's side of the dataset, in this process."""
        return self._open().engine

    @property
    def patch(self) -> int:
        """The length of a masked run as the engine takes it: 0 for single positions."""
        return self.patch_size if self.mask_strategy == "patch" else 0

    def stretches(self) -> list[tuple[str, int, int, int]]:
        """Where the windows lie: for each stretch of them its symbol, its store, and its first and last row.

        A stride longer than a window leaves rows out between them, which count as lying within.
        """
        first = self._pieces.row.astype(np.int64)
        last = first + (self._pieces.windows.astype(np.int64) - 1) * self.stride + self.window_length - 1
        columns = (self._pieces.store.tolist(), first.tolist(), last.tolist())
        return list(zip(self._symbols, *columns, strict=True))

    def symbols_of(self, places: WindowPlaces) -> list[str]:
        """The symbol of each of these windows; `""` when it has none."""
        of_store = [store.segments for store in self.stores]
        bounds = [store.bounds.first for store in self.stores]
        return [
            of_store[s][int(np.searchsorted(bounds[s], row, side="right")) - 1].symbol
            for s, row in zip(places.store.tolist(), places.row.tolist(), strict=True)
        ]

    @property
    def symbols(self) -> list[str]:
        """The symbols that have windows here, sorted."""
        return sorted(set(self._symbols))

    def windows_of_pieces(self) -> tuple[list[str], NDArray[np.int64]]:
        """The symbol and the number of windows of each stretch of windows, in the order of their numbers."""
        return self._symbols, self._pieces.windows.astype(np.int64)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: int) -> Window:
        x, mask, valid = self.batch([operator.index(i)])
        return x[0], mask[0], valid[0]

    def __getitems__(self, indices: Sequence[int]) -> WindowBatch:
        return WindowBatch(self.batch(indices))

    def batch(self, indices: Sequence[int] | NDArray[np.int64]) -> Window:
        """The windows of these numbers, in order: `X [B, K, D]`, `mask [B, K]`, `valid_mask [B, K]`.

        The tensors are new, and the caller's own. Negative numbers count from the end. Raises `IndexError` when
        there is no such window.
        """
        numbers = self._numbers(indices)
        batch = self.empty(len(numbers))
        self.fill(numbers, [as_arrays(batch)], self.epoch)
        return batch

    @staticmethod
    def collate(batch: Sequence[Window]) -> Any:
        """For `DataLoader(collate_fn=...)`: passes a batch on without a copy."""
        return batch.tensors if isinstance(batch, WindowBatch) else default_collate(list(batch))

    def places(self, indices: Sequence[int] | NDArray[np.int64]) -> WindowPlaces:
        """Where the windows of these numbers come from."""
        store, row, _, time = self._open().engine.locate(self._numbers(indices))
        return WindowPlaces(store.astype(np.int64), row.astype(np.int64), time)

    def __repr__(self) -> str:
        paths = ", ".join(repr(str(handle.path)) for handle in self._handles)
        masks = f"{self.mask_ratio:g} masked, {self.mask_strategy}"
        if self.mask_strategy == "patch":
            masks += f" of {self.patch_size}"
        steps = f", stride {self.stride}" if self.stride > 1 else ""
        windows = f"{len(self):,} windows of {self.window_length}{steps}"
        return f"<FastWindowedDataset {paths} {self.split}: {windows}, {masks}, seed {self.seed}>"

    def __getstate__(self) -> dict[str, Any]:
        # Each process opens the files itself, so an error is raised where they are read.
        return self.__dict__ | {"_opened": None}

    def _open(self) -> _Opened:
        opened = self._opened
        if opened is None or opened.process != os.getpid():
            stores = [handle.open() for handle in self._handles]
            opened = self._opened = _Opened(os.getpid(), stores, self._engine(stores))
        return opened

    def _engine(self, stores: Sequence[FeatureStore]) -> _core.Windows:
        arrays = [
            (
                store.features,
                store.valid.view(np.uint8),
                store.timestamps,
                store.extra,
                columns,
                store.layout == "windows",
            )
            for store, columns in zip(stores, self.columns, strict=True)
        ]
        width = len(stores[0].feature_names)
        return _core.Windows(arrays, self._pieces, self.window_length, self.stride, width)

    def _numbers(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        given = np.asarray(indices)
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise TypeError(
                f"windows are chosen by a sequence of whole numbers, not by {given.dtype} of shape {given.shape}"
            )
        numbers = given.astype(np.int64, copy=False)
        if not len(numbers):
            return numbers
        if numbers.min() < 0:
            numbers = np.where(numbers < 0, numbers + len(self), numbers)
        if numbers.min() < 0 or numbers.max() >= len(self):
            # Checked before memory is taken for them.
            i = int(np.argmax((numbers < 0) | (numbers >= len(self))))
            raise IndexError(f"there is no window {given[i]}: there are {len(self):,}")
        return numbers

    def empty(self, size: int, pin_memory: bool = False) -> Window:
        """Uninitialised tensors for a batch of this size."""
        shape = (size, self.window_length)
        width = len(self.feature_names)
        if get_worker_info() is not None:
            # What a worker sends must lie in shared memory, or torch copies it there.
            return (
                shared_tensor((*shape, width), torch.float32),
                shared_tensor(shape, torch.bool),
                shared_tensor(shape, torch.bool),
            )
        return (
            torch.empty((*shape, width), pin_memory=pin_memory),
            torch.empty(shape, dtype=torch.bool, pin_memory=pin_memory),
            torch.empty(shape, dtype=torch.bool, pin_memory=pin_memory),
        )

    def fill(
        self,
        numbers: NDArray[np.int64],
        batches: Sequence[BatchArrays],
        epoch: int,
    ) -> None:
        """Fills batches with the windows of these numbers, with this epoch's masks: see :func:`as_arrays`."""
        self.engine.fill(numbers, batches, self.seed, epoch, self.mask_ratio, self.patch)

    def batches(
        self, numbers: NDArray[np.int64], size: int, epoch: int
    ) -> list[tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]]:
        """The windows of these numbers with this epoch's masks, in batches of this size.

        They reuse the memory of earlier batches that are no longer referenced.
        """
        return self.engine.batches(numbers, size, self.seed, epoch, self.mask_ratio, self.patch)
