"""Events, grouped: what was said about which object, how often, when last. Warnings first; the text is workload-authored data."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Annotated, Literal

from msgspec import Struct
from pydantic import Field

from cluster.facts.event import Event
from cluster.kinds import BY_NAME
from cluster.reference import ObjectRef
from cluster.timestamps import age
from mcp_server.arguments import ListArguments, Name
from mcp_server.probe import find_kind, list_kind
from mcp_server.registry import Access, Answer, Growth, Page, RBACRule, ToolContext, ToolSpec
from mcp_server.result import Cell, Order, TableOutput, render_table, request
from runbooks.finding import Source, cite

EVENT_READ = RBACRule(("get", "list"), "", ("events",))
COLUMNS = ("type", "reason", "object", "alike", "times", "last", "message", "evidence")
# Replicas of one workload differ in their hash suffix, messages in numbers, addresses and quoted ids.
_VARIABLE = re.compile(r"[0-9a-f]{8,}|\d+")
_SUFFIX = re.compile(r"(-[0-9a-f]{6,10})?-[a-z0-9]{5}$|-\d+$")


class EventsListArguments(ListArguments):
    involved_kind: Annotated[str | None, Field(description="kind of the object they are about")] = None
    involved_name: Name | None = None
    type: Literal["Warning", "Normal", "all"] = "Warning"
    since_minutes: Annotated[int | None, Field(ge=1, le=10_080)] = None


class Group(Struct, frozen=True):
    """Events that say the same of objects of one workload; `latest` speaks for them."""

    latest: Event
    objects: int
    times: int
    last: datetime | None


async def _events_list(context: ToolContext, arguments: EventsListArguments) -> Answer:
    kind = (await find_kind(context, arguments.involved_kind)).name if arguments.involved_kind else None
    listing = await list_kind(context, BY_NAME[Event.kind], arguments.namespace)
    asked, now = request("events_list", context.reader.cluster, arguments), context.reader.now()

    def render() -> Page:
        events = [fact for fact in listing.read.facts if isinstance(fact, Event)]
        start = now - timedelta(minutes=arguments.since_minutes) if arguments.since_minutes else None
        matching = [
            event
            for event in events
            if (arguments.type == "all" or event.type == arguments.type)
            and (kind is None or event.subject.kind == kind)
            and (arguments.involved_name is None or event.subject.name == arguments.involved_name)
            and (start is None or event.last_seen is None or event.last_seen >= start)
        ]
        groups = grouped(matching)
        where = ", ".join(arguments.namespace) or "all namespaces"
        what = "events" if arguments.type == "all" else f"{arguments.type} events"

        def cells(group: Group) -> tuple[Cell, ...]:
            event = group.latest
            evidence = cite(Source.EVENT, event.subject, event.reason, event.text, event.last_seen)
            subject = str(ObjectRef(event.subject.kind, event.subject.namespace, event.subject.name))
            return (event.type, event.reason, subject, group.objects, group.times, age(group.last, now), event.text, evidence.id)

        return render_table(
            asked,
            headline=[f"{len(matching)} {what} of {len(events)} in {where}, as {len(groups)} groups; 'alike' counts objects"],
            columns=COLUMNS,
            items=((_order(group), group) for group in groups),
            cells=cells,
            missing=listing.missing,
            untrusted=True,
        )

    return Answer(render, Growth((listing.read,)), listing.cost)


def grouped(events: list[Event]) -> list[Group]:
    """Events by type, reason, kind of object, workload-like name and message without its variable parts."""
    groups: dict[tuple[str, ...], list[Event]] = defaultdict(list)
    for event in events:
        subject = event.subject
        stem = _SUFFIX.sub("", subject.name)
        text = _VARIABLE.sub("#", event.text.replace(subject.name, "@"))
        groups[(event.type, event.reason, subject.kind, subject.namespace or "", stem, text)].append(event)
    return [_group(members) for members in groups.values()]


def _group(members: list[Event]) -> Group:
    latest = max(members, key=lambda event: (event.last_seen.timestamp() if event.last_seen else 0.0, event.name))
    return Group(latest, len({event.subject.key for event in members}), sum(event.times for event in members), latest.last_seen)


def _order(group: Group) -> Order:
    seen = group.last.timestamp() if group.last else 0.0
    return (not group.latest.warning, -seen, str(group.latest.subject), group.latest.reason, group.latest.name)


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="events_list",
        title="List events",
        group="core",
        description="Kubernetes events, grouped over alike objects and messages, warnings and latest first.",
        arguments=EventsListArguments,
        output=TableOutput,
        access=Access.READ,
        rbac=(EVENT_READ,),
        run=_events_list,
    ),
)
