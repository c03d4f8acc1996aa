from typing import Literal

import numpy as np
from numpy.typing import NDArray

__version__: str

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
def time_notation(text: str) -> Literal["iso", "slashed", "epoch"] | None: ...
def time_format_has_offset(time_format: str) -> bool: ...
def time_zones() -> list[str]: ...
