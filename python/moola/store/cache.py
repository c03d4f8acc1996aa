"""Stores that nobody asked for by name: built once from bars and parameters, and found there the next time."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moola import _core
from moola.errors import BuildConflictError, StoreExistsError
from moola.store.layout import FORMAT_VERSION
from moola.store.reader import FeatureStore

__all__ = ["cached_store", "store_cache"]


def store_cache() -> Path:
    """Where such stores are kept: `$MOOLA_CACHE`, or `moola` in the user's cache directory."""
    if given := os.environ.get("MOOLA_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moola"


def cached_store(
    bars: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], **options: Any
) -> FeatureStore:
    """The feature store of these bars, built in the cache unless it is there.

    Its name is a hash of the bars' files, byte by byte, of the options and of the engine's version: other bars under
    the same file name give another store.

    Args:
        bars: A file, a directory, or several files, as :func:`moola.build_features` takes them.
        options: What :func:`moola.build_features` takes besides.

    Raises what :func:`moola.build_features` raises.
    """
    from moola.store.build import build_features

    paths = [Path(bars)] if isinstance(bars, str | os.PathLike) else [Path(path) for path in bars]
    hashed = hashlib.blake2b(digest_size=16)
    hashed.update(
        json.dumps([_core.__version__, FORMAT_VERSION, options], sort_keys=True, default=str).encode()
    )
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            # What cannot be read is for the build to say.
            if file.is_file():
                name = file.relative_to(path) if path.is_dir() else file.name
                hashed.update(f"{name} {_core.hash_file(file)}\n".encode())
    store = store_cache() / hashed.hexdigest()
    if store.exists():
        return FeatureStore.open(store)
    given = paths[0] if len(paths) == 1 else paths
    try:
        return build_features(given, store, **options)
    except (BuildConflictError, StoreExistsError):
        # Another process was quicker: theirs is the same.
        return FeatureStore.open(store)
