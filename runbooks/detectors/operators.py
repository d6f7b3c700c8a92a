"""Operators and their custom resources, by the conditions that they report: OLM, cert-manager, and conditions in general.

Limits: it believes what a controller says of its own object and explains nothing; kinds that other detectors know better are left to
them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from cluster.facts.event import CustomObject
from cluster.reference import ObjectRef
from cluster.timestamps import parse_time
from cluster.world import World
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite

OLM_KINDS = ("ClusterServiceVersion", "Subscription", "CatalogSource", "InstallPlan", "OperatorGroup", "ClusterExtension", "ClusterCatalog")
CERTIFICATE_KINDS = ("Certificate", "Issuer", "ClusterIssuer")
# Detectors of their own judge these.
_ELSEWHERE = frozenset(
    {
        *(*OLM_KINDS, *CERTIFICATE_KINDS, "ClusterPolicy", "NodePool", "NodeClaim", "ProvisioningRequest"),
        *("Workload", "LocalQueue", "ClusterQueue", "AdmissionCheck", "Cohort", "PodGroup", "Queue"),
        *("JobSet", "TrainJob", "PyTorchJob", "MPIJob", "RayJob", "Workflow", "ScaledObject"),
    }
)
_GOOD_WHEN_TRUE = frozenset({"Ready", "Available", "Reconciled", "Synced", "Healthy", "Installed", "Serving", "Established", "Accepted"})
_BAD_WHEN_TRUE = frozenset({"Degraded", "Failed", "Stalled", "ReconcileError", "Error"})
# Subscription conditions that are bad when True (operator-framework/api pkg/operators/v1alpha1/subscription_types.go).
_SUBSCRIPTION_BAD = frozenset(
    {"CatalogSourcesUnhealthy", "InstallPlanMissing", "InstallPlanFailed", "ResolutionFailed", "BundleUnpackFailed"}
)
_FAILURE_WORDS = ("unhealthy", "fail", "error", "missing", "unsupported", "invalid", "blocked", "conflict", "notfound", "retrying")
_CSV_PASSING = frozenset({"Succeeded", "Replacing", "Deleting", "", None})


class Reported(Struct, frozen=True):
    """One condition as an operator wrote it; recordings and older operators leave the type out."""

    type: str
    status: str
    reason: str
    message: str
    at: datetime | None

    @property
    def text(self) -> str:
        return ": ".join(part for part in (self.reason or self.type, self.message) if part) or self.status

    @property
    def sounds_bad(self) -> bool:
        return any(word in self.reason.lower() for word in _FAILURE_WORDS)


def reported(item: CustomObject) -> tuple[Reported, ...]:
    """All conditions of an object's status, however incomplete; entries that are no mapping are left out."""
    entries = _status(item).get("conditions")
    return tuple(
        Reported(
            str(entry.get("type") or ""),
            str(entry.get("status") or ""),
            str(entry.get("reason") or ""),
            str(entry.get("message") or ""),
            parse_time(entry.get("lastTransitionTime")),
        )
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
    )


def olm_version_failed(world: World) -> Iterator[Finding]:
    """A ClusterServiceVersion that is not installed."""
    for item in _custom(world, "ClusterServiceVersion"):
        phase = _status(item).get("phase")
        if phase in _CSV_PASSING:
            continue
        said = [_status(item), *(entry for entry in _status(item).get("conditions") or () if isinstance(entry, dict))]
        message = next((str(entry["message"]) for entry in reversed(said) if entry.get("message")), "")
        reason = next((str(entry["reason"]) for entry in reversed(said) if entry.get("reason")), "")
        yield _finding(
            "operator.version-failed",
            item,
            Certainty.PROVEN if phase == "Failed" else Certainty.LIKELY,
            f"is in phase {phase}: {': '.join(part for part in (reason, message) if part) or 'no reason given'}",
            (cite(Source.FIELD, item.ref, "status.phase", phase), *_evidence(item)),
            parse_time(_status(item).get("lastTransitionTime")),
        )


def olm_subscription_unhealthy(world: World) -> Iterator[Finding]:
    """A Subscription that cannot find, resolve or install what it asks for."""
    for item in _custom(world, "Subscription"):
        state = _status(item).get("state")
        bad = [
            entry
            for entry in reported(item)
            if (entry.type in _SUBSCRIPTION_BAD and entry.status == "True") or (not entry.type and entry.sounds_bad)
        ]
        if bad or state == "UpgradeFailed":
            text = bad[0].text if bad else "the upgrade failed"
            yield _finding(
                "operator.subscription-unhealthy",
                item,
                Certainty.PROVEN,
                f"is in state {state or 'unknown'}: {text}",
                (cite(Source.FIELD, item.ref, "status.state", state or "(not set)"), *_evidence(item)),
                bad[0].at if bad else None,
            )


def olm_catalog_unreachable(world: World) -> Iterator[Finding]:
    """A CatalogSource whose registry does not answer."""
    for item in _custom(world, "CatalogSource"):
        connection = _status(item).get("connectionState")
        state = connection.get("lastObservedState") if isinstance(connection, dict) else None
        if state and state not in ("READY", "IDLE"):
            yield _finding(
                "operator.catalog-unreachable",
                item,
                Certainty.PROVEN if state == "TRANSIENT_FAILURE" else Certainty.LIKELY,
                f"cannot reach its registry: connection state {state}",
                (cite(Source.FIELD, item.ref, "status.connectionState.lastObservedState", state), *_evidence(item)),
            )


def olm_install_plan_stuck(world: World) -> Iterator[Finding]:
    """An InstallPlan that failed, or that waits for somebody's approval."""
    for item in _custom(world, "InstallPlan"):
        phase = _status(item).get("phase")
        if phase not in ("Failed", "RequiresApproval"):
            continue
        bad = [entry for entry in reported(item) if entry.status == "False" or entry.sounds_bad]
        waits = phase == "RequiresApproval"
        yield _finding(
            "operator.install-plan-waits" if waits else "operator.install-plan-failed",
            item,
            Certainty.PROVEN,
            "waits for approval (spec.approved is false)" if waits else f"failed: {bad[0].text if bad else 'no reason given'}",
            (cite(Source.FIELD, item.ref, "status.phase", phase), *_evidence(item)),
        )


def olm_operator_groups_conflict(world: World) -> Iterator[Finding]:
    """Several OperatorGroups in one namespace: OLM then installs nothing there."""
    grouped: dict[str | None, list[CustomObject]] = defaultdict(list)
    for item in _custom(world, "OperatorGroup"):
        grouped[item.namespace].append(item)
    for namespace, groups in grouped.items():
        if len(groups) > 1:
            newest = max(groups, key=lambda item: (item.created.timestamp() if item.created else 0.0, item.name))
            names = ", ".join(sorted(item.name for item in groups))
            yield _finding(
                "operator.groups-conflict",
                newest,
                Certainty.PROVEN,
                f"is one of {len(groups)} in namespace {namespace} ({names}); OLM requires exactly one",
                tuple(cite(Source.FIELD, item.ref, "metadata.namespace", namespace) for item in groups),
            )


def olm_extension_unhealthy(world: World) -> Iterator[Finding]:
    """A ClusterExtension or ClusterCatalog that is not installed, not served or blocked."""
    for kind in ("ClusterExtension", "ClusterCatalog"):
        for item in _custom(world, kind):
            bad = [
                entry
                for entry in reported(item)
                if (entry.type in ("Installed", "Serving") and entry.status == "False")
                or (entry.type == "Progressing" and entry.reason in ("Blocked", "Retrying"))
            ]
            if bad:
                yield _finding(
                    "operator.extension-unhealthy",
                    item,
                    Certainty.PROVEN,
                    f"is unhealthy: {bad[0].type} {bad[0].text}",
                    tuple(_evidence(item)),
                    bad[0].at,
                )


def certificate_not_ready(world: World) -> Iterator[Finding]:
    """A cert-manager Certificate or issuer that is not ready: the Secret it should fill is missing or out of date."""
    for kind in CERTIFICATE_KINDS:
        for item in _custom(world, kind):
            ready = next((entry for entry in reported(item) if entry.type == "Ready"), None)
            if ready is None or ready.status != "False":
                continue
            ends = parse_time(_status(item).get("notAfter"))
            expired = ready.reason == "Expired" or (ends is not None and ends <= world.now)
            secret = _spec(item).get("secretName")
            yield _finding(
                "certificate.expired" if expired else "certificate.not-issued",
                item,
                Certainty.PROVEN,
                f"is not ready: {ready.text}{f'; its Secret is {secret}' if secret else ''}",
                tuple(_evidence(item)),
                ready.at,
                (ObjectRef("Secret", item.namespace, str(secret)),) if secret else (),
            )


def custom_resource_unhealthy(world: World) -> Iterator[Finding]:
    """Any other custom resource whose controller says that it is not ready, or degraded."""
    for kind, facts in world.facts.items():
        if kind in _ELSEWHERE:
            continue
        for item in facts:
            if not isinstance(item, CustomObject) or item.deleting:
                continue
            bad = [
                entry
                for entry in reported(item)
                if (entry.type in _GOOD_WHEN_TRUE and entry.status == "False") or (entry.type in _BAD_WHEN_TRUE and entry.status == "True")
            ]
            if bad:
                yield _finding(
                    "operator.resource-unhealthy",
                    item,
                    Certainty.LIKELY,
                    f"is not healthy, says its controller: {bad[0].type}={bad[0].status} {bad[0].text}",
                    tuple(_evidence(item)),
                    bad[0].at,
                )


def _finding(
    code: str,
    item: CustomObject,
    certainty: Certainty,
    text: str,
    evidence: tuple[Evidence, ...],
    since: datetime | None = None,
    affects: tuple[ObjectRef, ...] = (),
) -> Finding:
    where = f"{item.namespace}/{item.name}" if item.namespace else item.name
    return Finding(code, item.ref, certainty, evidence[:5], f"{item.ref.kind} {where} {text}.", affects=affects, since=since)


def _evidence(item: CustomObject) -> Iterator[Evidence]:
    for number, entry in enumerate(reported(item)):
        quote = f"{entry.status} {entry.text}".strip()
        yield cite(Source.FIELD, item.ref, f"status.conditions[{entry.type or number}]", quote, entry.at)


def _custom(world: World, kind: str) -> Iterator[CustomObject]:
    return (item for item in world.custom(kind) if isinstance(item, CustomObject) and not item.deleting)


def _status(item: CustomObject) -> Mapping[str, Any]:
    return item.status if isinstance(item.status, dict) else {}


def _spec(item: CustomObject) -> Mapping[str, Any]:
    return item.spec if isinstance(item.spec, dict) else {}


DETECTORS: tuple[Detector, ...] = (
    olm_version_failed,
    olm_subscription_unhealthy,
    olm_catalog_unreachable,
    olm_install_plan_stuck,
    olm_operator_groups_conflict,
    olm_extension_unhealthy,
    certificate_not_ready,
    custom_resource_unhealthy,
)
