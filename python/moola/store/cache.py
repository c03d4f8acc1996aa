"""The cache of feature stores: each is built once from bars and options, and found again by what decides it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moola import _core
from moola.bars.formats.files import partitions_of
from moola.bars.formats.finding import find_files
from moola.errors import BuildConflictError, InputError, StoreExistsError
from moola.files.identity import FileIdentity, identity_of
from moola.settings.engine import parameters
from moola.store.layout import FORMAT_VERSION
from moola.store.reader import FeatureStore

__all__ = ["cached_store", "store_cache"]


def store_cache() -> Path:
    """Where cached stores are kept: `$MOOLA_CACHE`, or `moola` in the user's cache directory."""
    if given := os.environ.get("MOOLA_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moola"


def cached_store(
    bars: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], **options: Any
) -> FeatureStore:
    """The feature store of these bars. It is built in the cache unless it is there already.

    Its name is a hash of everything that decides the store: the files' bytes, names and order, the directories such
    as `symbol=ES` that they lie in, the options, the feature configuration, and the engine's version.

    Args:
        bars: A file, a directory, or several files, as :func:`moola.build_features` takes them.
        options: The other arguments of :func:`moola.build_features`.

    Raises what :func:`moola.build_features` raises, and `InputError` when a file changes meanwhile.
    """
    from moola.store.build import build_features

    progress = options.pop("progress", None)
    paths = [Path(bars)] if isinstance(bars, str | os.PathLike) else [Path(path) for path in bars]
    # The build raises the error for a file that is not there.
    files = [file for path in paths for file in find_files(path) if file.is_file()]
    identities = [identity_of(file) for file in files]
    store = store_cache() / _key(files, options)
    if store.exists():
        return FeatureStore.open(store)

    def report(stage: str, done: int | None, total: int | None) -> None:
        # The last moment at which a build can be given up. A file that changed before it was read is not in the key.
        if stage == "publish":
            _check_unchanged(files, identities)
        if progress is not None:
            progress(stage, done, total)

    given = paths[0] if len(paths) == 1 else paths
    try:
        return build_features(given, store, **options, progress=report)
    except (BuildConflictError, StoreExistsError):
        # Another process was quicker, and built the same store.
        return FeatureStore.open(store)


def _key(files: Sequence[Path], options: dict[str, Any]) -> str:
    """The hash of what decides a store. The order of the files counts, for it is that of the bars."""
    sources = [[file.name, sorted(partitions_of(file).items()), _core.hash_file(file)] for file in files]
    settings = options | {"config": parameters(options.get("config"))}
    decisive = [_core.__version__, FORMAT_VERSION, settings, sources]
    text = json.dumps(decisive, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _check_unchanged(files: Sequence[Path], identities: Sequence[FileIdentity | None]) -> None:
    for file, identity in zip(files, identities, strict=True):
        if identity_of(file) != identity:
            raise InputError(
                "changed while it was read", "Wait until it is written, then start again", source=str(file)
            )
