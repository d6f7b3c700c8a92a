"""Names of models and adapters that somebody is set up to ask for and that the servers behind it do not serve: no log is needed for it.

Who asks: routes by the header that body-based routing sets, rewrites and models of the inference extension, programs by their variables,
and whoever an endpoint picker counts errors of. Sources: Gateway API inference extension (its guide to serving several models, and
apix/v1alpha2), llm-d router docs/metrics.md.
Limits: only servers that refuse unknown names count (`servednames`), and none whose names can change while it runs; what a client's code
asks for stands in its log alone.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from cluster.facts.container import Container, EnvVar
from cluster.facts.event import CustomObject, items_of
from cluster.facts.network import HTTPRoute, Service
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.dependencies import Dependencies
from runbooks.detectors.pickers import ERRORS, pods_of_pool
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.levels import levels
from runbooks.modelservers import server_of
from runbooks.servednames import Served, served_by
from runbooks.traffic import Traffic

POOL = "InferencePool"
# What body-based routing puts the `model` of a request into.
HEADER = "x-gateway-model-name"
_VARIABLE = re.compile(r"(?:^|_)MODEL(?:_NAME|_ID)?$")
# Of models that a program loads itself or asks others for, beside the one that it talks to.
_OTHER = re.compile(r"EMBED|RERANK|WHISPER|SPEECH|STT|TTS|VISION|IMAGE|MODERATION")
NAMES_SHOWN = 4


class Asked(Struct, frozen=True):
    """One name that is asked for, by whom, where that is set, and which servers are to answer."""

    name: str
    by: ObjectRef
    proof: Evidence
    target: ObjectRef
    pods: tuple[Pod, ...]
    certainty: Certainty = Certainty.LIKELY
    also: str = ""

    @property
    def names(self) -> frozenset[str]:
        """What may stand in a request: the name, and what a client makes of it."""
        return frozenset((self.name, self.also)) - {""}


def names_not_served(world: World) -> Iterator[Finding]:
    """Model or adapter names that routes, rewrites, programs or an endpoint picker's clients ask of servers that do not have them."""
    for asked in (*_by_routes(world), *_by_models(world), *_by_programs(world), *_by_errors(world)):
        served = [served_by(pod.spec) for pod in asked.pods]
        told = [item for item in served if item is not None]
        # One server that cannot be judged may be the one that has it.
        if not told or len(told) != len(served) or not all(item.known for item in told) or any(asked.names & item.names for item in told):
            continue
        yield _finding(asked, told)


def _finding(asked: Asked, told: list[Served]) -> Finding:
    names = sorted({name for item in told for name in item.names})
    near = difflib.get_close_matches(asked.name, names, 1, 0.6)
    adapters = any(item.adapters for item in told)
    shown = ", ".join(names[:NAMES_SHOWN]) + (f" and {len(names) - NAMES_SHOWN} more" if names[NAMES_SHOWN:] else "")
    server = asked.pods[0]
    return Finding(
        "model.adapter-missing" if adapters else "model.name-unknown",
        asked.by,
        asked.certainty,
        (asked.proof, cite(Source.FIELD, server.ref, "spec.containers[].args", f"serves {shown}")),
        f"{asked.by} asks {asked.target} for model {asked.name}, and its servers answer to {shown}: every such request is refused with 404."
        f"{f' Is {near[0]} meant?' if near else ''}",
        affects=() if asked.by == asked.target else (asked.target,),
        lacks="" if asked.certainty is Certainty.PROVEN else "a request: the server's log, or the errors that a picker counts",
    )


def _by_routes(world: World) -> Iterator[Asked]:
    for route in world.all(HTTPRoute):
        for number, rule in enumerate(route.spec.rules or ()):
            names = {
                str(header.get("value", ""))
                for match in items_of(rule.matches)
                for header in items_of(match.get("headers"))
                if str(header.get("name", "")).lower() == HEADER and header.get("type", "Exact") == "Exact"
            }
            for backend in rule.backend_refs or ():
                target = ObjectRef(backend.kind, backend.namespace or route.namespace, backend.name)
                pods = _pods(world, target)
                for name in sorted(names - {""}):
                    if pods and not _rewritten(world, target, name):
                        proof = cite(Source.FIELD, route.ref, f"spec.rules[{number}].matches[].headers[{HEADER}]", name)
                        yield Asked(name, route.ref, proof, target, pods)


def _by_models(world: World) -> Iterator[Asked]:
    """`InferenceModelRewrite`, and `InferenceModel` before it."""
    for kind in ("InferenceModelRewrite", "InferenceModel"):
        for item in world.custom(kind):
            pool = _pool_of(world, item) if isinstance(item, CustomObject) else None
            if not isinstance(item, CustomObject) or pool is None:
                continue
            for path, name in _targets(item):
                yield Asked(name, item.ref, cite(Source.FIELD, item.ref, path, name), pool.ref, pods_of_pool(world, pool))


def _targets(item: CustomObject) -> Iterator[tuple[str, str]]:
    spec = _mapping(item.spec)
    for number, rule in enumerate(items_of(spec.get("rules"))):
        for target in items_of(rule.get("targets")):
            if target.get("modelRewrite"):
                yield f"spec.rules[{number}].targets[].modelRewrite", str(target["modelRewrite"])
    targets = [str(target["name"]) for target in items_of(spec.get("targetModels")) if target.get("name")]
    for name in targets:
        yield "spec.targetModels[].name", name
    if spec.get("modelName") and not targets:
        yield "spec.modelName", str(spec["modelName"])


def _by_programs(world: World) -> Iterator[Asked]:
    """Programs with one variable that names a model and one address of a model server: of several, nobody says which belong together."""
    asking = {
        (workload, pod.ref, container.name)
        for workload, pod in world.once(Dependencies).specimens.values()
        for container in pod.spec.all_containers
        if _named(container)
    }
    callers: dict[tuple[ObjectRef, ObjectRef, str], set[ObjectRef]] = {}
    for service in world.all(Service) if asking else ():
        pods = world.pods_selected(service.namespace, service.spec.selector or {})
        if not pods or not any(served_by(pod.spec) for pod in pods):
            continue
        for call in world.once(Traffic).callers_of(service.namespace, service.name):
            if (call.workload, call.pod, call.container) in asking:
                callers.setdefault((call.workload, call.pod, call.container), set()).add(service.ref)
    for (workload, ref, name), services in callers.items():
        pod = world.get(Pod, ref.namespace, ref.name)
        container = pod.container(name) if pod is not None else None
        if pod is None or container is None or len(services) != 1 or server_of(pod.spec) is not None:
            continue
        named = _named(container)
        if len(named) == 1 and named[0].value and not _OTHER.search(named[0].name):
            proof = cite(Source.FIELD, pod.ref, f"spec.containers[{name}].env[{named[0].name}]", named[0].value)
            target = next(iter(services))
            # LiteLLM and what is built on it send what follows the provider (docs.litellm.ai/docs/providers).
            yield Asked(named[0].value, workload, proof, target, _pods(world, target), also=named[0].value.partition("/")[2])


def _named(container: Container) -> list[EnvVar]:
    """The variables that name a model."""
    return [item for item in container.env or () if item.value and "$(" not in item.value and _VARIABLE.search(item.name)]


def _by_errors(world: World) -> Iterator[Asked]:
    """Names whose requests an endpoint picker turns away now."""
    for level in levels(world, ERRORS):
        labels = level.series.labels
        name = labels.get("target_model_name") or labels.get("model_name", "")
        pool = _picked_by(world, level.ref) if level.value > 0 and name else None
        if pool is not None:
            proof = cite(Source.METRIC, level.ref, f"{level.name} model {name}", f"{level.value:.3g} a second")
            yield Asked(name, pool.ref, proof, pool.ref, pods_of_pool(world, pool), Certainty.PROVEN)


def _picked_by(world: World, picker: ObjectRef) -> CustomObject | None:
    pod = world.get(Pod, picker.namespace, picker.name)
    for pool in world.custom(POOL) if pod is not None else ():
        spec = _mapping(pool.spec) if isinstance(pool, CustomObject) else {}
        name = str(_mapping(spec.get("endpointPickerRef") or spec.get("extensionRef")).get("name", ""))
        service = world.get(Service, picker.namespace, name) if pool.namespace == picker.namespace else None
        if (
            isinstance(pool, CustomObject)
            and service is not None
            and pod in world.pods_selected(pool.namespace, service.spec.selector or {})
        ):
            return pool
    return None


def _pods(world: World, target: ObjectRef) -> tuple[Pod, ...]:
    found = world.find(target)
    if isinstance(found, Service):
        return world.pods_selected(found.namespace, found.spec.selector or {})
    return pods_of_pool(world, found) if isinstance(found, CustomObject) and target.kind == POOL else ()


def _pool_of(world: World, item: CustomObject) -> CustomObject | None:
    name = str(_mapping(_mapping(item.spec).get("poolRef")).get("name", ""))
    pool = world.find(ObjectRef(POOL, item.namespace, name)) if name else None
    return pool if isinstance(pool, CustomObject) else None


def _rewritten(world: World, target: ObjectRef, name: str) -> bool:
    """Whether requests for a name get another one before they reach a server of the pool."""
    for kind in ("InferenceModelRewrite", "InferenceModel"):
        for item in world.custom(kind):
            pool = _pool_of(world, item) if isinstance(item, CustomObject) else None
            if isinstance(item, CustomObject) and pool is not None and pool.ref.key == target.key and _takes(_mapping(item.spec), name):
                return True
    return False


def _takes(spec: Mapping[str, Any], name: str) -> bool:
    if spec.get("modelName") == name:
        return True
    for rule in items_of(spec.get("rules")):
        wanted = [str(_mapping(match.get("model")).get("value", "")) for match in items_of(rule.get("matches"))]
        if not wanted or name in wanted:
            return True
    return False


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


DETECTORS: tuple[Detector, ...] = (names_not_served,)
