"""Time series from a CSV file: long (one sample a line) or wide (one column per series). Read by meaning of the header, bounded."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from cluster.reading import Sample, Series
from cluster.timestamps import parse_time

SAMPLES_LIMIT = 2_000_000
NAME_LABEL = "__name__"
SUBJECT_LABEL = "subject"

_TIME = frozenset({"time", "timestamp", "ts", "date", "datetime", "@timestamp", "_time"})
_NAME = frozenset({"metric", "metric_name", "metricname", "name", "__name__", "kpi", "kpi_name", "measure"})
_VALUE = frozenset({"value", "val", "_value"})
_SEPARATORS = re.compile(r"[-_.:/|]+")


def read_series(text: str) -> tuple[tuple[Series, ...], str | None]:
    """The series of a CSV text, and what was left out (None: nothing). Rows without a readable time or number are left out.

    A wide column `web-cpu` becomes the labels `__name__="cpu"`, `subject="web"`: which part is the metric is told by how many
    columns share it.
    """
    try:
        return _read(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        return (), f"it is no CSV: {error}"


def _read(rows: Iterator[list[str]]) -> tuple[tuple[Series, ...], str | None]:
    header = [cell.strip() for cell in next(rows, [])]
    lowered = [cell.lower() for cell in header]
    time_at = next((index for index, cell in enumerate(lowered) if cell in _TIME), None)
    if time_at is None:
        return (), "the CSV has no column of times"
    value_at = next((index for index, cell in enumerate(lowered) if cell in _VALUE), None)
    gathered: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    skipped = count = 0
    columns = _wide_labels(header, time_at)
    for row in rows:
        at = parse_time(row[time_at]) if len(row) > time_at else None
        if at is None:
            skipped += bool(row)
            continue
        cells = ((_long_labels(header, row, time_at, value_at), row[value_at]),) if value_at is not None and len(row) > value_at else ()
        for labels, cell in cells if value_at is not None else ((columns[i], row[i]) for i in columns if i < len(row)):
            number = _number(cell)
            if number is None:
                skipped += bool(cell.strip())
                continue
            gathered.setdefault(labels, []).append(Sample(at, number))
            count += 1
        if count >= SAMPLES_LIMIT:
            return _series(gathered), f"stopped after {count} samples"
    return _series(gathered), f"{skipped} cells or rows could not be read" if skipped else None


def matching(series: Iterable[Series], name: str, labels: Mapping[str, str]) -> tuple[Series, ...]:
    """The series of that name whose labels include all of `labels`; an empty name is any."""
    return tuple(
        item
        for item in series
        if (not name or item.labels.get(NAME_LABEL) == name) and all(item.labels.get(key) == value for key, value in labels.items())
    )


def _series(gathered: Mapping[tuple[tuple[str, str], ...], list[Sample]]) -> tuple[Series, ...]:
    return tuple(Series(dict(labels), tuple(sorted(samples, key=lambda item: item.at))) for labels, samples in gathered.items())


def _long_labels(header: list[str], row: list[str], time_at: int, value_at: int) -> tuple[tuple[str, str], ...]:
    labels: dict[str, str] = {}
    for index, cell in enumerate(row[: len(header)]):
        if index in (time_at, value_at) or not cell:
            continue
        key = header[index]
        if key.lower() in _NAME and NAME_LABEL not in labels:
            labels[NAME_LABEL] = cell
        elif key.lower() in ("labels", "tags"):
            labels.update(_packed(cell))
        else:
            labels[key] = cell
    return tuple(sorted(labels.items()))


def _packed(cell: str) -> dict[str, str]:
    """Labels in one cell: JSON, `{a="b",c="d"}`, `a=b;c=d`."""
    try:
        document = msgspec.json.decode(cell)
        return {str(key): str(value) for key, value in document.items()} if isinstance(document, dict) else {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        return dict(re.findall(r'([\w.@/-]+)\s*=\s*"?([^",;}]*)"?', cell))


def _wide_labels(header: list[str], time_at: int) -> dict[int, tuple[tuple[str, str], ...]]:
    names = {index: cell for index, cell in enumerate(header) if index != time_at and cell}
    endings = Counter(ending for cell in names.values() for _, ending in _splits(cell))
    labels: dict[int, tuple[tuple[str, str], ...]] = {}
    for index, cell in names.items():
        splits = _splits(cell)
        if not splits:
            labels[index] = ((NAME_LABEL, cell),)
            continue
        # The ending most columns share is the metric; of endings that are shared as much, the longest ("cpu_cfs", not "cfs").
        subject, ending = max(splits, key=lambda pair: (endings[pair[1]], len(pair[1])))
        labels[index] = ((NAME_LABEL, ending), (SUBJECT_LABEL, subject))
    return labels


def _splits(cell: str) -> list[tuple[str, str]]:
    return [(cell[: m.start()], cell[m.end() :]) for m in _SEPARATORS.finditer(cell) if m.start() > 0 and m.end() < len(cell)]


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
