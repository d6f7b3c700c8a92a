"""A code is right in its half minute, good once, and not to be guessed."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path

import pytest

from guardrails.bundle import SHIPPED, load
from guardrails.directory import Directory
from guardrails.errors import BadDirectory, NotApproved, NotAuthenticated
from guardrails.gate import Gate
from guardrails.office import Office
from guardrails.proposal import State
from guardrails.stepup import PERIOD_SECONDS, WRONG_MAX, code_at, enrolment, period_of
from tests.guardrails.conftest import FakeClock, person, propose_undo

# RFC 6238, appendix B: the secret of the SHA-1 rows, and their last six digits.
SECRET = base64.b32encode(b"12345678901234567890").decode()
VECTORS = {59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"}


@pytest.mark.parametrize("seconds", VECTORS)
def test_the_codes_of_the_standard(seconds: int) -> None:
    assert code_at(SECRET, period_of(datetime.fromtimestamp(seconds, UTC))) == VECTORS[seconds]


def test_what_an_authenticator_app_reads() -> None:
    assert enrolment("bob@example.org", SECRET).startswith(
        f"otpauth://totp/Smokejumper:bob%40example.org?secret={SECRET}&issuer=Smokejumper"
    )


@pytest.fixture
def secret(office: Office) -> str:
    return office.directory.enrol("bob")


def code(secret: str, clock: FakeClock, periods: int = 0) -> str:
    return code_at(secret, period_of(clock.now()) + periods)


@pytest.mark.anyio
@pytest.mark.parametrize("periods", [-1, 0, 1])
async def test_a_code_is_good_once_and_so_are_those_before_it(
    gate: Gate, office: Office, clock: FakeClock, secret: str, periods: int
) -> None:
    assert await gate.step_up(person(office, "bob"), code(secret, clock, periods)) == 2
    for again in (periods, -1):
        with pytest.raises(NotAuthenticated, match="was used already"):
            await gate.step_up(person(office, "bob"), code(secret, clock, again))
    clock.pass_(seconds=2 * PERIOD_SECONDS)
    assert await gate.step_up(person(office, "bob"), code(secret, clock)) == 2


@pytest.mark.anyio
async def test_codes_of_other_times_and_people_are_wrong(gate: Gate, office: Office, clock: FakeClock, secret: str) -> None:
    office.directory.enrol("cleo")
    for wrong in (code(secret, clock, -2), code(secret, clock, 2), "", "12345", "abcdef", "\u0661" * 6):
        with pytest.raises(NotAuthenticated, match=r"is wrong|gave 5 wrong"):
            await gate.step_up(person(office, "bob"), wrong)
    with pytest.raises(NotAuthenticated, match="is wrong"):
        await gate.step_up(person(office, "cleo"), code(secret, clock))
    with pytest.raises(NotAuthenticated, match="no second proof"):
        await gate.step_up(person(office, "ada"), code(secret, clock))


@pytest.mark.anyio
async def test_nobody_guesses_on(gate: Gate, office: Office, clock: FakeClock, secret: str) -> None:
    bob = person(office, "bob")
    for _ in range(WRONG_MAX):
        with pytest.raises(NotAuthenticated, match="is wrong"):
            await gate.step_up(bob, "000000" if code(secret, clock) != "000000" else "111111")
    with pytest.raises(NotAuthenticated, match="Wait 15 minutes"):
        await gate.step_up(bob, code(secret, clock))
    told = [entry.body["wrong"] for entry in await office.ledger.entries() if entry.type == "step_up.refused"]
    assert told == list(range(1, WRONG_MAX + 1))
    clock.pass_(minutes=15)
    assert await gate.step_up(bob, code(secret, clock)) == 2


def test_a_new_secret_voids_the_old_and_is_not_shown_again(people: Directory) -> None:
    first = people.enrol("bob")
    second = people.enrol("bob")
    assert (second != first, people.step_up_secret("bob"), people.step_up_secret("ada")) == (True, second, None)
    assert second not in repr(people.people())
    with pytest.raises(BadDirectory, match="Nobody"):
        people.enrol("stranger")


def ask_for_more(office: Office, folder: Path) -> None:
    """The shipped bundle with assurance 2 wherever one approval is enough."""
    folder.mkdir()
    for file in SHIPPED.iterdir():
        (folder / file.name).write_text(file.read_text().replace('@approvals("1")', '@approvals("1") @assurance("2")'))
    office.bundles.put(load(folder, office.directory.groups))


@pytest.mark.anyio
async def test_a_policy_that_asks_for_more_gets_it_or_nothing(
    gate: Gate, office: Office, clock: FakeClock, secret: str, tmp_path: Path
) -> None:
    ask_for_more(office, tmp_path / "sure")
    shown = await propose_undo(gate)
    bob = person(office, "bob")
    with pytest.raises(NotAuthenticated, match="assurance 2"):
        await gate.approve(shown.id, shown.digest or "", bob, "cli")
    # What was refused is not recorded, so bob may come back with his code.
    assurance = await gate.step_up(bob, code(secret, clock))
    approved = await gate.approve(shown.id, shown.digest or "", bob, "cli", assurance=assurance)
    assert (approved.state, [one.assurance for one in approved.approvals]) == (State.APPROVED, [2])
    assert (await gate.execute(shown.id, shown.digest or "", "ada")).state is State.SUCCEEDED


@pytest.mark.anyio
async def test_a_policy_that_asks_for_more_meanwhile_voids_what_was_less(gate: Gate, office: Office, tmp_path: Path) -> None:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    ask_for_more(office, tmp_path / "sure")
    with pytest.raises(NotApproved, match="assurance 1 is below 2"):
        await gate.execute(shown.id, shown.digest or "", "ada")
    # Whoever agreed to less may still refuse.
    assert (await gate.deny(shown.id, shown.digest or "", person(office, "cleo"), "cli")).state is State.DENIED
