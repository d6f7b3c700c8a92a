"""What guardrails raise. Every error has a stable `code` for programs and a message that says what, where and what to do next.

Names say what happened, as people say it ("stale", "expired"), without an Error suffix.
"""

# ruff: noqa: N818

from __future__ import annotations


class GuardrailsError(Exception):
    """Root of the package's errors. `code` is stable and part of every surface's contract."""

    code = "guardrails"

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(f"{message} {next_step}".strip())
        self.message = message
        self.next_step = next_step


class InvalidAction(GuardrailsError):
    """The action or its target is not in the vocabulary, or a parameter is out of bounds."""

    code = "invalid_action"


class Impossible(GuardrailsError):
    """The action is legal but its precondition does not hold on this object."""

    code = "impossible"


class TargetNotFound(GuardrailsError):
    """The target does not exist, or an object of another uid has taken its name."""

    code = "target_not_found"


class Unreachable(GuardrailsError):
    """The cluster did not answer, so nothing is known about it."""

    code = "unreachable"


class Forbidden(GuardrailsError):
    """The cluster refuses to let our account read or write this."""

    code = "forbidden"


class InvalidGrant(GuardrailsError):
    """A request does not match the grant it was sent with."""

    code = "invalid_grant"


class UnknownCluster(GuardrailsError):
    """No port leads to a cluster of that name."""

    code = "unknown_cluster"


class UnknownProposal(GuardrailsError):
    """No proposal of that id."""

    code = "unknown_proposal"


class IllegalTransition(GuardrailsError):
    """The proposal's state does not allow this."""

    code = "illegal_transition"


class Conflict(GuardrailsError):
    """Somebody else changed the proposal in the meantime."""

    code = "conflict"


class KeyTaken(Conflict):
    """An idempotency key stands for something else that was asked for: by somebody else, or another action or object."""

    code = "key_taken"


class NotApproved(GuardrailsError):
    """Approvals are missing."""

    code = "not_approved"


class NotEligible(GuardrailsError):
    """This person belongs to none of the groups whose approval is required."""

    code = "not_eligible"


class OwnApproval(GuardrailsError):
    """The requester or a contributor tried to decide on their own proposal."""

    code = "own_approval"


class Expired(GuardrailsError):
    """The proposal's time is over."""

    code = "expired"


class AlreadyExecuted(GuardrailsError):
    """The proposal was executed, or is being executed, already."""

    code = "already_executed"


class DigestMismatch(GuardrailsError):
    """The digest named is not the digest of this proposal."""

    code = "digest_mismatch"


class Stale(GuardrailsError):
    """The object is no longer what was approved."""

    code = "stale"


class Denied(GuardrailsError):
    """The policy, or a person, denied the proposal."""

    code = "denied"


class KillSwitchOn(GuardrailsError):
    """Writing is switched off."""

    code = "kill_switch"


class BudgetSpent(GuardrailsError):
    """Too many changes in the current hour, or another change holds this target."""

    code = "budget"


class TooManyApprovals(GuardrailsError):
    """One person approves faster than anybody can read."""

    code = "approval_rate"


class NotAuthenticated(GuardrailsError):
    """The token belongs to nobody in the directory."""

    code = "not_authenticated"


class BadDirectory(GuardrailsError):
    """The directory of people cannot be read or written, or a person in it is malformed."""

    code = "bad_directory"


class BadBundle(GuardrailsError):
    """A policy bundle was refused; the last good one stays in force."""

    code = "bad_bundle"


class BadStore(GuardrailsError):
    """The database cannot be used."""

    code = "bad_store"


class UnknownCommit(BadStore):
    """The database went away while it stored a change, so nobody knows whether it did. To be looked at, never to be repeated blindly."""

    code = "unknown_commit"


class BadLedger(GuardrailsError):
    """The ledger or its key cannot be used."""

    code = "bad_ledger"
