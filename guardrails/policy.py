"""From facts to a verdict, by the rules of one bundle. Pure, and closed on every doubt.

Two questions are asked (guardrails design, "split sets"): may this run by itself, and may it run when people agree. An error of the
engine, a missing answer or a request that does not fit the schema is a deny: in Cedar a rule that fails to evaluate is skipped, so a
broken forbid would otherwise allow.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import cedarpy
from msgspec import Struct
from pydantic import BaseModel, ConfigDict

from guardrails.facts import Facts

Effect = Literal["auto", "approve", "deny"]
ENGINE_ERROR = "engine-error"
DEFAULT_DENY = "default-deny"
ENGINE = f"cedarpy {cedarpy.__version__}" if hasattr(cedarpy, "__version__") else "cedarpy 4.12.2"


class Rule(Struct, frozen=True):
    """One policy of a bundle by its `@id`. The last four are those of an approve rule."""

    id: str
    effect: Literal["deny", "escalate", "auto", "approve"]
    approvals: int = 0
    approvers: tuple[str, ...] = ()
    ttl_seconds: int | None = None
    assurance: int = 1


class Policy(Struct, frozen=True):
    """A loaded bundle: only `guardrails.bundle` makes one, and never without its schema."""

    sha256: str
    rules: dict[str, Rule]
    schema: cedarpy.Schema
    automatic: cedarpy.PolicySet
    approvable: cedarpy.PolicySet


class Requirement(BaseModel):
    """Whose agreement is needed: so many distinct people of each group, with at least this assurance, in this time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    approvals: dict[str, int] = {}
    assurance: int = 1
    ttl_seconds: int = 1800

    def at_least(self, other: Requirement) -> Requirement:
        """The stricter of both in every respect."""
        groups = {g: max(self.approvals.get(g, 0), other.approvals.get(g, 0)) for g in {*self.approvals, *other.approvals}}
        return Requirement(
            approvals=dict(sorted(groups.items())),
            assurance=max(self.assurance, other.assurance),
            ttl_seconds=min(self.ttl_seconds, other.ttl_seconds),
        )


class Verdict(BaseModel):
    """What the policy says. `rules` decided; `escalated_by` took away the automatic way; `inputs_digest` names what was asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    effect: Effect
    rules: tuple[str, ...]
    escalated_by: tuple[str, ...] = ()
    requirement: Requirement = Requirement()
    reason: str
    bundle: str
    engine: str = ENGINE
    inputs_digest: str


def decide(policy: Policy, facts: Facts) -> Verdict:
    """The verdict over these facts; never raises."""
    request, entities = facts.question()
    inputs = hashlib.sha256(json.dumps([request, entities], sort_keys=True).encode()).hexdigest()

    def verdict(effect: Effect, rules: list[str], reason: str, escalated: list[str], requirement: Requirement | None = None) -> Verdict:
        return Verdict(
            effect=effect,
            rules=tuple(sorted(rules)),
            escalated_by=tuple(sorted(escalated)),
            requirement=requirement or Requirement(),
            reason=reason,
            bundle=policy.sha256,
            inputs_digest=inputs,
        )

    allowed, matched, broken = _ask(policy, policy.automatic, request, entities)
    if broken:
        return verdict("deny", [ENGINE_ERROR], f"The policy engine could not decide: {broken}", [])
    if allowed:
        return verdict("auto", matched, "May run without a person.", [])
    denies = [rule for rule in matched if policy.rules[rule].effect == "deny"]
    escalations = [rule for rule in matched if policy.rules[rule].effect == "escalate"]
    if denies:
        return verdict("deny", denies, f"Forbidden by {', '.join(sorted(denies))}.", escalations)
    allowed, matched, broken = _ask(policy, policy.approvable, request, entities)
    if broken:
        return verdict("deny", [ENGINE_ERROR], f"The policy engine could not decide: {broken}", escalations)
    if not allowed:
        return verdict("deny", matched or [DEFAULT_DENY], "No rule allows this.", escalations)
    requirement = _requirement([policy.rules[rule] for rule in matched])
    who = ", ".join(f"{count} of {group}" for group, count in requirement.approvals.items())
    return verdict("approve", matched, f"Needs approval: {who}.", escalations, requirement)


def _ask(policy: Policy, rules: cedarpy.PolicySet, request: dict[str, Any], entities: list[dict[str, Any]]) -> tuple[bool, list[str], str]:
    """(allowed, ids of the rules that decided, what is broken)."""
    try:
        answer = cedarpy.is_authorized(request, rules, entities, schema=policy.schema)
    except (ValueError, OverflowError, TypeError) as error:
        return False, [], str(error)[:300]
    diagnostics = answer.diagnostics
    if diagnostics.errors:
        return False, [], "; ".join(str(error) for error in diagnostics.errors)[:300]
    if answer.decision is cedarpy.Decision.NoDecision:
        return False, [], "no decision: the request does not fit the schema"
    ids = diagnostics.id_annotations_by_reason
    matched = [ids.get(reason, "") for reason in diagnostics.reasons]
    if any(rule not in policy.rules for rule in matched):
        return False, [], "a rule without an id decided"
    return answer.allowed, matched, ""


def _requirement(rules: list[Rule]) -> Requirement:
    """Per group the maximum over all rules that matched, the highest assurance, the shortest time."""
    groups: dict[str, int] = {}
    for rule in rules:
        for group in rule.approvers:
            groups[group] = max(groups.get(group, 0), rule.approvals)
    times = [rule.ttl_seconds for rule in rules if rule.ttl_seconds is not None]
    return Requirement(
        approvals=dict(sorted(groups.items())),
        assurance=max((rule.assurance for rule in rules), default=1),
        ttl_seconds=min(times, default=1800),
    )
