"""What is legal in a bundle and probably not meant, found by asking it: questions that a careful bundle answers with no.

It looks at answers, not at text, so it does not matter how the rules are written. It refuses nothing: the loader does that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct, structs

from guardrails.facts import Circumstances, Facts, NodeFacts, WorkloadFacts
from guardrails.policy import Policy, decide

CALM = Circumstances(validated=True, requester_reviewed=True, reversible=True, pods_affected=1)
_COMMENT = re.compile(r"//[^\n]*")
_ACTION = re.compile(r"\baction\s+([\w\s,\"]+?)\s+in\s+\[?mutate\]?\s*appliesTo\s*\{[^}]*?resource:\s*\[?\s*(\w+)")
_ENVIRONMENTS = ("prod", "staging")
# (what must be so, facts of the moment, whether even people's agreement must not be enough)
_QUESTIONS: tuple[tuple[str, dict[str, Any], bool], ...] = (
    ("while the kill switch is on", {"kill_switch": True}, True),
    ("without validation by the cluster", {"validated": False}, True),
    ("during a change freeze", {"frozen": True}, True),
    ("when the argument rests on free text", {"tainted": True}, False),
    ("when something could not be read", {"unseen": True}, False),
    ("when GitOps or an operator owns the object", {"controlled": True}, False),
    ("when GPUs are at stake", {"gpus": 8}, False),
    ("when two verifications just failed", {"failed_last_hour": 2}, False),
    ("after a hundred automatic changes in an hour", {"automatic_last_hour": 100}, False),
)


class Remark(Struct, frozen=True):
    """One thing that a careful reader would ask about."""

    code: str
    what: str


def lint(policy: Policy, schema: str) -> tuple[Remark, ...]:
    """Remarks on a loaded bundle, each at most once. `schema` is its text, which names the actions."""
    actions = actions_of(schema)
    found = dict.fromkeys((*_answers(policy, actions), *_shape(policy)))
    return tuple(found)


def actions_of(schema: str) -> dict[str, str]:
    """The actions in the group `mutate`, each with the entity that it is about: Workload or Node. The engine itself cannot list them."""
    found: dict[str, str] = {}
    for names, kind in _ACTION.findall(_COMMENT.sub("", schema)):
        found |= dict.fromkeys((name.strip(' "\n') for name in names.split(",")), kind)
    return found


def _answers(policy: Policy, actions: dict[str, str]) -> Iterator[Remark]:
    for action, kind in actions.items():
        for environment in _ENVIRONMENTS:
            calm = _facts(action, kind, environment, CALM)
            effect = decide(policy, calm).effect
            if effect == "auto" and environment == "prod":
                yield Remark("auto-in-production", f"{action} in production runs without a person.")
            for when, circumstances, never in _QUESTIONS:
                answer = decide(policy, structs.replace(calm, circumstances=structs.replace(CALM, **circumstances)))
                if never and answer.effect != "deny":
                    yield Remark("allowed", f"{action} is possible {when}.")
                elif answer.effect == "auto":
                    yield Remark("auto", f"{action} runs without a person {when}.")
            if decide(policy, structs.replace(calm, tenants=("another",))).effect != "deny":
                yield Remark("tenant", f"{action} is possible for people of another tenant.")
            if isinstance(calm.resource, WorkloadFacts):
                system = structs.replace(calm, resource=structs.replace(calm.resource, ns="kube-system"))
                if decide(policy, system).effect != "deny":
                    yield Remark("system-namespace", f"{action} is possible in kube-system.")
        if all(decide(policy, _facts(action, kind, e, CALM)).effect == "deny" for e in _ENVIRONMENTS):
            yield Remark("never", f"{action} is never possible, not even with agreement; if that is meant, nothing is wrong.")


def _shape(policy: Policy) -> Iterator[Remark]:
    for rule in policy.rules.values():
        if rule.effect == "approve" and rule.ttl_seconds is not None and rule.ttl_seconds > 86_400:
            yield Remark("long-lived", f"{rule.id}: an approval is good for more than a day.")
    effects = {rule.effect for rule in policy.rules.values()}
    if "auto" in effects and "approve" not in effects:
        yield Remark("no-approve", "There are auto rules but no approve rules: whatever is escalated is denied.")


def _facts(action: str, kind: str, environment: str, circumstances: Circumstances) -> Facts:
    node = NodeFacts(env=environment, name="n1")
    workload = WorkloadFacts(env=environment, ns="team", name="app")
    return Facts(action, "somebody", node if kind == "Node" else workload, circumstances)
