"""Verifying a store: every check starts from the files and recomputes all it can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola.files.lazy import lazy_names

if TYPE_CHECKING:
    from moola.store.verify.report import Check as Check
    from moola.store.verify.report import VerificationReport as VerificationReport
    from moola.store.verify.report import verify_features as verify_features

_HOMES = {
    "Check": "moola.store.verify.report",
    "VerificationReport": "moola.store.verify.report",
    "verify_features": "moola.store.verify.report",
}

__all__ = ["Check", "VerificationReport", "verify_features"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
