"""Volumes: why a claim, or a pod that mounts one, does not work, and how claims stand. The agent diagnoses."""

from __future__ import annotations

from cluster.facts.pod import Pod
from cluster.facts.storage import PersistentVolume, PersistentVolumeClaim, StorageClass
from cluster.kinds import BY_NAME
from mcp_server.arguments import Arguments, Name, Namespace
from mcp_server.diagnosis import Beside, Detail, DiagnosisOutput
from mcp_server.errors import ToolRefusal
from mcp_server.probe import find_object, read_kinds
from mcp_server.registry import Access, Answer, ToolContext, ToolSpec, rules_of
from mcp_server.result import Cell
from mcp_server.tools.diagnoses import USES, diagnosed
from runbooks.volumeclaims import Claim, claims, claims_of

KINDS = tuple(kind.kind for kind in (PersistentVolumeClaim, PersistentVolume, StorageClass, Pod))
COLUMNS = ("claim", "phase", "class", "modes", "asked", "has", "full", "volume", "driver", "expandable", "mounted by")
MOUNTS_SHOWN = 3
GIB = 2**30


class StorageDiagnoseArguments(Arguments):
    namespace: Namespace
    claim: Name | None = None
    pod: Name | None = None
    detail: Detail = "summary"


async def _storage_diagnose(context: ToolContext, arguments: StorageDiagnoseArguments) -> Answer:
    if (arguments.claim is None) is (arguments.pod is None):
        raise ToolRefusal("give either claim or pod; resources_list with kind pvc lists claims, troubled ones first")
    kind, name = (PersistentVolumeClaim.kind, arguments.claim) if arguments.claim else (Pod.kind, arguments.pod or "")
    about, _ = await find_object(context, BY_NAME[kind], arguments.namespace, name or "")
    read = await read_kinds(context, KINDS, (arguments.namespace,), telemetry=True)

    def beside() -> Beside:
        wanted = claims_of(about) if isinstance(about, Pod) else (about.name,)
        shown = [claim for claim in claims(read.world(context, (arguments.namespace,))) if claim.ref.name in wanted]
        absent = sorted({*wanted} - {claim.ref.name for claim in shown})
        title = f"claims of {about.ref}:" if shown else f"{about.ref} has no claim that can be seen"
        if absent:
            title += f" not seen: {', '.join(absent[:MOUNTS_SHOWN])}"
        return Beside(title, COLUMNS, tuple(_row(claim) for claim in shown), read.missing)

    question = f"What is wrong with the storage of {about.ref.kind} {about.name}?"
    return await diagnosed(context, about.ref, question, arguments.detail, beside, growth=read.growth, cost=read.cost)


def _row(claim: Claim) -> tuple[Cell, ...]:
    sizes = tuple(f"{size / GIB:.4g} GiB" if size is not None else "" for size in (claim.requested_bytes, claim.capacity_bytes))
    full = f"{claim.full:.0%}" if claim.full is not None else ""
    mounts = [f"{pod.name}{f' on {node}' if node else ''}" for pod, node in claim.mounts[:MOUNTS_SHOWN]]
    more = [f"{len(claim.mounts) - MOUNTS_SHOWN} more"] if len(claim.mounts) > MOUNTS_SHOWN else []
    place = (claim.volume, claim.driver, "yes" if claim.expandable else "no")
    return (claim.ref.name, claim.phase, claim.class_name, ", ".join(claim.modes), *sizes, full, *place, ", ".join([*mounts, *more]))


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="storage_diagnose",
        title="Diagnose a volume",
        group="storage",
        description="Why a claim is unbound, full or cannot be mounted, or what is wrong with a pod's volumes.",
        arguments=StorageDiagnoseArguments,
        output=DiagnosisOutput,
        access=Access.READ,
        rbac=rules_of(BY_NAME[kind] for kind in KINDS),
        run=_storage_diagnose,
        uses=USES,
    ),
)
