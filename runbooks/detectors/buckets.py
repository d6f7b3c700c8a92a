"""Buckets and access to them (COSI) that were not granted: refused by the driver, or answered by nobody.

v1alpha2 has no conditions: `status.readyToUse` and `status.error` tell (container-object-storage-interface client/apis); v1alpha1 says
`bucketReady` and `accessGranted`, and no error. A workload meets it as a Secret that does not exist, which BucketAccess names.
Limits: BucketClasses and drivers are not read; Secrets never are, only whether the access says that it has written them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from cluster.facts.event import CustomObject, items_of
from cluster.reference import ObjectRef
from cluster.timestamps import parse_time
from cluster.world import Presence, World
from runbooks.finding import Certainty, Detector, Finding, Source, cite
from runbooks.graph import needs

CLAIM, ACCESS = "BucketClaim", "BucketAccess"
# A driver answers within seconds and is asked again and again.
PATIENCE = timedelta(minutes=5)
_READY = ("readyToUse", "bucketReady", "accessGranted")


def bucket_not_ready(world: World) -> Iterator[Finding]:
    """BucketClaims without a bucket."""
    for item in world.custom(CLAIM):
        if isinstance(item, CustomObject):
            affects = tuple(
                ref
                for access in world.custom(ACCESS)
                if isinstance(access, CustomObject) and access.namespace == item.namespace and item.name in _claims(access)
                for ref in (access.ref, *_waiting(world, access))
            )
            yield from _judged(world, item, "storage.bucket-not-ready", "no bucket was made for it", affects)


def access_not_granted(world: World) -> Iterator[Finding]:
    """BucketAccesses without credentials."""
    for item in world.custom(ACCESS):
        if isinstance(item, CustomObject):
            absent = next(
                (name for name in _claims(item) if world.presence(CLAIM, item.namespace, name) is Presence.ABSENT),
                "",
            )
            why = f"its BucketClaim {absent} does not exist" if absent else "no credentials were made for it"
            yield from _judged(world, item, "storage.bucket-access", why, _waiting(world, item))


def _judged(world: World, item: CustomObject, code: str, why: str, affects: tuple[ObjectRef, ...]) -> Iterator[Finding]:
    status: dict[str, Any] = item.status if isinstance(item.status, dict) else {}
    error = status.get("error")
    if any(status.get(word) is True for word in _READY) or item.deleting:
        return
    if isinstance(error, Mapping) and error.get("message"):
        since = parse_time(error.get("time"))
        proof = cite(Source.FIELD, item.ref, "status.error.message", error["message"], since)
        yield Finding(
            code, item.ref, Certainty.PROVEN, (proof,), f"{item.ref} is not ready: {str(error['message'])[:300]}.", affects, since
        )
    elif item.created is not None and world.now - item.created > PATIENCE:
        minutes = (world.now - item.created).total_seconds() / 60
        proof = cite(Source.FIELD, item.ref, "status.readyToUse", str(status.get("readyToUse", "absent")), item.created)
        yield Finding(
            code,
            item.ref,
            Certainty.LIKELY,
            (proof,),
            f"{item.ref} was asked for {minutes:.0f} min ago, and {why}: no controller or driver has answered.",
            affects,
            item.created,
            lacks="the log of the COSI controller and of the driver's sidecar",
        )


def _claims(access: CustomObject) -> tuple[str, ...]:
    return tuple(str(item.get("bucketClaimName", "")) for item in _references(access))


def _references(access: CustomObject) -> tuple[dict[str, Any], ...]:
    """Claims and Secrets as v1alpha2 pairs them; v1alpha1 has one of each."""
    spec: dict[str, Any] = access.spec if isinstance(access.spec, dict) else {}
    if spec.get("bucketClaimName"):
        return ({"bucketClaimName": spec["bucketClaimName"], "accessSecretName": spec.get("credentialsSecretName")},)
    return items_of(spec.get("bucketClaims"))


def _waiting(world: World, access: CustomObject) -> tuple[ObjectRef, ...]:
    """The Secrets that it is to write, and the pods that are not ready and use one."""
    secrets = {str(item["accessSecretName"]) for item in _references(access) if item.get("accessSecretName")}
    pods = (
        pod
        for pod in world.unready_pods()
        if pod.namespace == access.namespace and any(kind == "Secret" and name in secrets for kind, name in needs(pod))
    )
    named = (ObjectRef("Secret", access.namespace, name) for name in sorted(secrets))
    return (*named, *dict.fromkeys(ref for pod in pods for ref in (pod.ref, world.top_owner(pod.ref))))


DETECTORS: tuple[Detector, ...] = (bucket_not_ready, access_not_granted)
