"""Stamps of closes that vendors write a little before the full minute."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["full_minutes"]

_MINUTE = 60 * 10**9
_BEFORE = (_MINUTE - 10**6, _MINUTE - 10**3, _MINUTE - 1)


def full_minutes(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Times of closes, in nanoseconds, with `:59.999`, `:59.999999` and `:59.999999999` as the full minute after them.

    Ingest does the same with the bars themselves.
    """
    rest = times % _MINUTE
    return np.where(np.isin(rest, _BEFORE), times + (_MINUTE - rest), times)
