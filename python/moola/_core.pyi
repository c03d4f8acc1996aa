import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

__all__ = [
    "TIME_AMBIGUOUS",
    "TIME_LOCAL",
    "TIME_NONEXISTENT",
    "TIME_NULL",
    "TIME_UNREADABLE",
    "FeatureStream",
    "Ingest",
    "SampleBars",
    "Staging",
    "Windows",
    "__version__",
    "check_nonpositive",
    "compute_features",
    "compute_swings",
    "count_steps",
    "default_parameters",
    "describe_features",
    "feature_set_allows_nonpositive",
    "feature_set_depends_on",
    "feature_sets",
    "first_instant",
    "first_outlier",
    "fit_dates",
    "hash_file",
    "is_time_zone",
    "load_numpy",
    "localize",
    "npy_header",
    "parameter_names",
    "parse_epochs",
    "parse_times",
    "permutation_key",
    "permute",
    "symbol_hash",
    "time_format_has_offset",
    "time_notation",
    "time_zones",
    "verify_features",
    "verify_streamed",
    "write_features",
]

__version__: str

_Parameters: TypeAlias = tuple[int, int, float, float, int, int]
_Float64: TypeAlias = NDArray[np.float64]
_Spans: TypeAlias = Sequence[tuple[int, int]]

def feature_sets() -> list[str]: ...
def parameter_names() -> list[str]: ...
def feature_set_depends_on(feature_set: str) -> list[str]: ...
def feature_set_allows_nonpositive(feature_set: str) -> bool: ...
def check_nonpositive(feature_set: str, allow_nonpositive: bool) -> None: ...
def default_parameters() -> _Parameters: ...
def describe_features(
    feature_set: str, parameters: _Parameters | None = None
) -> list[tuple[str, float | None, float | None]]: ...
def compute_features(
    open: _Float64,
    high: _Float64,
    low: _Float64,
    close: _Float64,
    feature_set: str,
    parameters: _Parameters | None = None,
    out: NDArray[np.float32] | None = None,
    allow_nonpositive: bool = False,
) -> NDArray[np.float32]: ...
def compute_swings(
    open: _Float64,
    high: _Float64,
    low: _Float64,
    close: _Float64,
    parameters: _Parameters | None = None,
    allow_nonpositive: bool = False,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8], _Float64]: ...

@disjoint_base
class FeatureStream:
    def __new__(
        cls,
        feature_set: str,
        parameters: _Parameters | None = None,
        reset_on_gap: int | None = None,
        allow_nonpositive: bool = False,
    ) -> Self: ...
    def set_feed(self, stamped_at_close: bool, bar_interval: int | None, unit: str) -> None: ...
    def push(
        self,
        open: float,
        high: float,
        low: float,
        close: float,
        timestamp: int | np.integer[Any] | datetime | np.datetime64 | None = None,
    ) -> NDArray[np.float32]: ...
    def push_many(
        self,
        open: _Float64,
        high: _Float64,
        low: _Float64,
        close: _Float64,
        timestamp: NDArray[np.int64] | None = None,
        instants: bool = False,
    ) -> NDArray[np.float32]: ...
    @property
    def valid(self) -> bool: ...
    @property
    def feature_set(self) -> str: ...
    @property
    def parameters(self) -> _Parameters: ...
    @property
    def reset_on_gap(self) -> int | None: ...
    @property
    def last_timestamp(self) -> int | None: ...
    @property
    def allow_nonpositive(self) -> bool: ...
    @property
    def stamp(self) -> Literal["open", "close"]: ...
    @property
    def bar_interval(self) -> int | None: ...
    @property
    def unit(self) -> Literal["s", "ms", "us", "ns"]: ...
    @property
    def bars(self) -> int: ...
    def reset(self) -> None: ...
    def state(self) -> bytes: ...
    def restore(self, state: bytes) -> None: ...

@final
class Ingest:
    def __new__(
        cls,
        folder: str | os.PathLike[str],
        *,
        extra: Sequence[str],
        drop_bad_bars: bool,
        dedup_identical: bool,
        sort: bool,
        reset_on_gap: int | None,
        stamped_at_close: bool,
        bar_interval: int | None = None,
        of_each_symbol: bool = False,
        collect_rejects: bool = False,
        allow_nonpositive: bool = False,
    ) -> Self: ...
    def push(
        self,
        file: int,
        first_row: int,
        timestamp: NDArray[np.int64],
        open: _Float64,
        high: _Float64,
        low: _Float64,
        close: _Float64,
        extra: Sequence[_Float64],
        rows: NDArray[np.int64] | None = None,
        symbol: NDArray[np.int32] | None = None,
        contract: NDArray[np.int32] | None = None,
    ) -> None: ...
    def refusals(self) -> tuple[dict[str, int], list[tuple[int, int | None, dict[str, Any]]]]: ...
    def impossible(self) -> tuple[dict[str, int], list[tuple[int, int | None, dict[str, Any]]]]: ...
    def take_rejects(self) -> list[tuple[int, int | None, dict[str, Any]]]: ...
    def settle(self, order: Sequence[int]) -> None: ...
    def finish(
        self, order: Sequence[int]
    ) -> tuple[list[tuple[int, int, int, int, int, int]], dict[str, int], dict[str, Any]]: ...

def write_features(
    folder: str | os.PathLike[str],
    segments: _Spans,
    feature_set: str,
    parameters: _Parameters | None,
    threads: int,
    length: int | None = None,
    allow_nonpositive: bool = False,
) -> tuple[list[int | None], list[tuple[str, list[int], str, int, str]]]: ...
def verify_features(
    folder: str | os.PathLike[str],
    segments: _Spans,
    feature_set: str,
    parameters: _Parameters | None,
    threads: int,
    windows: tuple[int, int] | None = None,
    allow_nonpositive: bool = False,
) -> dict[str, Any]: ...
def verify_streamed(
    folder: str | os.PathLike[str],
    segments: _Spans,
    feature_set: str,
    parameters: _Parameters | None,
    samples: Sequence[tuple[int, int, int]],
    length: int,
    windows: tuple[int, int] | None = None,
    allow_nonpositive: bool = False,
) -> tuple[int, tuple[int, int, float, float] | None]: ...
def count_steps(
    path: str | os.PathLike[str],
    rows: int,
    firsts: Sequence[int],
    bar_interval: int | None = None,
    of_each_symbol: bool = False,
) -> tuple[list[tuple[int, int, int, int, int]], int]: ...
def first_outlier(
    path: str | os.PathLike[str], shape: Sequence[int], ranges: Sequence[tuple[float, float]]
) -> tuple[int, float] | None: ...
def load_numpy() -> None: ...
def hash_file(path: str | os.PathLike[str], *, dir_fd: int | None = None) -> str: ...
def npy_header(descr: str, shape: Sequence[int]) -> bytes: ...

@final
class Staging:
    def __new__(cls, store: str | os.PathLike[str], overwrite: bool = False) -> Self: ...
    @property
    def path(self) -> Path: ...
    @property
    def store(self) -> Path: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> Literal[False]: ...

@final
class SampleBars:
    MAX_BARS: ClassVar[int]
    def __new__(cls, seed: int, symbol: int = 0, expansions: bool = False) -> Self: ...
    def take(
        self, bars: int
    ) -> tuple[
        NDArray[np.int64],
        NDArray[np.float64],
        NDArray[np.float64],
        NDArray[np.float64],
        NDArray[np.float64],
        NDArray[np.int64],
    ]: ...
    def take_expansions(self) -> list[tuple[str, int, int, int]]: ...

def permutation_key(words: Sequence[int]) -> int: ...
def permute(positions: NDArray[np.int64], count: int, key: int) -> NDArray[np.uint64]: ...
def symbol_hash(name: str) -> int: ...

@final
class Windows:
    def __new__(
        cls,
        stores: Sequence[
            tuple[
                NDArray[np.float32],
                NDArray[np.uint8],
                NDArray[np.int64],
                NDArray[np.float32] | None,
                Sequence[int],
                bool,
            ]
        ],
        pieces: tuple[
            NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint32], NDArray[np.uint64]
        ],
        length: int,
        stride: int,
        width: int,
    ) -> Self: ...
    def __len__(self) -> int: ...
    def locate(
        self, windows: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]: ...
    def keys(self, windows: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.uint64]: ...
    def fill(
        self,
        windows: NDArray[np.int64],
        batches: Sequence[tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]],
        seed: int,
        epoch: int,
        ratio: float,
        patch: int,
    ) -> None: ...
    def batches(
        self,
        windows: NDArray[np.int64],
        batch_size: int,
        seed: int,
        epoch: int,
        ratio: float,
        patch: int,
    ) -> list[tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]]: ...

TIME_NULL: int
TIME_UNREADABLE: int
TIME_AMBIGUOUS: int
TIME_NONEXISTENT: int
TIME_LOCAL: int

def parse_times(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    null: NDArray[np.bool_] | None,
    notation: str,
    tz: str | None,
) -> tuple[NDArray[np.int64], int]: ...
def parse_epochs(
    offsets: NDArray[np.int64], data: NDArray[np.uint8], null: NDArray[np.bool_] | None
) -> NDArray[np.int64]: ...
def fit_dates(
    offsets: NDArray[np.int64], data: NDArray[np.uint8], null: NDArray[np.bool_] | None
) -> tuple[list[int | None], int | None]: ...
def localize(local: NDArray[np.int64], tz: str) -> NDArray[np.int64]: ...
def first_instant(local: int, tz: str) -> int | None: ...
def time_notation(text: str) -> Literal["iso", "slashed", "epoch"] | None: ...
def time_format_has_offset(time_format: str) -> bool: ...
def is_time_zone(name: str) -> bool: ...
def time_zones() -> list[str]: ...
