"""Loaders over bars in memory, for training scripts that have a DataFrame and no feature store.

Bars become batches in the same way as with a store, so the result is the same to the bit: the refused bars, the
features, the splits, the masks of a seed, the order of an epoch.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, SkipValidation, model_validator

from moola import _core
from moola.bars.formats.stream import is_table
from moola.data.fast_windowed_loader import Loaders, create_fast_dataloaders
from moola.errors import ConfigError
from moola.settings.features import FeatureConfig
from moola.settings.sections import parse_config
from moola.settings.yaml import read_yaml
from moola.store.build import build_features
from moola.store.inspect.notice import is_of_breaks
from moola.store.split_options import SplitOptions

if TYPE_CHECKING:
    import torch

__all__ = ["WindowedConfig", "create_dataloaders"]

_Count = Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)]
# `SplitOptions` checks the days together.
_Day = Annotated[date | str | None, SkipValidation]
_Share = Annotated[float, Field(ge=0, le=1, strict=True)]


class WindowedConfig(FeatureConfig):
    """How windows are made from bars: the parameters of the features, and those below.

    Unknown names, wrong types and values out of range are refused. Days and shares are those of `build_features`.
    """

    feature_set: str = "relativity10"
    """`relativity10`, `relativity12`, `relative_transform11` or `ohlc4`."""
    window_length: Annotated[int, Field(ge=10, le=500, strict=True)] = 105
    """K, bars in a window."""
    stride: _Count = 1
    """Bars from one window to the next."""
    mask_ratio: _Share = 0.15
    """The share of a window's valid positions that are masked."""
    mask_strategy: Literal["random", "patch"] = "random"
    patch_size: _Count = 10
    """The length of a masked run, with `patch`."""
    train_end: _Day = None
    """The last day of train, inclusive; all three days or none."""
    val_end: _Day = None
    test_end: _Day = None
    split: tuple[_Share, _Share, _Share] | None = None
    """The shares of train, val and test instead; 0.7, 0.15, 0.15 unless days are given."""
    embargo: Annotated[int, Field(ge=0, strict=True)] = 0
    """Bars of each symbol that are dropped after each boundary."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.feature_set not in _core.feature_sets():
            known = ", ".join(_core.feature_sets())
            raise ConfigError("feature_set", f"there is no {self.feature_set!r}. Choose one of {known}")
        # Refuses options that contradict each other.
        SplitOptions(
            fractions=self.split,
            train_end=self.train_end,
            val_end=self.val_end,
            test_end=self.test_end,
            embargo=self.embargo,
        )
        return self

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str]) -> Self:
        """The configuration in a YAML file. Raises `ConfigError`, which names the parameter, or `InputError`."""
        return parse_config(cls, read_yaml(Path(path)), "")


def create_dataloaders(
    df: Any,
    config: WindowedConfig | Mapping[str, Any] | None = None,
    batch_size: int = 256,
    num_workers: int = 0,
    pin_memory: bool = False,
    seed: int | None = None,
    *,
    columns: Mapping[str, str] | str | None = None,
    extra: Sequence[str] = (),
    tz: str | None = None,
    time_format: str | None = None,
    stamp: Literal["open", "close"] | None = None,
    bar_interval: str | int | timedelta | None = None,
    segment_by: Sequence[str] | str = ("symbol",),
    reset_on_gap: str | int | timedelta | None = None,
    drop_bad_bars: bool = False,
    dedup: Literal["identical"] | None = None,
    sort: bool = False,
    allow_nonpositive: bool = False,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
    weights: Mapping[str, float] | None = None,
) -> Loaders:
    """Loaders of the train, val and test windows of bars: `X [B, K, D]`, `mask [B, K]`, `valid_mask [B, K]`.

    They serve what `create_fast_dataloaders` would serve of a store built from these bars, batch by batch and bit by
    bit, and a state of one can be loaded into the other. To train on the same bars again, build a store once: it
    saves the time of computing.

    The arrays lie in a temporary directory (below `TMPDIR` if set). It is removed when the loaders and their datasets
    are gone, or the process ends. They take 4·(D + E) + 41 bytes a bar, with E columns of `extra`.

    Args:
        df: Bars as pandas, polars or pyarrow hold them, or anything else with `__arrow_c_stream__`.
        config: Windows, features and splits; defaults where none is given. `WindowedConfig.from_yaml` reads a file.
        batch_size, num_workers, pin_memory, seed, device, rank, world_size, weights: As for
            `moola.data.fast_windowed_loader.create_fast_dataloaders`.
        extra: Columns of `df` that are appended to the features, in this order.
        columns, tz, time_format, stamp, bar_interval, segment_by, reset_on_gap, drop_bad_bars, dedup, sort,
            allow_nonpositive: How to read the bars: as for `moola.build_features`. Its notices are given as
            `UserWarning`.

    Raises:
        ConfigError: a parameter is not valid; the error names it.
        BarError, InputError: as `moola.build_features` raises them.
        TypeError: `df` is not a table.
    """
    settings = config
    if not isinstance(settings, WindowedConfig):
        if not (config is None or isinstance(config, Mapping)):
            raise TypeError(f"config must be a WindowedConfig, a dict or None, not {type(config).__name__}")
        settings = parse_config(WindowedConfig, dict(config or {}), "")
    if not is_table(df):
        raise TypeError(
            f"df must be a table of bars (pandas, polars, pyarrow: anything with __arrow_c_stream__), not "
            f"{_described(df)}; build a store of files with moola.build_features"
        )
    scratch = _Scratch()
    store = build_features(
        df,
        scratch.path / "store",
        feature_set=settings.feature_set,
        config=settings,
        window_length=settings.window_length,
        train_end=settings.train_end,
        val_end=settings.val_end,
        test_end=settings.test_end,
        split=settings.split,
        embargo=settings.embargo,
        reset_on_gap=reset_on_gap,
        segment_by=segment_by,
        columns=columns,
        keep=extra,
        tz=tz,
        time_format=time_format,
        stamp=stamp,
        bar_interval=bar_interval,
        drop_bad_bars=drop_bad_bars,
        dedup=dedup,
        sort=sort,
        allow_nonpositive=allow_nonpositive,
    )
    for notice in store.notices:
        # A warning for every weekend would only be turned off.
        if not is_of_breaks(notice):
            warnings.warn(notice, UserWarning, stacklevel=2)
    loaders = create_fast_dataloaders(
        store,
        batch_size,
        settings.mask_ratio,
        num_workers,
        pin_memory,
        seed,
        window_length=settings.window_length,
        stride=settings.stride,
        mask_strategy=settings.mask_strategy,
        patch_size=settings.patch_size,
        extra=extra,
        device=device,
        rank=rank,
        world_size=world_size,
        weights=weights,
    )
    for loader in loaders:
        # A finalizer keeps its arguments: the directory stays as long as any of the datasets.
        weakref.finalize(loader.dataset, _let_go, scratch)
    return loaders


class _Scratch:
    """A temporary directory, removed when this object is gone or the process ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="moola-"))
        weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(path: Path, owner: int) -> None:
    # A forked worker has a copy of the object, and the directory is not its own.
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)


def _let_go(scratch: _Scratch) -> None:
    """The finalizer that called this drops its reference."""


def _described(df: object) -> str:
    return f"the path {os.fspath(df)!r}" if isinstance(df, str | os.PathLike) else f"a {type(df).__name__}"
