"""Verifies a store by recomputing it, and reports each check."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moola.errors import MoolaError, StaleStoreError
from moola.settings.whole_numbers import whole_number
from moola.store.ingest import Progress
from moola.store.reader import FeatureStore
from moola.store.verify.files import check_hashes, check_identity, check_json
from moola.store.verify.findings import FindingError
from moola.store.verify.recompute import check_causal, check_recomputed, check_streamed
from moola.store.verify.source import source_check
from moola.store.verify.splits import check_splits
from moola.store.verify.times import check_quality, check_times
from moola.store.verify.values import check_masks, check_ranges

__all__ = ["Check", "VerificationReport", "verify_features"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check and its outcome, in a sentence."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """The result of `verify_features`."""

    path: Path
    checks: list[Check]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)


def verify_features(
    path: str | os.PathLike[str],
    data: Any = None,
    *,
    reproducibility: bool = True,
    samples: int = 5,
    progress: Progress | None = None,
) -> VerificationReport:
    """Verifies a store by recomputing it. One flipped bit anywhere in it fails.

    Args:
        path: the store.
        data: the bars it was built from, as for `build_features`. They are read again with the recorded options and
            compared with the store. This takes 40 bytes of temporary disk space a bar.
        reproducibility: recompute every row, `samples` windows through the streaming path, and check causality.
        samples: the number of windows that go through the stream, and of places at which causality is tested. A
            store with fewer windows has all of them tested.
        progress: called with the name of each check before it begins.

    Returns:
        The report. It holds every fault of the store; a fault is not raised. The checks do not rely on one another:
        matching hashes (`hashes`) prove little, because whoever altered the files could recompute the hashes.

    Raises:
        StoreMissingError: there is no store at `path`.
        StaleStoreError: the store was replaced, or moved away, while it was being verified.
        InputError: `data` cannot be read as bars.
        ConfigError: `samples` is not a number of windows.
    """
    samples = whole_number("samples", samples, 0, of="windows")
    report = progress or (lambda stage, done, total: None)
    path = Path(path)
    try:
        store = FeatureStore.open(path)
    except FileNotFoundError:
        raise
    except MoolaError as error:
        return VerificationReport(path, [Check("opens", False, str(error))])
    what = f"{len(store):,} bars of {store.feature_set}, files of the right names and sizes"
    checks = [Check("opens", True, what)]
    steps: list[tuple[str, Callable[[FeatureStore], str]]] = [
        ("hashes", check_hashes),
        ("json", check_json),
        ("identity", check_identity),
        ("ranges", check_ranges),
        ("times", check_times),
        ("quality", check_quality),
        ("masks", check_masks),
        ("splits", check_splits),
    ]
    if reproducibility:
        steps += [
            ("recomputed", check_recomputed),
            ("streamed", lambda store: check_streamed(store, samples)),
            ("causal", lambda store: check_causal(store, samples)),
        ]
    # An altered file may hold any value, and a comparison with a signalling NaN would give a warning.
    with store, np.errstate(all="ignore"):
        if data is not None:
            steps.append(("source", source_check(store, data)))
        for number, (name, step) in enumerate(steps):
            report(name, number, len(steps))
            checks.append(_run(name, step, store))
            if store.is_stale:
                problem = "the store was replaced, or moved away, while it was being verified"
                raise StaleStoreError(store.path, problem, "Verify what is there now")
    return VerificationReport(path, checks)


def _run(name: str, step: Callable[[FeatureStore], str], store: FeatureStore) -> Check:
    try:
        return Check(name, True, step(store))
    except (FindingError, MoolaError) as error:
        return Check(name, False, str(error))
    except OSError as error:
        if name == "source":
            # The bars cannot be read, or there is no space for them. That is no fault of the store.
            raise
        return Check(name, False, f"cannot be read: {error}")
    except Exception as error:
        # A store that was altered can break a check anywhere; the report says so instead of breaking off.
        return Check(name, False, f"cannot be checked: {type(error).__name__}: {error}")
