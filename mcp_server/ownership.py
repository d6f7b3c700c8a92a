"""Which group of tools is about which custom kinds, and how a person's list of groups is read."""

from __future__ import annotations

from cluster.kinds import CUSTOM_KINDS, Kind
from mcp_server.arguments import nearest
from mcp_server.errors import ToolRefusal
from mcp_server.groups import GROUPS, Group

# Whose custom resources a group is about, by API group or by kind; of what is not here, the core's diagnoses speak.
_OWNERS: dict[str, Group] = {
    "serving.kserve.io": "inference",
    "inference.networking.k8s.io": "inference",
    "inference.networking.x-k8s.io": "inference",
    "llm-d.ai": "inference",
    "leaderworkerset.x-k8s.io": "inference",
    "keda.sh": "inference",
    "nvidia.com": "gpu",
    "resource.nvidia.com": "gpu",
    "kueue.x-k8s.io": "queueing",
    "scheduling.volcano.sh": "queueing",
    "scheduling.run.ai": "queueing",
    "batch.volcano.sh": "training",
    "ray.io": "training",
    "trainer.kubeflow.org": "training",
    "jobset.x-k8s.io": "training",
    "kubeflow.org": "training",
    "workflows.argoproj.io": "training",
    "snapshot.storage.k8s.io": "storage",
    "objectstorage.k8s.io": "storage",
}


def parse_groups(text: str) -> tuple[Group, ...]:
    """Groups as a person lists them, with commas between. Raises ToolRefusal with the nearest for what is none."""
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    unknown = next((word for word in words if word not in GROUPS), None)
    if unknown is not None or not words:
        raise ToolRefusal(f"{(unknown or text)[:60]!r} is no group of tools; {nearest(unknown or '', GROUPS, 'groups')}")
    return tuple(group for group in GROUPS if group in words)


def group_of(kind: Kind) -> Group:
    """The group whose tools read that custom kind."""
    return _OWNERS.get(f"{kind.plural}.{kind.group}") or _OWNERS.get(kind.group, "core")


def kinds_of(group: Group) -> tuple[Kind, ...]:
    """The custom kinds of a group."""
    return tuple(kind for kind in CUSTOM_KINDS if group_of(kind) == group)
