"""What a user says about text files."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["TextOptions"]


class TextOptions(NamedTuple):
    """Lines before the header, the decimal mark, and the sign between thousands; None where the file tells them."""

    skip_lines: int = 0
    decimal: str | None = None
    thousands: str | None = None
