"""Memory for batches, used again once nobody has the batch any more."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Callable
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
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=_KEPT)
        # Weak references call back only while they exist themselves.
        self._lent: dict[int, weakref.ref[Any]] = {}

    def lend(self) -> tuple[Tensor, NDArray[Any]]:
        """A tensor, and an array of the same memory to fill it with: bool as uint8."""
        try:
            memory = self._free.popleft()
        except IndexError:
            memory = np.empty(math.prod(self._shape) * self._dtype.itemsize, np.uint8)
        filled = np.dtype(np.uint8) if self._dtype.kind == "b" else self._dtype
        # torch holds on to the very array that it is given, and that array to `memory`.
        lease = memory.view(self._dtype)
        self._lent[id(lease)] = weakref.ref(lease, self._returns(id(lease), memory))
        return torch.from_numpy(lease).view(self._shape), memory.view(filled).reshape(self._shape)

    def _returns(self, key: int, memory: NDArray[np.uint8]) -> Callable[[Any], None]:
        lent, free = self._lent, self._free

        def back(_: Any) -> None:
            lent.pop(key, None)
            free.append(memory)

        return back
