"""Batches of windows: their tensors, their memory, and where the windows come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["BatchArrays", "Window", "WindowBatch", "WindowPlaces", "as_arrays", "shared_tensor"]

Window: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""`X`, `mask` and `valid_mask`, of one window or of a batch."""

BatchArrays: TypeAlias = tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]


class WindowBatch(Sequence[Window]):
    """A batch of windows as a sequence of items, which are views of it.

    It looks like the list that torch's own collation expects, and :meth:`FastWindowedDataset.collate` takes the
    batch out of it without a copy.
    """

    def __init__(self, tensors: Window) -> None:
        self.tensors = tensors
        """`X [B, K, D]` float32, `mask [B, K]` bool, `valid_mask [B, K]` bool."""

    def __len__(self) -> int:
        return len(self.tensors[0])

    @overload
    def __getitem__(self, i: int) -> Window: ...
    @overload
    def __getitem__(self, i: slice) -> WindowBatch: ...
    def __getitem__(self, i: int | slice) -> Window | WindowBatch:
        x, mask, valid = self.tensors
        item = (x[i], mask[i], valid[i])
        return WindowBatch(item) if isinstance(i, slice) else item

    def __iter__(self) -> Iterator[Window]:
        return iter(zip(*(tensor.unbind() for tensor in self.tensors), strict=True))


class WindowPlaces(NamedTuple):
    """Where windows come from: for labels, reports and checks. Each `[B]` int64."""

    store: NDArray[np.int64]
    """Which of the stores, from 0."""
    row: NDArray[np.int64]
    """The row of the window's first bar."""
    last_timestamp: NDArray[np.int64]
    """The open time of its last bar, UTC nanoseconds: the bar it belongs to."""


def as_arrays(batch: Window) -> BatchArrays:
    """The same memory as the engine takes it: bool as uint8."""
    x, mask, valid = batch
    return x.numpy(), mask.view(torch.uint8).numpy(), valid.view(torch.uint8).numpy()


def shared_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor in shared memory, which a worker can hand over without a copy."""
    size = torch.Size(shape).numel() * dtype.itemsize
    storage = torch.UntypedStorage._new_shared(size)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape)  # type: ignore[call-overload, no-any-return]
