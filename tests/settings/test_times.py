"""Times that users give: UTC nanoseconds, or a refusal if 64 bits cannot hold them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moola.errors import ConfigError
from moola.folds import PurgedKFold
from moola.prediction import predict
from moola.settings.times import nanoseconds_of, nanoseconds_of_all

NOON = 1_591_790_400_000_000_000  # 2020-06-10T12:00:00Z
DAY = 86_400 * 10**9

BEYOND = [
    "2300-01-01",
    "1600-01-01",
    "2262-04-12T00:00:00Z",
    "9999-12-31T23:59:59-12:00",
    date(2300, 1, 1),
    date(1, 1, 1),
    datetime(2300, 1, 1, tzinfo=UTC),
    np.datetime64("2300-01-01"),
    np.datetime64("1600-01-01"),
    np.datetime64("1600"),
    np.datetime64("2300-01", "M"),
    np.datetime64(2**62, "s"),
    np.datetime64(2**62, "D"),
    np.datetime64("2262-04-11T23:47:16.854776"),
]


@pytest.mark.parametrize(
    ("given", "nanoseconds"),
    [
        ("2020-06-10T12:00:00Z", NOON),
        ("2020-06-10T14:00:00+02:00", NOON),
        ("2020-06-10", NOON - DAY // 2),
        (date(2020, 6, 10), NOON - DAY // 2),
        (datetime(2020, 6, 10, 14, tzinfo=timezone(timedelta(hours=2))), NOON),
        (np.datetime64("2020-06-10T12:00"), NOON),
        (np.datetime64("2020-06-10"), NOON - DAY // 2),
        (np.datetime64("2020-06"), NOON - 9 * DAY - DAY // 2),
        (np.datetime64(1_999, "ps"), 1),
        (np.datetime64("2262-04-11T23:47:16.854775807"), 2**63 - 1),
        (np.datetime64("1677-09-21T00:12:43.145224193"), 1 - 2**63),
    ],
)
def test_times_become_utc_nanoseconds(given: object, nanoseconds: int) -> None:
    assert nanoseconds_of("from", given) == nanoseconds


@pytest.mark.parametrize("beyond", BEYOND, ids=repr)
def test_times_beyond_64_bits_are_refused(beyond: object) -> None:
    with pytest.raises(ConfigError, match=r"^from: .* lies outside the years that nanoseconds can count"):
        nanoseconds_of("from", beyond)


@pytest.mark.parametrize("name", ["from_", "to"])
@pytest.mark.parametrize("beyond", BEYOND, ids=repr)
def test_predict_refuses_wrong_times_before_reading(beyond: object, name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^{name.strip('_')}: .* give one from 1678 to 2261$"):
        predict(tmp_path / "run", tmp_path / "store", **{name: beyond})


@pytest.mark.parametrize("far", [np.datetime64("2300-01-01T00:00", "m"), np.datetime64("1600-01-01", "m")])
def test_splitters_refuse_wrong_times(far: np.datetime64) -> None:
    times = np.datetime64("2020-06-10T12:00", "m") + np.arange(40)
    PurgedKFold(np.arange(0, 40, 4), np.arange(3, 43, 4), times=times, n_splits=2)
    times[7] = far
    message = f"times: {far} lies outside the years that nanoseconds can count"
    with pytest.raises(ConfigError, match=re.escape(message)):
        PurgedKFold(np.arange(0, 40, 4), np.arange(3, 43, 4), times=times, n_splits=2)


@given(
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.sampled_from(["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns"]),
)
def test_an_array_of_times_is_exact_or_refused(count: int, unit: str) -> None:
    times = np.array([count], f"datetime64[{unit}]")
    try:
        nanoseconds = int(nanoseconds_of_all("times", times)[0])
    except ConfigError:
        limit = (
            np.datetime64(2**63 - 1, "ns").astype(times.dtype),
            np.datetime64(1 - 2**63, "ns").astype(times.dtype),
        )
        assert times[0] >= limit[0] or times[0] <= limit[1]
    else:
        assert np.datetime64(nanoseconds, "ns").astype(times.dtype) == times[0]


@pytest.mark.parametrize("given", ["noon", 5, None, np.datetime64("NaT"), timedelta(1)])
def test_values_that_are_not_times_are_refused(given: object) -> None:
    with pytest.raises(ConfigError, match=r"is no time; write 2020-06-10, or 2020-06-10T14:30:00Z"):
        nanoseconds_of("to", given)


def test_times_without_an_offset_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'2020-06-10T14:30' has no offset; write Z after it"):
        nanoseconds_of("to", "2020-06-10T14:30")
