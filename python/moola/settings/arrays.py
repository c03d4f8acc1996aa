"""Types of arrays that several rooms share."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Numbers"]

Numbers: TypeAlias = NDArray[np.int64]
"""Whole numbers: rows, windows, classes, times in UTC nanoseconds."""
