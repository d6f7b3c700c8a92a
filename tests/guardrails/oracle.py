"""The shipped bundle once more, in plain Python, written from its comments: what the engine is compared with. Never used in production."""

from __future__ import annotations

from guardrails.facts import Facts, NodeFacts, WorkloadFacts

SYSTEM = {"kube-system", "kube-public", "kube-node-lease", "smokejumper"}
TAKES_NODES = {"cordon", "drain", "taint", "set_mig_profile"}
LONG_MAX = 2**63 - 1


def expected(facts: Facts) -> tuple[str, dict[str, int]]:
    """(effect, approvals by group) for a request that fits the schema."""
    on, now = facts.resource, facts.circumstances
    workload, node = isinstance(on, WorkloadFacts), isinstance(on, NodeFacts)
    scaling = facts.action in ("scale", "set_replica_bounds") and now.replicas is not None
    if scaling and now.replicas is not None and now.replicas.before >= 1 and now.replicas.before * 10 > LONG_MAX:
        return "deny", {}
    deny = (
        on.tenant not in facts.tenants
        or (isinstance(on, WorkloadFacts) and (on.ns in SYSTEM or on.protected))
        or (isinstance(on, NodeFacts) and on.control_plane)
        or now.kill_switch
        or not now.validated
        or (now.frozen and not now.break_glass)
        or (facts.action in TAKES_NODES and isinstance(on, NodeFacts) and on.pool != "" and now.pool_disrupted >= 1)
        or (facts.action == "drain" and (now.protected_affected or bool(SYSTEM & set(now.namespaces))))
        or (scaling and now.replicas is not None and now.replicas.before >= 1 and now.replicas.after > now.replicas.before * 10)
        or now.changes_last_hour >= 20
        or (now.tainted and 0 <= now.denied_minutes < 30)
    )
    if deny:
        return "deny", {}
    escalate = (
        now.tainted
        or now.unseen
        or not now.requester_reviewed
        or now.controlled
        or (on.env == "prod" and not now.reversible)
        or on.gpu
        or now.gpus > 0
        or now.serving_after == 0
        or now.automatic_last_hour >= 5
        or now.failed_last_hour >= 2
        or now.failed_minutes >= 0
        or now.evidence_minutes > 60
    )
    if not escalate and facts.action == "rollout_restart" and on.env != "prod" and now.pods_affected <= 20:
        return "auto", {}
    to_zero = facts.action == "scale" and now.replicas is not None and now.replicas.after == 0 and now.replicas.before > 0
    costly = facts.action == "suspend" and (on.gpu or now.gpus > 0)
    last = facts.action in ("delete_pod", "evict_pod") and now.serving_after == 0
    assert workload or node
    return "approve", {"sre-oncall": 2 if to_zero or costly or last or facts.action in ("drain", "set_mig_profile") else 1}
