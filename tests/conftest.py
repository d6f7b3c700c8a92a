"""What every test shares: anyio on asyncio, and the lab for tests that need a real control plane or a real Prometheus."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from tests.lab.lab import Lab
    from tests.lab.monitoring import Prometheus
    from tests.postgres import Databases

T = TypeVar("T")
# "required" makes a lab that cannot run a failure instead of a skip; "off" skips its tests without trying.
LAB_SETTING = "SMOKEJUMPER_LAB"
# What each process of a run has to say of the lab at its end.
_LAB_NOTES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """A shell without job control starts background jobs with SIGINT ignored, and so would every process that a test interrupts."""
    config.stash[_LAB_NOTES] = []
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The real control plane, one for the session. Tests that use it carry the marker `lab`.

    At the end its audit log is compared with the ledgers of all tests: a write without a grant fails the session.
    """
    # Imported here: most test runs need neither the lab nor its HTTP client.
    from tests.lab.build import find_or_build
    from tests.lab.lab import Lab

    with Lab(_built(request, find_or_build)) as running:
        yield running
        account = running.account(tmp_path_factory.getbasetemp())
        request.config.stash[_LAB_NOTES].append(str(account))
        if account.offences:
            pytest.fail(f"the audit log has writes that nobody granted: {account}\n{account.complaint()}", pytrace=False)


@pytest.fixture(scope="session")
def prometheus(request: pytest.FixtureRequest) -> Iterator[Prometheus]:
    """The real Prometheus, one for the session: each test writes series under labels of its own. Marked `lab` as well."""
    from tests.lab.build import find_or_build_prometheus
    from tests.lab.monitoring import Prometheus

    with Prometheus(_built(request, find_or_build_prometheus)) as running:
        yield running


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """A real PostgreSQL, one for the session, which starts when the first test needs it."""
    from tests.postgres import Databases, running

    with running() as server:
        yield Databases(server)


def _built(request: pytest.FixtureRequest, build: Callable[[], T]) -> T:
    """The binaries; where they cannot be had, the test is skipped, or fails where the lab is required. A build takes minutes, so that
    what it says of itself is not captured."""
    from tests.lab.build import LabUnavailableError

    setting = os.environ.get(LAB_SETTING, "")
    try:
        if setting == "off":
            raise LabUnavailableError(f"{LAB_SETTING}=off")
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            return build()
    except LabUnavailableError as error:
        if setting == "required":
            pytest.fail(f"{LAB_SETTING}=required, but {error}", pytrace=False)
        request.config.stash[_LAB_NOTES].append(f"all tests that need its real servers were skipped: {error}")
        pytest.skip(str(error))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses the lab is marked so, and comes last: everything quick has failed by then."""
    for item in items:
        if not {"lab", "prometheus"}.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.lab)
    items.sort(key=lambda item: item.get_closest_marker("lab") is not None)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands its notes to the process that prints."""
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["lab"] = session.config.stash[_LAB_NOTES]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[_LAB_NOTES].extend(getattr(node, "workeroutput", {}).get("lab", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    notes = config.stash[_LAB_NOTES]
    for note in dict.fromkeys(notes):
        terminalreporter.write_line(f"lab: {note}")
