"""Stores of bars with zero and negative prices: CL on 20 April 2020, spreads, back-adjusted contracts."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builds import FORMS, MINUTE, SMALL, START, changed, refused, source, times
from tampering import edit_array, edit_metadata, found, seal
from typer.testing import CliRunner

import moola
from moola.cli.app import app
from moola.data.windowed_loader import create_dataloaders
from moola.errors import BarError, ConfigError
from moola.store.inspect.summary import inspect_store

SETS = ("relativity10", "relativity12", "ohlc4")
ALLOWED: dict[str, Any] = {"allow_nonpositive": True, "stamp": "open"}


def through_zero(n: int = 600, seed: int = 1) -> pa.Table:
    """Prices in cents that fall from 2 through zero, stay there, and rise again. Some closes are exactly 0."""
    rng = np.random.default_rng(seed)
    path = 200 * np.cos(np.linspace(0, 2 * np.pi, n)) + np.cumsum(rng.integers(-6, 7, n)) / 4
    close = np.rint(path).astype(int)
    close[n // 4 : n // 4 + 3] = [1, 0, -1]
    open = np.concatenate([close[:1], close[:-1]])
    high = np.maximum(open, close) + rng.integers(0, 6, n)
    low = np.minimum(open, close) - rng.integers(0, 6, n)
    prices = {
        name: x / 100
        for name, x in zip(("open", "high", "low", "close"), (open, high, low, close), strict=True)
    }
    return pa.table({"timestamp": times(START + np.arange(n) * MINUTE), **prices})


def jumps_of(table: pa.Table) -> int:
    """Moves of more than half of the close before, where both closes are above zero."""
    close = table["close"].to_pylist()
    pairs = itertools.pairwise(close)
    return sum(a > 0 and b > 0 and abs(b / a - 1) > 0.5 for a, b in pairs)


@pytest.mark.parametrize("form", FORMS)
def test_bars_through_zero_are_built_and_verified(tmp_path: Path, form: str) -> None:
    table = through_zero()
    bars = source(table, form, tmp_path / "in")
    with moola.build_features(bars.what, tmp_path / "store", **SMALL, **ALLOWED) as store:
        assert len(store) == 600
        assert (store.bars < 0).any()
        columns = [table[name].to_numpy() for name in ("open", "high", "low", "close")]
        np.testing.assert_array_equal(store.bars, np.stack(columns, axis=1))
        rows = moola.compute_features(*columns, config=SMALL["config"], allow_nonpositive=True)
        assert np.asarray(store.features).tobytes() == rows.tobytes()
        assert store.metadata["read_options"]["allow_nonpositive"] is True
        assert store.metadata["quality"]["jumps_over_50_percent"] == jumps_of(table) > 0
        assert inspect_store(store).read_options["allow_nonpositive"] is True
    report = moola.verify_features(tmp_path / "store", bars.what)
    assert report.ok, report
    assert [check.name for check in report.checks][-4:] == ["recomputed", "streamed", "causal", "source"]


@pytest.mark.parametrize("feature_set", SETS)
@pytest.mark.parametrize("layout", ["bars", "windows"])
def test_every_set_that_allows_it_is_verified_in_both_layouts(
    tmp_path: Path, feature_set: str, layout: Any
) -> None:
    table = through_zero(seed=9)
    moola.build_features(
        table, tmp_path / "store", feature_set=feature_set, layout=layout, **SMALL, **ALLOWED
    )
    report = moola.verify_features(tmp_path / "store", table)
    assert report.ok, report


@pytest.mark.parametrize("feature_set", SETS)
def test_a_refusal_names_the_option_and_the_option_works(tmp_path: Path, feature_set: str) -> None:
    refused(
        through_zero(),
        tmp_path,
        "price that is zero, negative or beyond float32",
        "or pass --drop-bad-bars",
        "if prices can be zero or negative, as of spreads and back-adjusted contracts, pass --allow-nonpositive "
        "(allow_nonpositive=True)",
        feature_set=feature_set,
        **SMALL,
    )
    # Also where so many would be left out that the columns are probably wrong.
    refused(
        through_zero(),
        tmp_path,
        "the columns are probably wrong",
        "if prices can be zero or negative, take them with --allow-nonpositive (allow_nonpositive=True)",
        feature_set=feature_set,
        drop_bad_bars=True,
        **SMALL,
    )
    moola.build_features(through_zero(), tmp_path / "store", feature_set=feature_set, **SMALL, **ALLOWED)


def test_logarithms_refuse_the_option_before_anything_is_read(tmp_path: Path) -> None:
    how: dict[str, Any] = {"feature_set": "relative_transform11", "allow_nonpositive": True}
    error = refused(tmp_path / "missing.csv", tmp_path, error=ConfigError, **how)
    for word in ("allow_nonpositive: ", "relative_transform11", "relativity10, relativity12, ohlc4"):
        assert word in str(error)
    # Without the option, no advice names it.
    for more in ({}, {"drop_bad_bars": True}):
        error = refused(through_zero(), tmp_path, feature_set="relative_transform11", **more)
        assert "nonpositive" not in str(error)


def test_a_price_beyond_float32_gets_no_advice_about_its_sign(tmp_path: Path) -> None:
    error = refused(changed("high", {5: 1e300}), tmp_path, "high = 1e+300", **SMALL)
    assert "nonpositive" not in str(error)


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [
        ("low", -math.inf, "not_finite"),
        ("low", -3.5e38, "beyond_float32"),
        ("close", 1e-39, "beyond_float32"),
        ("high", -300.0, "high_below_low"),
        ("open", 300.0, "open_outside"),
        ("close", -300.0, "close_outside"),
    ],
)
def test_what_is_no_price_stays_refused_or_is_left_out(
    tmp_path: Path, column: str, value: float, kind: str
) -> None:
    bad = changed(column, {300: value}, through_zero())
    error = refused(bad, tmp_path, **SMALL, **ALLOWED)
    assert error.counts == {kind: 1}
    with moola.build_features(bad, tmp_path / "store", drop_bad_bars=True, **SMALL, **ALLOWED) as store:
        assert len(store) == 599
    assert moola.verify_features(tmp_path / "store", bad).ok


def test_ordinary_bars_have_the_same_store_with_the_option(tmp_path: Path) -> None:
    table = moola.build_features
    bars = changed("low", {})
    stores = [
        table(bars, tmp_path / name, **SMALL, stamp="open", allow_nonpositive=allow)
        for name, allow in (("plain", False), ("allowed", True))
    ]
    for name in ("bars.npy", "features.npy", "valid.npy", "timestamps.npy", "splits.json"):
        assert len({store.hash(name) for store in stores}) == 1
    assert stores[0].metadata["quality"] == stores[1].metadata["quality"]
    assert [store.metadata["read_options"]["allow_nonpositive"] for store in stores] == [False, True]


def test_a_store_without_the_record_is_verified_as_one_of_positive_prices(tmp_path: Path) -> None:
    """Stores of earlier versions lack the option."""
    bars = changed("low", {})
    moola.build_features(bars, tmp_path / "store", **SMALL, stamp="open").close()
    edit_metadata(tmp_path / "store", lambda record: record["read_options"].pop("allow_nonpositive"))
    assert moola.verify_features(tmp_path / "store", bars).ok
    assert not moola.FeatureStream.from_store(tmp_path / "store").allow_nonpositive


def test_verify_finds_a_negative_price_where_the_store_does_not_allow_it(tmp_path: Path) -> None:
    moola.build_features(through_zero(), tmp_path / "store", **SMALL, **ALLOWED).close()
    edit_metadata(tmp_path / "store", lambda record: record["read_options"].update(allow_nonpositive=False))
    assert "is not a bar" in found(tmp_path / "store")["ranges"]


def test_verify_finds_a_price_below_float32(tmp_path: Path) -> None:
    moola.build_features(through_zero(), tmp_path / "store", **SMALL, **ALLOWED).close()
    edit_array(tmp_path / "store", "bars.npy", lambda bars: bars.__setitem__((300, 2), -1e39))
    seal(tmp_path / "store")
    assert "row 300" in found(tmp_path / "store")["ranges"]


def test_a_stream_takes_the_option_from_the_store(tmp_path: Path) -> None:
    table = through_zero(700)
    columns = [table[name].to_numpy() for name in ("open", "high", "low", "close")]
    moola.build_features(table.slice(0, 350), tmp_path / "store", **SMALL, **ALLOWED).close()
    stream = moola.FeatureStream.from_store(tmp_path / "store")
    assert stream.allow_nonpositive
    new = stream.push_many(*(c[350:].copy() for c in columns), table["timestamp"][350:].to_numpy())
    rows = moola.compute_features(*columns, config=SMALL["config"], allow_nonpositive=True)
    assert new.tobytes() == rows[350:].tobytes()


def test_loaders_take_the_option() -> None:
    config = {"window_length": 20, "warmup_bars": 10}
    with pytest.raises(BarError, match="--allow-nonpositive"):
        create_dataloaders(through_zero(), config, stamp="open")
    with pytest.warns(UserWarning, match="closes move more than 50 %"):
        loaders = create_dataloaders(through_zero(), config, **ALLOWED)
    assert len(loaders.train.dataset) > 0


def test_the_command_line_has_the_option(tmp_path: Path) -> None:
    bars = source(through_zero(), "csv", tmp_path / "in").what
    arguments = ["build-features", "--data", str(bars), "--stamp", "open", "--window-length", "20"]
    run = CliRunner()
    without = run.invoke(app, [*arguments, "--output", str(tmp_path / "a")])
    assert without.exit_code != 0
    with_it = run.invoke(app, [*arguments, "--output", str(tmp_path / "a"), "--allow-nonpositive"])
    assert with_it.exit_code == 0, with_it.output
    shown = run.invoke(app, ["inspect", str(tmp_path / "a")])
    assert "allow_nonpositive=True" in shown.output
