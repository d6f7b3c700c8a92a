"""Series from CSV, long and wide."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cluster.seriesfile import matching, read_series
from cluster.timestamps import parse_time


def test_wide_columns_tell_subject_and_metric() -> None:
    columns = ("web-cpu", "web-cpu_cfs", "redis-cart-cpu", "redis-cart-cpu_cfs")
    nodes = ("worker-01-cpu", "worker-01-tcp_retrans", "worker-02-cpu", "worker-02-tcp_retrans")
    header = ",".join(("time", *columns, *nodes))
    series, cut = read_series(header + "\n2026-01-02 03:00:00,1,2,3,4,5,6,7,8\n")
    assert cut is None
    names = {(item.labels["subject"], item.labels["__name__"]): item.samples[0].value for item in series}
    assert names[("redis-cart", "cpu")] == 3
    assert names[("redis-cart", "cpu_cfs")] == 4
    assert names[("worker-01", "tcp_retrans")] == 6
    assert series[0].samples[0].at == datetime(2026, 1, 2, 3, tzinfo=UTC)


def test_wide_columns_with_underscores() -> None:
    series, _ = read_series("timestamp,web_latency-50,carts-db_latency-50,web_mem,carts-db_mem\n1767322800,1,2,3,4\n")
    assert {(item.labels["subject"], item.labels["__name__"]) for item in series} == {
        ("web", "latency-50"),
        ("carts-db", "latency-50"),
        ("web", "mem"),
        ("carts-db", "mem"),
    }


def test_long_rows_with_labels() -> None:
    text = (
        "timestamp,metric,pod,labels,value\n"
        '1767322800,cpu,web-1,"{""zone"":""a""}",0.5\n'
        '1767322860,cpu,web-1,"{zone=""a""}",0.7\n'
        "1767322800,cpu,web-2,zone=b,9\n"
    )
    series, cut = read_series(text)
    assert cut is None
    (web,) = matching(series, "cpu", {"pod": "web-1"})
    assert [sample.value for sample in web.samples] == [0.5, 0.7]
    assert web.labels == {"__name__": "cpu", "pod": "web-1", "zone": "a"}
    assert len(matching(series, "", {})) == 2
    assert matching(series, "mem", {}) == ()


def test_what_cannot_be_read_is_left_out_and_said() -> None:
    series, cut = read_series("time,web-cpu,db-cpu\nnonsense,1,2\n2026-01-02 03:00:00,oops,2\n2026-01-02 03:01:00,,3\n")
    assert [len(item.samples) for item in series] == [2]
    assert cut == "2 cells or rows could not be read"
    assert read_series("a,b\n1,2\n") == ((), "the CSV has no column of times")
    assert read_series("")[0] == ()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.123456789Z", datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("2026-01-02 03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (1767323045, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (1767323045000, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("1767323045000000000", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02 03:04:05 ~ 2026-01-02 04:00:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("soon", None),
        (None, None),
        (True, None),
        ("99", None),
    ],
)
def test_moments(value: object, expected: datetime | None) -> None:
    assert parse_time(value) == expected


def test_a_cell_without_end_is_no_csv() -> None:
    series, complaint = read_series("time,value\n2026-01-01T00:00:00Z," + "9" * 200_000)
    assert series == ()
    assert complaint is not None
    assert "field larger" in complaint
