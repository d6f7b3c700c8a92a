"""Devices that are allocated and not yet usable: the conditions that have to hold before the scheduler binds a pod to the node.

A device of a fabric is attached only after it is chosen (`bindingConditions` of a device, 1.34): the scheduler has a node, waits, and
says nothing in the pod's status meanwhile. Ported from `isClaimReadyForBinding` and `isClaimTimeout`
(pkg/scheduler/framework/plugins/dynamicresources, 1.37). It makes no finding, and knows no timeout but the scheduler's default.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from msgspec import Struct

from cluster.facts.dra import AllocationResult, ResourceClaim
from cluster.facts.meta import Condition

# DynamicResourcesBindingTimeoutDefault; after it the claim is allocated anew.
BINDING_TIMEOUT = timedelta(minutes=10)
_FAILED = re.compile(r"device binding failed: claim=(?P<claim>[^,\s]+), reason=(?P<reason>[^,]*), message=\"(?P<message>[^\"]*)\"")
_TIMED_OUT = re.compile(r"device binding timeout: (?:claim=(?P<claim>\S+))?")


class Binding(Struct, frozen=True):
    """One allocated device. `pending` are the conditions that are not True, with what the device says of each, None where nothing;
    `failed` those that say that it cannot be used. `since` is when it was allocated."""

    device: str
    pending: tuple[tuple[str, Condition | None], ...]
    failed: tuple[Condition, ...]
    since: datetime | None


class Refused(Struct, frozen=True):
    """What the scheduler says of a device that it gave back. `claim` is "" where it names none, `detail` "" after a timeout."""

    claim: str
    detail: str = ""


def bindings(claim: ResourceClaim) -> tuple[Binding, ...]:
    """The devices of a claim for which the scheduler waits, or which have failed."""
    allocation = claim.status.allocation
    if allocation is None:
        return ()
    found = (_binding(claim, result, allocation.allocation_timestamp) for result in allocation.devices.results or ())
    return tuple(item for item in found if item.pending or item.failed)


def _binding(claim: ResourceClaim, result: AllocationResult, since: datetime | None) -> Binding:
    key = (result.driver, result.pool, result.device)
    status = next((item for item in claim.status.devices or () if (item.driver, item.pool, item.device) == key), None)
    said = {item.type: item for item in (status.conditions if status else None) or ()}

    def holds(name: str) -> bool:
        return name in said and said[name].status == "True"

    # Without binding conditions the scheduler waits for nothing, and asks for no failure either.
    wanted = result.binding_conditions or ()
    failing = (result.binding_failure_conditions or ()) if wanted else ()
    return Binding(
        "/".join(key),
        tuple((name, said.get(name)) for name in wanted if not holds(name)),
        tuple(said[name] for name in failing if holds(name)),
        since,
    )


def refused(message: str) -> Refused | None:
    """What a scheduler's message says of devices that did not become usable; None where it is about something else."""
    failed = _FAILED.search(message)
    if failed is not None:
        return Refused(failed["claim"], ": ".join(part for part in (failed["reason"], failed["message"]) if part))
    late = _TIMED_OUT.search(message)
    return Refused(late["claim"] or "") if late is not None else None


def words(binding: Binding) -> Iterator[str]:
    """What each condition says that decides: those that failed, else those that are waited for."""
    if binding.failed:
        yield from (f"{item.type} is True ({_said(item)})" for item in binding.failed)
        return
    for name, condition in binding.pending:
        yield f"{name} is {condition.status} ({_said(condition)})" if condition else f"{name} is not set"


def _said(condition: Condition) -> str:
    return ": ".join(part for part in (condition.reason, condition.message) if part) or "without a reason"
