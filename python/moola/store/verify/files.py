"""Checks of a store's files: hashes, JSON and identity."""

from __future__ import annotations

from moola import _core
from moola.files.json import dump_json, parse_json
from moola.store.layout import CHECKSUMS, METADATA, SPLITS, dump_checksums
from moola.store.reader import FeatureStore
from moola.store.verify.findings import FindingError
from moola.store.verify.recorded import options_of, parameters_of

__all__ = ["check_hashes", "check_identity", "check_json"]


def check_hashes(store: FeatureStore) -> str:
    expected = store.checksums()
    if set(expected) != set(store.files()) - {CHECKSUMS}:
        raise FindingError(f"{CHECKSUMS} does not list every other file")
    found = {name: store.hash(name) for name in expected}
    wrong = [name for name in expected if found[name] != expected[name]]
    if wrong:
        raise FindingError(f"{', '.join(wrong)}: not the BLAKE3 that {CHECKSUMS} has")
    if dump_checksums(found) != store.read_bytes(CHECKSUMS):
        raise FindingError(f"{CHECKSUMS} is not byte for byte what the files' hashes give")
    return f"BLAKE3 of {len(found)} files as written"


def check_json(store: FeatureStore) -> str:
    for name in (METADATA, SPLITS):
        data = store.read_bytes(name)
        try:
            same = dump_json(parse_json(data)) == data
        except ValueError as error:
            raise FindingError(f"{name}: {error}") from None
        if not same:
            raise FindingError(f"{name} is not byte for byte what moola writes for its content")
    return "canonical, byte for byte"


def check_identity(store: FeatureStore) -> str:
    metadata = store.metadata
    parameters = _core.parameter_names()
    if set(store.config) != set(parameters):
        raise FindingError(
            f"parameters are {', '.join(store.config)}; there should be {', '.join(parameters)}"
        )
    described = _core.describe_features(store.feature_set, parameters_of(store))
    recorded = [(f["name"], f["low"], f["high"]) for f in metadata["features"]]
    if recorded != described:
        raise FindingError(f"{store.feature_set} has features {described}, the metadata say {recorded}")
    read_options, options = options_of(store)
    kept = 0 if store.extra is None else store.extra.shape[1]
    if len(read_options.keep) != kept:
        raise FindingError(f"{len(read_options.keep)} columns were kept, extra.npy has {kept}")

    quality = metadata["quality"]
    others = quality.get("rows_of_other_symbols", 0)
    dropped = quality["dropped_bad_bars"] + quality["dropped_duplicates"] + others
    rows = sum(source["rows"] for source in metadata["sources"])
    if (
        rows - dropped != len(store)
        or min(quality["dropped_bad_bars"], quality["dropped_duplicates"], others) < 0
    ):
        raise FindingError(
            f"sources of {rows:,} rows less {dropped:,} dropped do not give {len(store):,} bars"
        )
    if others and not (read_options.symbols or read_options.exclude_symbols):
        raise FindingError(f"{others:,} rows of other symbols were left out, but no symbols were chosen")
    if quality["dropped_bad_bars"] and not options.drop_bad_bars:
        raise FindingError(f"{quality['dropped_bad_bars']:,} bad bars were dropped without drop_bad_bars")
    if quality["dropped_duplicates"] and options.dedup is None:
        raise FindingError(f"{quality['dropped_duplicates']:,} repeats were dropped without dedup")
    return f"features, ranges and counts are those of {store.feature_set}"
