import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Literal, Self, final

import numpy as np
from numpy.typing import NDArray

__version__: str

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
