"""Refuses folds whose training and test windows share bars."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from moola.errors import ConfigError, SharedBarsError
from moola.folds.purge import purged
from moola.folds.windows import indices_of, times_of, windows_of

__all__ = ["assert_no_shared_bars"]


def assert_no_shared_bars(
    starts: ArrayLike,
    ends: ArrayLike,
    train: ArrayLike,
    test: ArrayLike,
    *,
    label_ends: ArrayLike | None = None,
    times: ArrayLike | None = None,
) -> None:
    """Raises if a window of train shares a bar with a window of test.

    It checks splits from any source. It compares windows only, and ignores embargoes.

    Args:
        starts: `[n]`, the first bar of each window.
        ends: `[n]`, the last bar of each window, inclusive.
        train: Indices of windows, or a mask `[n]`.
        test: Indices of windows, or a mask `[n]`.
        label_ends: `[n]`, the last bar that each window's label depends on. All bars from a window's first to its
            label's last then count.
        times: `[bars]`, the time of each bar. Windows that overlap in time then share bars, whatever their symbols.

    Raises `SharedBarsError`, which names a pair of windows, the bars or times that they share and the number of
    training windows affected; `ConfigError` for invalid windows or indices.

    >>> assert_no_shared_bars([0, 5, 10], [9, 14, 19], train=[0], test=[2])
    >>> assert_no_shared_bars([0, 5, 10], [9, 14, 19], train=[0, 1], test=[2])
    Traceback (most recent call last):
    ...
    moola.errors.SharedBarsError: window 1 of train (bars 5 to 14) and window 2 of test (bars 10 to 19) share ...
    """
    windows = windows_of(starts, ends, label_ends)
    n = len(windows.starts)
    train_windows = indices_of("train", train, n)
    test_windows = indices_of("test", test, n)
    begin, end = windows
    if times is not None:
        when = times_of(times, windows)
        begin, end = when[begin], when[end]
        if (end < begin).any():
            i = int(np.argmax(end < begin))
            raise ConfigError("times", f"go back within window {i}; sort the bars of each symbol")
    shares = purged(begin, end, train_windows, test_windows)
    if not shares.any():
        return
    i = int(train_windows[np.argmax(shares)])
    j = int(test_windows[np.argmax((begin[test_windows] <= end[i]) & (end[test_windows] >= begin[i]))])
    raise SharedBarsError(
        train=i,
        test=j,
        train_bars=(int(windows.starts[i]), int(windows.ends[i])),
        test_bars=(int(windows.starts[j]), int(windows.ends[j])),
        shared=(int(max(begin[i], begin[j])), int(min(end[i], end[j]))),
        in_time=times is not None,
        count=int(shares.sum()),
    )
