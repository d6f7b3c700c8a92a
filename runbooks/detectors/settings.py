"""Settings whose value the program itself refuses: a log line that calls invalid a key which the container really has.

The name alone is not enough (logs print settings all the time), nor is a complaint without one of the container's own keys. Where the
value comes from is shown as evidence, redacted like all text.
Limits: a program that refuses a value without naming its key, or in words of its own, is not understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cluster.facts.config import ConfigMap
from cluster.facts.container import Container
from cluster.facts.pod import Pod
from cluster.reference import ContainerRef
from cluster.world import World
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.testimony import LAST_WORDS, State, Testimony, testimonies

# Keys that cannot be mistaken for a word of a sentence.
_TELLING_KEY = re.compile(r"[A-Z][A-Z0-9_]{3,}|\w+(?:[._-]\w+)+")
_REFUSED = re.compile(
    r"\b(?:invalid|illegal|malformed|unsupported|unrecogni[sz]ed|out of range|not a valid|not allowed|"
    r"(?:cannot|can't|could not|failed to|unable to) (?:parse|convert|decode)|must be|must not be|expected)\b",
    re.I,
)


def refused_setting(world: World) -> Iterator[Finding]:
    """A container that does not come up and says which of its settings has a value that it cannot use."""
    for testimony in world.once(testimonies):
        if testimony.state is State.RUNNING or testimony.spec is None:
            continue
        sources = dict(_sources(world, testimony.pod, testimony.spec))
        found = _refusal(world, testimony, sources)
        if found is None:
            continue
        key, line = found
        yield Finding(
            "config.value-refused",
            testimony.workload,
            Certainty.PROVEN if testimony.state is State.FAILING else Certainty.LIKELY,
            (cite(Source.LOG, testimony.pod.ref, testimony.where, line), sources[key]),
            f"Container {testimony.container} of {testimony.workload} cannot use the value of its setting {key}"
            f" ({sources[key].object}, {sources[key].path}): {line.strip()[:200]}",
            affects=(testimony.pod.ref,),
        )


def _refusal(world: World, testimony: Testimony, sources: dict[str, Evidence]) -> tuple[str, str] | None:
    """(key, line) of the last refusal of one of the container's own keys; None when there is none."""
    reference = ContainerRef(testimony.pod.namespace or "", testimony.pod.name, testimony.container)
    reading = world.logs.get((reference, testimony.previous))
    keys = {key: re.compile(rf"(?<![\w.-]){re.escape(key)}(?![\w-])") for key in sources if _TELLING_KEY.fullmatch(key)}
    for line in reversed((reading.value.lines if reading else ())[-LAST_WORDS:]):
        if _REFUSED.search(line):
            for key, pattern in keys.items():
                if pattern.search(line):
                    return key, line
    return None


def _sources(world: World, pod: Pod, container: Container) -> Iterator[tuple[str, Evidence]]:
    """Every setting of a container and where its value stands, the later winning as in Kubernetes: envFrom in order, then env."""
    for source in container.env_from or ():
        config = world.get(ConfigMap, pod.namespace, source.config_map_ref.name) if source.config_map_ref else None
        if config is not None:
            for key, value in (config.data or {}).items():
                yield f"{source.prefix or ''}{key}", cite(Source.FIELD, config.ref, f"data[{key}]", f"{key}={value}")
    owner = world.top_owner(pod.ref)
    for item in container.env or ():
        path = f"containers[{container.name}].env[{item.name}]"
        reference = item.value_from.config_map_key_ref if item.value_from else None
        config = world.get(ConfigMap, pod.namespace, reference.name) if reference else None
        if reference is not None and config is not None and reference.key in (config.data or {}):
            shown = f"{reference.key}={(config.data or {})[reference.key]}"
            yield item.name, cite(Source.FIELD, config.ref, f"data[{reference.key}]", shown)
        elif item.value is not None:
            yield item.name, cite(Source.FIELD, owner, path, f"{item.name}={item.value}")
        else:
            yield item.name, cite(Source.FIELD, owner, path, f"{item.name} from elsewhere")


DETECTORS: tuple[Detector, ...] = (refused_setting,)
