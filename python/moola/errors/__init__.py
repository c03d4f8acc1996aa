"""Every error that moola raises on purpose, with its facts and its advice. It imports no other room."""

from __future__ import annotations

from moola.errors.bars import BarError, NotFiniteError, Problem
from moola.errors.base import (
    ConfigError,
    DeviceError,
    InputDeniedError,
    InputError,
    InputMissingError,
    MoolaError,
    StateError,
    TimestampError,
    TooFewBarsError,
)
from moola.errors.labels import LabelError, LabelProblem, LeakError, SharedBarsError, SplitError
from moola.errors.models import FeatureMismatchError, RunError, WeightsError
from moola.errors.stores import (
    BuildConflictError,
    DamagedStoreError,
    StaleStoreError,
    StoreError,
    StoreExistsError,
    StoreMissingError,
    StoreWriteError,
)

__all__ = [
    "BarError",
    "BuildConflictError",
    "ConfigError",
    "DamagedStoreError",
    "DeviceError",
    "FeatureMismatchError",
    "InputDeniedError",
    "InputError",
    "InputMissingError",
    "LabelError",
    "LabelProblem",
    "LeakError",
    "MoolaError",
    "NotFiniteError",
    "Problem",
    "RunError",
    "SharedBarsError",
    "SplitError",
    "StaleStoreError",
    "StateError",
    "StoreError",
    "StoreExistsError",
    "StoreMissingError",
    "StoreWriteError",
    "TimestampError",
    "TooFewBarsError",
    "WeightsError",
]

# Tracebacks and pickles name the path that is documented.
for _name in __all__:
    globals()[_name].__module__ = __name__
del _name
