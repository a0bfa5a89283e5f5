"""The packed location record."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearby.errors import RecordError
from nearby.geo import cell_centre, distance_m
from nearby.model import Location
from nearby.record import SIZE_BYTES, LocationRecord, approximate, pack, unpack, with_version

INT64 = st.integers(-(2**63), 2**63 - 1)
LATITUDES = st.floats(-90, 90)
LONGITUDES = st.floats(-180, 180)


def optional(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[float | None]:
    return st.none() | numbers


RECORDS = st.builds(
    LocationRecord,
    version=INT64,
    recorded_at_ms=INT64,
    lat_deg=LATITUDES,
    lon_deg=LONGITUDES,
    accuracy_m=optional(st.floats(0, 100_000)),
    speed_mps=optional(st.floats(0, 500)),
    heading_deg=optional(st.floats(0, 360, exclude_max=True)),
)


def agree(found: float | None, expected: float | None, *, rel: float = 0.0, abs_: float = 1e-40) -> bool:
    if found is None or expected is None:
        return found is expected
    return abs(found - expected) <= max(abs_, rel * abs(expected))


@given(RECORDS)
def test_a_record_survives_packing(record: LocationRecord) -> None:
    packed = pack(record)
    found = unpack(packed)
    assert len(packed) == SIZE_BYTES
    assert (found.version, found.recorded_at_ms) == (record.version, record.recorded_at_ms)
    assert distance_m(record.lat_deg, record.lon_deg, found.lat_deg, found.lon_deg) <= 0.012
    assert agree(found.accuracy_m, record.accuracy_m, rel=1e-6)
    assert agree(found.speed_mps, record.speed_mps, abs_=0.0051)
    if record.heading_deg is not None:
        assert found.heading_deg is not None
        assert 0 <= found.heading_deg < 360
        turned = found.heading_deg + (360 if record.heading_deg > 359.99 and found.heading_deg < 1 else 0)
        assert agree(turned, record.heading_deg, abs_=0.0051)
    else:
        assert found.heading_deg is None


@given(RECORDS)
def test_packing_what_was_unpacked_changes_nothing(record: LocationRecord) -> None:
    packed = pack(record)
    assert pack(unpack(packed)) == packed


@given(RECORDS, INT64)
def test_a_version_is_replaced_in_place(record: LocationRecord, version: int) -> None:
    assert with_version(pack(record), version) == pack(record._replace(version=version))


def test_the_layout_is_the_documented_one() -> None:
    record = LocationRecord(0x0102030405060708, 0x1112131415161718, 1.0, -1.0, 0.5, 2.58, 1.0)
    assert pack(record).hex(" ", -2) == (
        "0107 0807 0605 0403 0201 1817 1615 1413 1211 8096 9800 8069 67ff 0000 003f 0201 6400"
    )


def test_what_is_unknown_stays_unknown_and_zero_stays_zero() -> None:
    unknown = LocationRecord(1, 2, 3.0, 4.0)
    zero = LocationRecord(1, 2, 3.0, 4.0, 0.0, 0.0, 0.0)
    assert unpack(pack(unknown)) == unknown
    assert unpack(pack(zero)) == zero


def test_a_heading_that_rounds_to_a_full_turn_is_north() -> None:
    assert unpack(pack(LocationRecord(0, 0, 0.0, 0.0, heading_deg=359.999))).heading_deg == 0


def test_a_record_carries_a_location_and_back() -> None:
    location = Location(1.0, 2.0, 3, 4.0, 5.0, 6.0)
    record = LocationRecord.of(location, version=7)
    assert (record.version, record.location) == (7, location)


@pytest.mark.parametrize(
    "record",
    [
        LocationRecord(2**63, 0, 0.0, 0.0),
        LocationRecord(0, 2**63, 0.0, 0.0),
        LocationRecord(0, 0, 215.0, 0.0),
        LocationRecord(0, 0, 0.0, -215.0),
        LocationRecord(0, 0, 0.0, 0.0, accuracy_m=1e39),
        LocationRecord(0, 0, 0.0, 0.0, speed_mps=656.0),
        LocationRecord(0, 0, 0.0, 0.0, speed_mps=-1.0),
    ],
)
def test_a_field_that_does_not_fit_is_refused(record: LocationRecord) -> None:
    with pytest.raises(RecordError):
        pack(record)


@pytest.mark.parametrize(
    "record",
    [
        LocationRecord(0, 0, float("nan"), 0.0),
        LocationRecord(0, 0, 0.0, float("inf")),
        LocationRecord(0, 0, 0.0, 0.0, speed_mps=float("nan")),
        LocationRecord(0, 0, 0.0, 0.0, heading_deg=float("inf")),
    ],
)
def test_a_field_that_is_no_number_is_refused(record: LocationRecord) -> None:
    with pytest.raises(RecordError):
        pack(record)


@given(st.binary(max_size=2 * SIZE_BYTES))
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    try:
        record = unpack(data)
    except RecordError:
        assert len(data) != SIZE_BYTES or data[0] != 1
    else:
        assert (len(data), data[0]) == (SIZE_BYTES, 1)
        assert isinstance(record, LocationRecord)


def test_a_record_of_a_newer_format_is_refused() -> None:
    data = bytes([2]) + pack(LocationRecord(0, 0, 0.0, 0.0))[1:]
    with pytest.raises(RecordError, match="format 2"):
        unpack(data)


@given(RECORDS)
def test_an_approximate_record_tells_the_cell_and_the_instant_and_nothing_else(record: LocationRecord) -> None:
    coarse = approximate(record)
    assert coarse == LocationRecord(
        record.version, record.recorded_at_ms, *cell_centre(record.lat_deg, record.lon_deg), None, None, None
    )
    assert approximate(unpack(pack(coarse))) == coarse, "packing keeps it in its cell"
