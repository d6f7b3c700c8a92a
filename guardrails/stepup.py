"""A second proof beside the token: a code of six digits that changes every half minute (RFC 6238), each good once.

Where a policy asks for assurance 2, a leaked token is not enough. A code is used up in the database before it counts, and after a few
wrong ones a person waits, because a million codes are soon tried. The shared secret lies in the directory, which only its owner reads.
"""

from __future__ import annotations

import base64
import hmac
from datetime import datetime, timedelta
from urllib.parse import quote

from sqlalchemy import insert, select, update

from guardrails.budget import stamp
from guardrails.errors import GuardrailsError, NotAuthenticated
from guardrails.ledger import Writing
from guardrails.store import step_ups

ASSURANCE = 2
DIGITS = 6
PERIOD_SECONDS = 30
# A clock may be half a minute off, either way.
DRIFT = 1
WRONG_MAX = 5
WAIT = timedelta(minutes=15)


def enrolment(person: str, secret: str) -> str:
    """The address that an authenticator app scans or is given, once."""
    label = quote(f"Smokejumper:{person}", safe=":")
    return f"otpauth://totp/{label}?secret={secret}&issuer=Smokejumper&digits={DIGITS}&period={PERIOD_SECONDS}"


def code_at(secret: str, counter: int) -> str:
    """The code of one period (RFC 4226 section 5.3, HMAC-SHA-1, which every authenticator app speaks)."""
    mac = hmac.digest(base64.b32decode(secret), counter.to_bytes(8, "big"), "sha1")
    start = mac[-1] & 0x0F
    number = int.from_bytes(mac[start : start + 4], "big") & 0x7FFF_FFFF
    return str(number % 10**DIGITS).zfill(DIGITS)


def period_of(moment: datetime) -> int:
    """The number of the period a moment lies in."""
    return int(moment.timestamp()) // PERIOD_SECONDS


async def use(writing: Writing, person: str, secret: str | None, code: str) -> GuardrailsError | None:
    """Use up a code. What is returned is to be raised after the transaction, which keeps the count of wrong ones and an entry for each."""
    if secret is None:
        return NotAuthenticated(
            f"{person} has no second proof.", next_step=f"An administrator gives one: smokejumper people step-up {person}"
        )
    known = select(step_ups).where(step_ups.c.person == person.casefold())
    row = (await writing.connection.execute(known)).one_or_none()
    if row is None:
        await writing.connection.execute(insert(step_ups).values(person=person.casefold(), counter=-1, wrong=0, wrong_at=""))
    used, wrong = (-1, 0) if row is None else (row.counter, row.wrong if row.wrong_at > stamp(writing.now - WAIT) else 0)
    mine = update(step_ups).where(step_ups.c.person == person.casefold())
    if wrong >= WRONG_MAX:
        return NotAuthenticated(f"{person} gave {wrong} wrong codes.", next_step=f"Wait {int(WAIT.total_seconds()) // 60} minutes.")
    now = period_of(writing.now)
    given = code.encode("utf-8", "surrogatepass")
    fits = [counter for counter in range(now - DRIFT, now + DRIFT + 1) if hmac.compare_digest(code_at(secret, counter).encode(), given)]
    if not fits or max(fits) <= used:
        await writing.connection.execute(mine.values(wrong=wrong + 1, wrong_at=stamp(writing.now)))
        await writing.append("step_up.refused", None, {"person": person, "wrong": wrong + 1})
        why = "was used already" if fits else "is wrong"
        return NotAuthenticated(f"The code of {person} {why}.", next_step="Take the next one from the authenticator app.")
    await writing.connection.execute(mine.values(counter=max(fits), wrong=0, wrong_at=""))
    return None
