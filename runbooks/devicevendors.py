"""Whose devices a finding about a node is about, for nodes that have devices of several vendors.

It is told by what the evidence is called: an extended resource, a measurement of a vendor's exporter, a condition or label of a vendor's
agent, else by what the pods ask for that the evidence is about. Where nothing tells, the finding is about all devices of the node.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cluster.facts.pod import Pod
from cluster.world import World
from guardrails.accelerator import vendor_of
from runbooks.detectors.accelerators import SIGNS
from runbooks.finding import Evidence, Finding, Source
from runbooks.scheduling import requests_of

_RESOURCE = re.compile(r"[a-z0-9][a-z0-9.-]*\.[a-z]+/[\w.-]+")
_CONDITION = re.compile(r"status\.conditions\[(\w+)\]")
# How the agents of a vendor begin their names: NVSentinel and DCGM, the monitoring agent of EKS, Neuron's and ROCm's operators.
_AGENTS = (
    (re.compile(r"DCGM_|Gpu[A-Z]\w*Watch|NVSwitch|SysLogs(?:S?XID|GPU)|Nvidia|nvidia\.com/"), "NVIDIA"),
    (re.compile(r"Neuron"), "AWS Neuron"),
    (re.compile(r"AMDGPU|(?:metadata\.labels\[)?metricsexporter\.amd\.com"), "AMD"),
)


def vendors_of_finding(world: World, finding: Finding) -> tuple[str, ...]:
    """The names of the vendors, in order; empty where it cannot be told."""
    return tuple(sorted({name for item in finding.evidence for name in _vendors(world, item)}))


def _vendors(world: World, item: Evidence) -> Iterator[str]:
    named = {vendor.name for text in (item.path, item.quote) for name in _RESOURCE.findall(text) if (vendor := vendor_of(name)) is not None}
    if not named and item.source is Source.METRIC:
        measured = SIGNS.get(item.path.partition(" ")[0].removeprefix("amd_"))
        named = {measured.vendor} if measured is not None else set()
    if not named:
        condition = _CONDITION.fullmatch(item.path)
        # A condition that all vendors share says whose device it is in its reason, which begins the quote.
        words = (condition[1], item.quote) if condition else (item.path,)
        named = {name for pattern, name in _AGENTS if any(pattern.match(word) for word in words)}
    pod = world.get(Pod, item.object.namespace, item.object.name) if not named and item.object.kind == Pod.kind else None
    if pod is not None:
        named = {vendor.name for name in requests_of(pod.spec) if (vendor := vendor_of(name)) is not None}
    yield from named
