"""Every scenario shows its fault in a real cluster, shows the evidence it promises, and is put right by its repair."""

from __future__ import annotations

import json

import pytest

from tests.lab import scenario
from tests.lab.api import ApiError
from tests.lab.lab import Lab
from tests.lab.scenario import Check, Scenario

KINDS = (
    ("v1", "Pod"),
    ("v1", "Event"),
    ("v1", "ConfigMap"),
    ("v1", "Service"),
    ("v1", "ResourceQuota"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("resource.k8s.io/v1", "ResourceClaimTemplate"),
    ("resource.k8s.io/v1", "ResourceClaim"),
)


def _visible(lab: Lab, scene: Scenario) -> str:
    """All that the reader can see of a scene: objects, nodes, slices, logs. Strings as people read them, not as JSON escapes them."""
    reader, space = lab.client("reader"), scene.expect.namespace
    objects = [one for version, kind in KINDS for one in reader.list(version, kind, space)]
    objects += [*reader.list("v1", "Node"), *reader.list("resource.k8s.io/v1", "ResourceSlice")]
    parts = [json.dumps(objects).replace('\\"', '"').replace('": "', "=").replace('"', "'"), json.dumps(objects).replace('\\"', '"')]
    for pod in reader.list("v1", "Pod", space):
        for container in pod["spec"]["containers"]:
            for previous in (False, True):
                try:
                    parts.append(reader.log(space, pod["metadata"]["name"], container["name"], previous=previous))
                except ApiError as error:
                    if error.status != 400:
                        raise
    return "\n".join(parts)


@pytest.mark.parametrize("name", scenario.names())
def test_scene(lab: Lab, name: str) -> None:
    with lab.loaded(name) as scene:
        visible = _visible(lab, scene)
        assert [words for words in scene.expect.evidence if words not in visible] == []
        cause = scene.expect.cause
        if cause is not None:
            anchor = Check(f"{cause['kind']}/{cause['namespace'] or '-'}/{cause['name']}", ("metadata", "name"), equals=cause["name"])
            assert anchor.holds(lab.client())
            lab.repair(scene)
    assert lab.stage_errors() == []


def test_scheduler_says_what_lacks(lab: Lab) -> None:
    with lab.loaded("insufficient-gpu"):
        [pod] = [one for one in lab.client().list("v1", "Pod", "training") if one["status"]["phase"] == "Pending"]
        events = [one for one in lab.client().list("v1", "Event", "training") if one["reason"] == "FailedScheduling"]
        [message] = [one["message"] for one in events if one["involvedObject"]["name"] == pod["metadata"]["name"]]
    assert message.startswith("0/4 nodes are available: 4 Insufficient nvidia.com/gpu. preemption: 0/4 nodes are available: ")


def test_claims_are_allocated_by_the_real_scheduler(lab: Lab) -> None:
    with lab.loaded("claim-unsatisfiable") as scene:
        [pod] = lab.client().list("v1", "Pod", "research")
        [scheduled] = [one for one in pod["status"]["conditions"] if one["type"] == "PodScheduled"]
        assert (scheduled["status"], scheduled["reason"]) == ("False", "Unschedulable")
        assert "cannot allocate all claims" in scheduled["message"]
        lab.repair(scene)
        claims = lab.client().list("resource.k8s.io/v1", "ResourceClaim", "research")
        results = [
            result for claim in claims for result in claim.get("status", {}).get("allocation", {}).get("devices", {}).get("results", ())
        ]
    assert [(one["driver"], one["pool"], one["request"]) for one in results] == [("gpu.nvidia.com", "gpu-dra-0", "gpu")]


def test_a_rollout_undone_by_somebody_else_counts_as_repaired(lab: Lab) -> None:
    with lab.loaded("rollout-bad-image") as scene:
        sets = lab.client().list("apps/v1", "ReplicaSet", "ml", "app=serve")
        [first] = [one for one in sets if one["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"]
        template = first["spec"]["template"]
        del template["metadata"]["labels"]["pod-template-hash"]
        patch = [{"op": "replace", "path": "/spec/template", "value": template}]
        path = lab.client("executor").path("apps/v1", "Deployment", "ml", "serve")
        lab.client("executor").json("PATCH", path, body=patch, content_type="application/json-patch+json")
        lab.wait_repaired(scene)
