"""The loader: it makes batches ahead of the model and puts them on the model's device."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moola.data.batches import as_arrays
from moola.data.dataset import FastWindowedDataset
from moola.data.masks import draw_masks
from moola.data.order import Shares, WindowOrder
from moola.errors import ConfigError, StateError
from moola.files.cores import usable_cores
from moola.settings.whole_numbers import whole_number

__all__ = ["DeviceWindowLoader"]

Batch: TypeAlias = tuple[Tensor, Tensor, Tensor]

# Batches that a thread makes at a time: enough to be worth waking it, and few enough to stay in the cache.
_BLOCK = 4
_BLOCK_BYTES = 16 << 20
_STATE_VERSION = 1


class _Resident(NamedTuple):
    """The per-bar arrays of all stores on the device, one after the other."""

    features: Tensor
    """`[rows, D]`: the bars, or the rows of all stored windows."""
    valid: Tensor
    """`[rows]` bool."""
    extra: Tensor | None
    """`[bars, E]`."""
    bases: NDArray[np.int64]
    """The first of each store's rows."""
    units: NDArray[np.int64]
    """Rows from one place to the next: 1, or K where windows are stored one by one."""
    bar_bases: NDArray[np.int64]


class DeviceWindowLoader:
    """Serves the windows of a dataset in batches: `X [B, K, D]`, `mask [B, K]`, `valid_mask [B, K]`.

    On the CPU, threads fill batches ahead of the one in use, without the GIL. On another device the per-bar arrays are
    copied there once. A batch is then index arithmetic and one gather; its masks are drawn there, with the same bits.
    If the arrays do not fit, batches come from the CPU through pinned memory.

    A shuffled epoch is a permutation of the windows, computed from the seed and the epoch without a list of windows.
    `load_state_dict` continues in the middle of an epoch with the next batch.

    Each iteration serves the epoch after the last one; `set_epoch` chooses another.

    Args:
        dataset: The windows, and how they are masked.
        batch_size: B. The last batch may be smaller, unless `drop_last`.
        device: The device of the batches.
        shuffle: Whether windows come in a new order in each epoch, or as they are numbered.
        drop_last: Whether to leave out a last batch that is not full.
        rank, world_size: This process serves every world_size-th window of the epoch, from window `rank` on.
        weights: The share of an epoch for each symbol, relative to the others. The length of an epoch stays the same: a
            symbol whose share exceeds its windows repeats them. Needs `shuffle`.
        pin_memory: Whether batches on the CPU are in pinned memory, where there is a GPU.
        resident: Whether the arrays are kept on the device. If not given, its free memory decides.
        threads: Threads that make batches; one for each processor, up to four, if not given.
    """

    def __init__(
        self,
        dataset: FastWindowedDataset,
        batch_size: int = 256,
        *,
        device: torch.device | str = "cpu",
        shuffle: bool = False,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        weights: Mapping[str, float] | None = None,
        pin_memory: bool = False,
        resident: bool | None = None,
        threads: int | None = None,
    ) -> None:
        batch_size = whole_number("batch_size", batch_size, 1)
        world_size, rank = whole_number("world_size", world_size, 1), whole_number("rank", rank, 0)
        if rank >= world_size:
            raise ConfigError("rank", f"{rank} is not one of {world_size}; give 0 to {world_size - 1}")
        shares = None
        if weights is not None and len(dataset):
            if not shuffle:
                raise ConfigError(
                    "weights", "need shuffle=True; without it windows come in the order of their numbers"
                )
            shares = Shares.make(weights, *dataset.windows_of_pieces(), len(dataset))
        self.dataset = dataset
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.weights = None if weights is None else dict(weights)
        self._order = WindowOrder(len(dataset), batch_size, shuffle, drop_last, rank, world_size, shares)
        self._pinned = (pin_memory or self.device.type != "cpu") and torch.cuda.is_available()
        self._threads = min(4, usable_cores()) if threads is None else max(1, threads)
        width = len(dataset.feature_names)
        batch_bytes = batch_size * dataset.window_length * (4 * width + 2)
        self._block = max(1, min(_BLOCK, _BLOCK_BYTES // batch_bytes))
        self._resident: _Resident | None = None
        if resident is None:
            resident = self.device.type != "cpu" and self._fits()
        if resident:
            self._resident = self._upload()
        # The batch to be served next, and where the next iteration begins.
        self._position = (0, 0)
        self._next = (0, 0)

    def __len__(self) -> int:
        """How many batches an epoch has."""
        return self._order.batches

    @property
    def epoch(self) -> int:
        """The epoch that is being served, or is next."""
        return self._position[0]

    def set_epoch(self, epoch: int) -> None:
        """Makes the next iteration serve this epoch from its beginning.

        If a state from the middle of this epoch was loaded, the iteration still continues from there.
        """
        epoch = whole_number("epoch", epoch, 0)
        if self._next[0] != epoch:
            self._next = self._position = (epoch, 0)

    def numbers(self, epoch: int, batch: int) -> NDArray[np.int64]:
        """The dataset's numbers of the windows in this batch of this epoch, in order."""
        return self._order.numbers(self.dataset.seed, epoch, batch, batch + 1)

    def start_at(self, epoch: int, batch: int = 0) -> None:
        """Makes the next iteration begin with this batch of this epoch."""
        epoch, batch = whole_number("epoch", epoch, 0), whole_number("batch", batch, 0)
        self._next = self._position = (epoch, batch)

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self._position = self._next
        self._next = (epoch + 1, 0)
        return self._serve(epoch, first)

    def state_dict(self) -> dict[str, Any]:
        """The loader's position, after the last batch it served. Plain values, for a checkpoint."""
        epoch, batch = self._position
        if batch >= len(self) > 0:
            epoch, batch = epoch + 1, 0
        return {
            "version": _STATE_VERSION,
            "epoch": epoch,
            "batch": batch,
            "seed": self.dataset.seed,
        } | self._facts()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state` was taken: the next iteration begins with the batch that would have followed.

        The seed is taken from the state too. Raises `StateError`, which names the difference, when the state comes from
        other windows, another batch size or other masks.
        """
        mine = {"version": _STATE_VERSION} | self._facts()
        for name, fact in mine.items():
            if state.get(name) != fact:
                problem = (
                    f"loader state refused: its {name} is {state.get(name)!r}, this loader's is {fact!r}"
                )
                raise StateError(f"{problem}; make the loader with the same arguments")
        epoch, batch, seed = (state.get(name) for name in ("epoch", "batch", "seed"))
        if not all(type(value) is int and 0 <= value < 1 << 63 for value in (epoch, batch, seed)):
            raise StateError(
                "loader state refused: epoch, batch or seed is not a number; load another checkpoint"
            )
        if batch > len(self):  # type: ignore[operator]
            problem = f"it goes on with batch {batch} of an epoch that has {len(self)}"
            raise StateError(f"loader state refused: {problem}; load another checkpoint")
        self.dataset.seed = seed  # type: ignore[assignment]
        self._next = self._position = (epoch, batch)  # type: ignore[assignment]

    def __repr__(self) -> str:
        order = "shuffled" if self.shuffle else "in order"
        batches = f"{len(self):,} batches of {self.batch_size}"
        return f"<DeviceWindowLoader on {self.device}: {batches}, {order}, of {self.dataset!r}>"

    def _facts(self) -> dict[str, Any]:
        """Everything that batches depend on, other than seed, epoch and number."""
        dataset = self.dataset
        return {
            "split": dataset.split,
            "windows": len(dataset),
            "window_length": dataset.window_length,
            "stride": dataset.stride,
            "extra": list(dataset.extra),
            "mask": [dataset.mask_ratio, dataset.mask_strategy, dataset.patch_size],
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
            "world_size": self._order.world_size,
            "weights": self.weights,
            # Last, because any other difference tells a person more.
            "fingerprint": dataset.fingerprint,
        }

    def _serve(self, epoch: int, first: int) -> Iterator[Batch]:
        make = self._stream if self._resident is None else self._gather
        blocks = self._blocks(first)
        # One thread feeds the device's stream. More would only block each other.
        threads = self._threads if self._resident is None else 1
        with ThreadPoolExecutor(threads, thread_name_prefix="moola-loader") as executor:
            ahead: deque[Future[list[Batch]]] = deque()
            try:
                while True:
                    while len(ahead) <= threads and (block := next(blocks, None)) is not None:
                        ahead.append(executor.submit(make, epoch, *block))
                    if not ahead:
                        return
                    batches = ahead.popleft().result()
                    batches.reverse()
                    while batches:
                        epoch_, batch = self._position
                        if epoch_ == epoch:
                            self._position = (epoch, batch + 1)
                        # Popped, not iterated over, so that memory which the caller drops can be reused.
                        yield batches.pop()
            finally:
                for future in ahead:
                    future.cancel()

    def _blocks(self, start: int) -> Iterator[tuple[int, int]]:
        """Batches that are made together. The first is made alone, so that it comes early."""
        size = 1
        while start < len(self):
            end = min(start + size, len(self))
            yield start, end
            start, size = end, self._block

    def _numbers(self, epoch: int, start: int, end: int) -> NDArray[np.int64]:
        return self._order.numbers(self.dataset.seed, epoch, start, end)

    def _stream(self, epoch: int, start: int, end: int) -> list[Batch]:
        """Batches from the engine, moved to the device."""
        dataset, numbers = self.dataset, self._numbers(epoch, start, end)
        epoch = dataset.mask_epoch(epoch)
        batches: list[Batch]
        if self._pinned:
            sizes = (
                min(self.batch_size, len(numbers) - at) for at in range(0, len(numbers), self.batch_size)
            )
            batches = [dataset.empty(size, pin_memory=True) for size in sizes]
            dataset.fill(numbers, [as_arrays(batch) for batch in batches], epoch)
        else:
            batches = [
                (torch.from_numpy(x), torch.from_numpy(mask), torch.from_numpy(valid))
                for x, mask, valid in dataset.batches(numbers, self.batch_size, epoch)
            ]
        if self.device.type == "cpu":
            return batches
        return [
            (
                x.to(self.device, non_blocking=True),
                mask.to(self.device, non_blocking=True),
                valid.to(self.device, non_blocking=True),
            )
            for x, mask, valid in batches
        ]

    def _gather(self, epoch: int, start: int, end: int) -> list[Batch]:
        """Batches from the arrays on the device."""
        resident = self._resident
        assert resident is not None
        dataset = self.dataset
        numbers = self._numbers(epoch, start, end)
        store, row, place, _ = dataset.engine.locate(numbers)
        keys = dataset.engine.keys(numbers, dataset.seed, dataset.mask_epoch(epoch))
        # One copy to the device for all of the block.
        columns = np.stack(
            [
                resident.bases[store] + place.astype(np.int64) * resident.units[store],
                resident.bar_bases[store] + row.astype(np.int64),
                keys.view(np.int64),
            ]
        )
        positions, bars, words = torch.from_numpy(columns).to(self.device, non_blocking=True)
        steps = torch.arange(dataset.window_length, device=self.device)
        batches = []
        for at in range(0, len(numbers), self.batch_size):
            these = slice(at, at + self.batch_size)
            rows = positions[these, None] + steps
            x, valid = resident.features[rows], resident.valid[rows]
            if resident.extra is not None:
                x = torch.cat([x, resident.extra[bars[these, None] + steps]], dim=2)
            mask = draw_masks(words[these], valid, dataset.mask_ratio, dataset.patch)
            batches.append((x, mask, valid))
        return batches

    def _fits(self) -> bool:
        """Whether the arrays take no more than half of the device's free memory."""
        if self.device.type != "cuda":
            return False
        stores = self.dataset.stores
        size = sum(s.features.nbytes + s.valid.nbytes + 4 * len(s) * len(self.dataset.extra) for s in stores)
        return size <= torch.cuda.mem_get_info(self.device)[0] // 2

    def _upload(self) -> _Resident:
        dataset, stores = self.dataset, self.dataset.stores
        length = dataset.window_length
        units = np.array([length if store.layout == "windows" else 1 for store in stores], np.int64)
        rows = np.array([store.valid.size for store in stores], np.int64)
        bars = np.array([len(store) for store in stores], np.int64)

        def copied(arrays: list[NDArray[Any]]) -> Tensor:
            # Piece by piece, so that the device holds no more than the arrays.
            total = sum(len(array) for array in arrays)
            out = torch.empty(
                (total, *arrays[0].shape[1:]), dtype=_TYPES[arrays[0].dtype.name], device=self.device
            )
            at = 0
            for array in arrays:
                # A copy, because torch warns of read-only arrays.
                out[at : at + len(array)].copy_(torch.from_numpy(np.array(array)))
                at += len(array)
            return out

        width = len(stores[0].feature_names)
        extra = None
        if dataset.extra:
            extra = copied(
                [
                    np.asarray(store.extra)[:, columns]
                    for store, columns in zip(stores, dataset.columns, strict=True)
                ]
            )
        return _Resident(
            copied([store.features.reshape(-1, width) for store in stores]),
            copied([store.valid.reshape(-1) for store in stores]),
            extra,
            np.cumsum(rows) - rows,
            units,
            np.cumsum(bars) - bars,
        )


_TYPES = {"float32": torch.float32, "bool": torch.bool}
