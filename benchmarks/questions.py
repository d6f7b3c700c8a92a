"""What the two MCP servers are asked about a crowd's broken Deployments, side by side, so that a reader can judge whether it is the same.

*Named*: "Deployment X is not available; why?", for each broken one. *Whole*: "what is broken in this cluster, and why?". An answer counts
from the response that holds the Deployment's name and the reason. The peer is asked as somebody would who knows where each fault shows:
named, the Deployment's pods by label, then one pod's events, its log or itself; whole, all warning events of the cluster, then the log or
the status of one pod for each Deployment whose reason no event gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import crowd
from benchmarks.crowd import Broken
from benchmarks.servers import Client, Reply

# So many characters after its name, a reason still is that object's: an event of the peer, a cause of ours.
NEAR = 700

Call = tuple[str, Mapping[str, Any]]


@dataclass
class Told:
    """What a question cost: calls, bytes of text and of the structured channel, and how many of the broken were explained."""

    calls: int = 0
    text_bytes: int = 0
    structured_bytes: int = 0
    explained: int = 0

    def add(self, reply: Reply) -> str:
        if reply.error:
            raise RuntimeError(f"a call failed: {reply.error}")
        self.calls += 1
        self.text_bytes += len(reply.text.encode())
        self.structured_bytes += reply.structured_bytes
        return reply.text

    @property
    def tokens(self) -> int:
        return -(-self.text_bytes // 3)

    def figures(self) -> dict[str, int]:
        return {
            "calls": self.calls,
            "tokens": self.tokens,
            "tokens_by_4": -(-self.text_bytes // 4),
            "structured_tokens": -(-self.structured_bytes // 3),
            "explained": self.explained,
        }


def explains(text: str, one: Broken) -> bool:
    """Whether a text about many things holds the object with its reason: on the same line, or soon after it and before another object."""
    if any(one.name in line and gives_reason(line, one) for line in text.splitlines()):
        return True
    lowered = text.lower()
    return any(gives_reason(_about(lowered[found.start() : found.start() + NEAR], one), one) for found in re.finditer(one.name, lowered))


def _about(text: str, one: Broken) -> str:
    """What is said before another of the crowd is named."""
    others = (found.start() for found in crowd.NAME.finditer(text) if found[0] != one.name)
    return text[: next(others, len(text))]


def gives_reason(text: str, one: Broken) -> bool:
    """Whether a text about this object alone holds the reason."""
    return any(reason.replace("NAME", one.name).lower() in text.lower() for reason in one.fault.reasons)


def summed(told: Sequence[Told]) -> Told:
    """The median question's tokens and the largest number of calls, with all that were explained."""
    ordered = sorted(told, key=lambda one: one.text_bytes)
    middle = ordered[len(ordered) // 2]
    return Told(max(one.calls for one in told), middle.text_bytes, middle.structured_bytes, sum(one.explained for one in told))


async def ours_named(client: Client, one: Broken) -> Told:
    told = Told()
    text = told.add(await client.call("workload_diagnose", {"kind": "Deployment", "namespace": one.namespace, "name": one.name}))
    told.explained = one.name in text and gives_reason(text, one)
    return told


async def peer_named(client: Client, one: Broken) -> Told:
    told = Told()
    pods = told.add(await client.call("pods_list_in_namespace", {"namespace": one.namespace, "labelSelector": f"app={one.name}"}))
    told.explained = gives_reason(pods, one)
    if not told.explained:
        told.explained = gives_reason(told.add(await client.call(*_look(one, _pod(pods, one)))), one)
    return told


async def _first(client: Client, broken: Sequence[Broken], tool: str, arguments: dict[str, Any]) -> tuple[Told, str, list[Broken]]:
    """One response about all that is broken: what it took, its text, and whom it does not explain."""
    told = Told()
    text = told.add(await client.call(tool, arguments))
    left = [one for one in broken if not explains(text, one)]
    told.explained = len(broken) - len(left)
    return told, text, left


async def ours_whole(client: Client, broken: Sequence[Broken]) -> tuple[Told, Told]:
    first, _, left = await _first(client, broken, "investigate", {"question": "What is broken in this cluster, and why?"})
    every = replace(first)
    for one in left:
        named = await ours_named(client, one)
        every.calls += named.calls
        every.text_bytes += named.text_bytes
        every.structured_bytes += named.structured_bytes
        every.explained += named.explained
    return first, every


async def peer_whole(client: Client, broken: Sequence[Broken]) -> tuple[Told, Told]:
    first, events, left = await _first(client, broken, "events_list", {"fieldSelector": "type=Warning"})
    every = replace(first)
    for one in left:
        text = every.add(await client.call(*_look(one, _pod(events, one))))
        every.explained += gives_reason(text, one)
    return first, every


def _look(one: Broken, pod: str) -> Call:
    """The peer's call that shows this fault best."""
    match one.fault.where:
        case "events":
            return "events_list", {"namespace": one.namespace, "fieldSelector": f"involvedObject.name={pod}"}
        case "log":
            return "pods_log", {"namespace": one.namespace, "name": pod, "previous": True}
        case _:
            return "pods_get", {"namespace": one.namespace, "name": pod}


def _pod(text: str, one: Broken) -> str:
    found = next((word for word in text.split() if word.startswith(f"{one.name}-")), None)
    if found is None:
        raise RuntimeError(f"no pod of {one.name} in {text[:200]!r}")
    return found
