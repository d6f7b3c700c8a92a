"""The gate of the room below, with its clock, its cluster in memory and its people."""

from __future__ import annotations

from tests.guardrails.conftest import clock as clock
from tests.guardrails.conftest import cluster as cluster
from tests.guardrails.conftest import database as database
from tests.guardrails.conftest import furnished as furnished
from tests.guardrails.conftest import gate as gate
from tests.guardrails.conftest import office as office
from tests.guardrails.conftest import people as people
