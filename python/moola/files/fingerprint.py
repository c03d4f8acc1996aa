"""Fingerprints: short hashes that tell whether two inputs are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["fingerprint"]


def fingerprint(parts: Iterable[NDArray[np.generic] | str]) -> str:
    """BLAKE2b of arrays (their bytes in C order) and texts (as UTF-8), one after the other: 32 hexadecimal digits.

    Neither shapes nor types are hashed. Give parts that have always the same number of dimensions and the same type.
    """
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        hashed.update(part.encode() if isinstance(part, str) else np.ascontiguousarray(part).data)
    return hashed.hexdigest()
