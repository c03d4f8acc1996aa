"""Writes durations for people."""

from __future__ import annotations

__all__ = ["DAY", "HOUR", "MINUTE", "SECOND", "format_duration"]


SECOND = 10**9

MINUTE = 60 * SECOND

HOUR = 60 * MINUTE

DAY = 24 * HOUR


def format_duration(nanoseconds: int) -> str:
    """A duration as `--reset-on-gap` reads it, in its two largest units: `2d 1h`, `17h 30m`, `45s`."""
    parts = []
    for unit, size in (
        ("d", DAY),
        ("h", HOUR),
        ("m", MINUTE),
        ("s", SECOND),
        ("ms", 10**6),
        ("us", 1000),
        ("ns", 1),
    ):
        count, nanoseconds = divmod(nanoseconds, size)
        if count:
            parts.append(f"{count}{unit}")
        if len(parts) == 2:
            break
    return " ".join(parts) or "0s"
