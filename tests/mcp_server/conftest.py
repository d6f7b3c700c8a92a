"""The recording of `incident` as a fixture."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.recorded import RecordedReader
from tests.mcp_server.incident import open_incident


@pytest.fixture
def reader(tmp_path: Path) -> RecordedReader:
    return open_incident(tmp_path)
