"""Calls of every tool about the recording of `incident`: what tests ask, and what the documentation shows."""

from __future__ import annotations

from typing import Any

from tests.mcp_server.incident import KINDS

# Everything that any tool can be asked about the recording, to look for what must not be there.
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("cluster_overview", {}),
    ("pod_diagnose", {"namespace": "ml", "name": "serve-5c9f7-abcde", "detail": "full"}),
    ("workload_diagnose", {"kind": "Deployment", "namespace": "ml", "name": "serve", "detail": "full"}),
    ("scheduling_explain", {"namespace": "ml", "name": "train-0"}),
    ("node_diagnose", {"name": "cpu-1", "detail": "full"}),
    ("network_diagnose", {"namespace": "ml", "name": "serve", "detail": "full"}),
    ("investigate", {"question": "what is wrong?"}),
    ("changes_list", {"hours": 720}),
    ("nodes_list", {}),
    ("pods_list", {"problem_only": False}),
    ("events_list", {"type": "all"}),
    ("logs_search", {"namespace": "web", "pod": "shop-1", "limit": 200}),
    *(("resources_list", {"kind": kind}) for kind in (*KINDS, "Pod", "Event")),
    *(
        ("resource_get", {"kind": "Pod", "namespace": "ml", "name": "serve-5c9f7-abcde", "view": view})
        for view in ("summary", "spec", "status")
    ),
    ("resource_get", {"kind": "ConfigMap", "namespace": "ml", "name": "settings", "view": "spec"}),
    ("resource_get", {"kind": "Deployment", "namespace": "ml", "name": "serve", "view": "spec"}),
    ("telemetry_list", {}),
    ("metrics_query", {}),
    ("metrics_query", {"name": "gpu-xid", "namespace": "ml"}),
    ("gpu_inventory", {}),
    ("gpu_allocation", {}),
    ("gpu_health", {"node": "cpu-1", "detail": "full"}),
    ("dra_diagnose", {}),
    ("cost_report", {}),
    ("storage_diagnose", {"namespace": "ml", "claim": "weights", "detail": "full"}),
    ("inference_list", {}),
    ("inference_diagnose", {"namespace": "ml", "name": "serve", "detail": "full"}),
    ("queue_status", {}),
    ("queue_explain", {"namespace": "ml", "workload": "finetune", "detail": "full"}),
    ("training_diagnose", {"namespace": "ml", "name": "finetune", "detail": "full"}),
    ("policy_explain", {"action": "rollout_undo", "kind": "Deployment", "namespace": "ml", "name": "serve"}),
    ("remediation_propose", {"action": "rollout_undo", "kind": "Deployment", "namespace": "ml", "name": "serve"}),
    ("remediation_status", {"proposal_id": "p1"}),
)

# Of each tool the call that its page shows: its first above, unless another says more.
EXAMPLES: dict[str, dict[str, Any]] = {
    **{name: {key: value for key, value in arguments.items() if key != "detail"} for name, arguments in reversed(CALLS)},
    "events_list": {"namespace": "ml"},
    "logs_search": {"namespace": "web", "pod": "shop-1", "pattern": "error"},
    "resources_list": {"kind": "Deployment", "namespace": "ml"},
    "remediation_execute": {"proposal_id": "p1", "digest": "0" * 64},
    "investigation_get": {"id": "inv-5a3c9e1b7d2f"},
}
