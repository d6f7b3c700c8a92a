"""What a policy decides on: who asks for what, on which object, under which circumstances. Data only.

Every field is computed by the gate from typed objects and its own records; nothing here comes from a model or from text of a cluster
other than names. Defaults are those of a calm moment and are for tests: the gate sets every field.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from msgspec import Struct, structs, to_builtins

NAMESPACE = "Smokejumper"
# A number that means nothing for this action, or that cannot be told.
UNKNOWN = -1


class WorkloadFacts(Struct, frozen=True, rename="camel"):
    """A namespaced target. `env` is "prod" unless the platform's settings say otherwise."""

    tenant: str = "default"
    cluster: str = ""
    env: str = "prod"
    team: str = ""
    ns: str = "default"
    kind: str = "Deployment"
    name: str = ""
    gpu: bool = False
    protected: bool = False


class NodeFacts(Struct, frozen=True, rename="camel"):
    """A node. `pool` is empty when no label names one."""

    tenant: str = "default"
    cluster: str = ""
    env: str = "prod"
    team: str = ""
    name: str = ""
    pool: str = ""
    gpu: bool = False
    control_plane: bool = False


class Replicas(Struct, frozen=True):
    """Of a scale: the number now and the number wanted; of an autoscaler's bounds: the number now and the most that is wanted."""

    before: int
    after: int


class Circumstances(Struct, frozen=True, rename="camel"):
    """The moment, the records and the risk. Meanings are in `policies/schema.cedarschema`, field by field."""

    now: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    weekday: int = 4
    minute_of_day: int = 0
    kill_switch: bool = False
    frozen: bool = False
    validated: bool = False
    requester_reviewed: bool = False
    tainted: bool = False
    unseen: bool = False
    reversible: bool = False
    controlled: bool = False
    pods_affected: int = 0
    gpus: int = 0
    pool_disrupted: int = 0
    pool_share_percent: int = 0
    gpu_hours: int = 0
    checkpoint_minutes: int = UNKNOWN
    serving_after: int = UNKNOWN
    disruptions_allowed: int = UNKNOWN
    namespaces: tuple[str, ...] = ()
    protected_affected: bool = False
    changes_last_hour: int = 0
    automatic_last_hour: int = 0
    failed_last_hour: int = 0
    failed_minutes: int = UNKNOWN
    denied_minutes: int = UNKNOWN
    proposed_minutes: int = 0
    evidence_minutes: int = UNKNOWN
    break_glass: bool = False
    replicas: Replicas | None = None


class Facts(Struct, frozen=True):
    """One question to the policy."""

    action: str
    requester: str
    resource: WorkloadFacts | NodeFacts
    circumstances: Circumstances
    groups: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ("default",)

    def question(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The Cedar request and its entities. Integers are passed as they are: the engine refuses what is no 64-bit integer."""
        kind: Literal["Node", "Workload"] = "Node" if isinstance(self.resource, NodeFacts) else "Workload"
        attributes = to_builtins(self.resource)
        principal = _uid("User", self.requester)
        resource = _uid(kind, f"{self.resource.cluster}/{attributes.get('ns', '')}/{attributes.get('kind', kind)}/{self.resource.name}")
        groups = [_uid("Group", group) for group in self.groups]
        context = to_builtins(structs.replace(self.circumstances, replicas=None))
        del context["replicas"]
        moment = self.circumstances.now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        context["now"] = {"__extn": {"fn": "datetime", "arg": moment}}
        if self.circumstances.replicas is not None:
            context["replicas"] = {"from": self.circumstances.replicas.before, "to": self.circumstances.replicas.after}
        entities: list[dict[str, Any]] = [{"uid": group, "attrs": {}, "parents": []} for group in groups]
        entities.append({"uid": principal, "attrs": {"tenants": sorted(self.tenants)}, "parents": groups})
        entities.append({"uid": resource, "attrs": attributes, "parents": []})
        request = {"principal": principal, "action": _uid("Action", self.action), "resource": resource, "context": context}
        return request, entities

    def named(self) -> dict[str, Any]:
        """Every fact about the object and the moment, by the name that rules know it by, like `context.podsAffected`."""
        request, entities = self.question()
        about = {f"resource.{name}": value for name, value in entities[-1]["attrs"].items()}
        moment = {"context.now": request["context"].pop("now")["__extn"]["arg"]}
        return about | moment | {f"context.{name}": value for name, value in request["context"].items()}


def _uid(kind: str, name: str) -> dict[str, str]:
    return {"type": f"{NAMESPACE}::{kind}", "id": name}
