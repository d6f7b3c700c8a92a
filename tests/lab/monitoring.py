"""One disposable Prometheus on a loopback port, fed with series of any past through its remote-write receiver.

Scraping can only say what is true now; what an incident leaves behind has a past. Whatever the receiver stored, the real query engine
answers from. The programs stop and the data goes with the process that made it. The encoding is remote write 1.0
(https://prometheus.io/docs/specs/prw/remote_write_spec/): protobuf in snappy's block format, of which only literals are written.
"""

from __future__ import annotations

import secrets
import struct
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2
from msgspec import Struct

from tests.lab.processes import LabStartError, Processes, free_ports

START_SECONDS = 240.0
STARTS = 3
# Prometheus marks the end of a series with this NaN (prometheus/model/value/value.go, StaleNaN).
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
_CONFIGURATION = """
global: {scrape_interval: 1h, evaluation_interval: 1h}
storage:
  tsdb: {out_of_order_time_window: 3650d}
"""


class Line(Struct, frozen=True):
    """One series: its labels, `__name__` among them, and (when, value), oldest first."""

    labels: Mapping[str, str]
    samples: Sequence[tuple[datetime, float]]


class Prometheus:
    """A running server. Use as a context manager, or call `close`."""

    def __init__(self, binary: Path) -> None:
        self.binary = binary
        self.folder = Path(tempfile.mkdtemp(prefix="smokejumper-prometheus-"))
        self._processes = Processes(self.folder, self.folder)
        try:
            # A port that was free may be taken by the time it is used; then another one is.
            for attempt in range(STARTS):
                if self._started(binary, last=attempt == STARTS - 1):
                    break
        except BaseException:
            self.close()
            raise

    def _started(self, binary: Path, *, last: bool) -> bool:
        [port] = free_ports(1)
        # Below a path of its own, so that no other server that was given the port can answer for it.
        self.url = f"http://127.0.0.1:{port}/{secrets.token_hex(8)}"
        configuration = self.folder / "prometheus.yaml"
        configuration.write_text(_CONFIGURATION, "utf-8")
        name = f"prometheus-{port}"
        self.pid = self._processes.start(
            name,
            [
                str(binary),
                f"--config.file={configuration}",
                f"--storage.tsdb.path={self.folder / f'data-{port}'}",
                f"--web.listen-address=127.0.0.1:{port}",
                f"--web.external-url={self.url}",
                "--web.enable-remote-write-receiver",
                "--storage.tsdb.retention.time=10y",
                # Series of years apart lie in one head: otherwise it is cut into two-hour blocks, which takes a core for hours.
                "--storage.tsdb.min-block-duration=20y",
                "--storage.tsdb.max-block-duration=20y",
                "--log.level=warn",
            ],
        )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                self._processes.require_alive()
                if httpx2.get(f"{self.url}/-/ready", timeout=5).status_code == 200:
                    return True
            except LabStartError:
                if last:
                    raise
                del self._processes.pids[name]
                return False
            except httpx2.HTTPError:
                pass
            time.sleep(0.1)
        raise LabStartError(f"Prometheus was not ready within {START_SECONDS:g} seconds\n{self._processes.tail(name)}")

    def write(self, lines: Iterable[Line]) -> None:
        """Store series. What is written is visible to queries when this returns. Raises LabStartError when the server refuses."""
        answer = httpx2.post(
            f"{self.url}/api/v1/write",
            content=_snappy(_request(lines)),
            headers={
                "Content-Type": "application/x-protobuf",
                "Content-Encoding": "snappy",
                "X-Prometheus-Remote-Write-Version": "0.1.0",
            },
            timeout=120,
        )
        if answer.status_code != 204:
            raise LabStartError(f"Prometheus did not take the series: HTTP {answer.status_code} {answer.text[:500]}")

    def close(self) -> None:
        """Stop the server and delete its data. May be called twice."""
        self._processes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _request(lines: Iterable[Line]) -> bytes:
    """WriteRequest{timeseries=1}, TimeSeries{labels=1, samples=2}, Label{name=1, value=2}, Sample{value=1, timestamp=2 in ms}."""
    return b"".join(_field(1, _series(line)) for line in lines)


def _series(line: Line) -> bytes:
    labels = b"".join(_field(1, _field(1, key.encode()) + _field(2, value.encode())) for key, value in sorted(line.labels.items()))
    samples = b"".join(
        _field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(int(at.timestamp() * 1000))) for at, value in line.samples
    )
    return labels + samples


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field (wire type 2)."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def _snappy(content: bytes) -> bytes:
    """Snappy's block format without compression: the length, then literals of at most 64 KiB (format_description.txt, section 2.1)."""
    chunks = (content[at : at + 65_536] for at in range(0, len(content), 65_536))
    return _varint(len(content)) + b"".join(b"\xf4" + struct.pack("<H", len(chunk) - 1) + chunk for chunk in chunks)
