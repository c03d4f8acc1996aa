"""Memory for batches, used again once nobody has the batch any more."""

from __future__ import annotations

import weakref
from collections import deque
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

__all__ = ["BufferPool"]

_KEPT = 64


class BufferPool:
    """Lends memory for tensors of one shape and type.

    Fresh memory costs a page fault for every 4 KiB, about as much time as filling it with windows does. A tensor owns
    its memory: only when it and all views of it are gone does the memory come back. May be used from several threads.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._free: deque[NDArray[Any]] = deque(maxlen=_KEPT)
        # Weak references call back only while they exist themselves.
        self._lent: dict[int, weakref.ref[Any]] = {}

    def lend(self) -> tuple[Tensor, NDArray[Any]]:
        """A tensor, and an array of the same memory to fill it with: bool as uint8.

        The array is good for as long as the tensor lives.
        """
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(self._shape, self._dtype)
        # torch holds on to the very array that it is given, and that array to `memory`.
        lease = memory.view()
        key = id(lease)
        self._lent[key] = weakref.ref(lease, partial(self._back, self._free, self._lent, key, memory))
        filled = memory.view(np.uint8) if self._dtype.kind == "b" else memory
        return torch.from_numpy(lease), filled

    @staticmethod
    def _back(
        free: deque[NDArray[Any]],
        lent: dict[int, weakref.ref[Any]],
        key: int,
        memory: NDArray[Any],
        _: Any,
    ) -> None:
        # Before the memory can be lent again, and the key with it.
        del lent[key]
        free.append(memory)
