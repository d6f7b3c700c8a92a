"""Checks the accounts that read, try and write: who they are to the cluster, what they lack, what they have too much, what fences them.

It asks the cluster and changes nothing. An account that can do more than it needs is no fault of a diagnosis, and what an attacker would
use: so it is said, and left to an administrator.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from typing import Any

from cluster.account import Deed, identity, permitted
from cluster.connection import Connection
from cluster.errors import ClusterError
from guardrails.redact import present
from oncall.assembly import fleet
from oncall.checkup import Line, Mark
from oncall.fence import BOUNDS, FENCE, PARAMETER_NAMESPACE, PAUSED, documents
from oncall.roles import ADMISSION, DRY_RUN, EXECUTOR, NAMESPACE, READER, Rule, executor_rules, human_reviews, writes
from oncall.settings import Settings

SHOWN = 6
OURS = f"system:serviceaccount:{NAMESPACE}:"
ROLES = {READER: "reads", DRY_RUN: "tries", EXECUTOR: "writes"}
# What no account of ours ever needs: each lets its holder become more than it is, or see what nobody should show it.
NEVER = frozenset(
    {
        Deed("", "secrets", "get"),
        Deed("", "secrets", "list"),
        Deed("", "pods/exec", "create"),
        Deed("", "pods/attach", "create"),
        Deed("", "pods/portforward", "create"),
        Deed("", "pods/ephemeralcontainers", "patch"),
        Deed("", "nodes/proxy", "get"),
        Deed("", "serviceaccounts/token", "create"),
        Deed("rbac.authorization.k8s.io", "clusterroles", "escalate"),
        Deed("rbac.authorization.k8s.io", "clusterroles", "bind"),
        Deed("*", "*", "*"),
    }
)
# What the API server fills in where a policy or binding leaves it out; all else that it fills in is empty
# (k8s.io/kubernetes, pkg/apis/admissionregistration/v1/defaults.go).
FILLED_IN = {"matchPolicy": "Equivalent", "scope": "*"}
IMPERSONATING = frozenset({Deed("", "users", "impersonate"), Deed("", "groups", "impersonate")})


async def account_lines(settings: Settings, namespace: str | None) -> AsyncIterator[Line]:
    """What is to be said of each account, then of the fence. Raises ClusterError where the reader's context is none."""
    inventory = fleet(settings)
    only_reads = _only_reads(settings)
    reading = inventory.target(settings.context).context
    writing = settings.executor_context or reading
    contexts = {READER: reading}
    if not only_reads:
        contexts |= {DRY_RUN: settings.dry_run_context or writing, EXECUTOR: writing}
    opened: dict[str, Connection] = {}
    users: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for context in dict.fromkeys(contexts.values()):
            roles = [role for role, its in contexts.items() if its == context]
            what = f"account that {' and '.join(ROLES[role] for role in roles)}"
            try:
                opened[context] = await stack.enter_async_context(await inventory.connect(context))
                found = await identity(opened[context])
                users[context] = found.user if found else ""
                who = present(f"{users[context] or 'who it is, is not told'} (context {context})", 300)
                async for line in _rights(opened[context], roles, what, who, namespace, settings):
                    yield line
            except ClusterError as error:
                yield Line(Mark.BROKEN, what, str(error))
        if only_reads:
            detail = "not asked about, nor the fence: mcp.groups is without remediation, and no executor_context or dry_run_context is set"
            step = "To propose and execute with the command line all the same, set both; without, they would go as the account that reads."
            yield Line(Mark.GOOD, "accounts that try and write", detail, step)
            return
        if writing == reading:
            step = "Set executor_context and dry_run_context to accounts with the roles that smokejumper rbac prints."
            yield Line(Mark.MISSING, "separate accounts", "one account reads and writes, so who takes over what reads can write", step)
        async for line in _fence(opened, [users[context] for role, context in contexts.items() if role != READER and context in users]):
            yield line


def _only_reads(settings: Settings) -> bool:
    """Whether somebody said so: `smokejumper rbac` prints the reader alone then. An account set for writing is meant to write."""
    groups = settings.mcp.groups
    return groups is not None and "remediation" not in groups and not settings.executor_context and not settings.dry_run_context


async def _rights(
    connection: Connection, roles: list[str], what: str, who: str, namespace: str | None, settings: Settings
) -> AsyncIterator[Line]:
    """What it lacks for its roles, and what it has beyond them."""
    needs: set[Deed] = set()
    if EXECUTOR in roles or DRY_RUN in roles:
        needs |= deeds(executor_rules(namespaced=namespace is not None))
    if DRY_RUN in roles:
        needs |= deeds(human_reviews(namespaced=namespace is not None))
    excess = set(NEVER if settings.oidc.reads_as == "caller" and READER in roles else NEVER | IMPERSONATING)
    if roles == [READER]:
        excess |= deeds(writes())
    may = await permitted(connection, needs | excess, namespace)
    where = f"in namespace {namespace}" if namespace else "in all namespaces"
    lacks, beyond = needs - may, excess & may
    if lacks:
        detail = f"{who} may not {_listed(lacks)} {where}: {len(lacks)} of {len(needs)} things that actions need"
        step = "Grant it what smokejumper rbac prints" + ("." if namespace else ", or, where it is confined to a namespace, ask with -n.")
        yield Line(Mark.MISSING, what, detail, step)
    else:
        yield Line(Mark.GOOD, what, f"{who}, may do all {len(needs)} things that actions need {where}" if needs else who)
    if beyond:
        # What may do everything may do each of them; naming the rest tells nothing more.
        named = {deed for deed in beyond if deed.resource == "*"} or beyond
        step = "Take it away: it needs only what smokejumper rbac prints."
        yield Line(Mark.EXCESS, what, f"{who} may {_listed(named)} {where}", step)


def deeds(rules: Iterable[Rule]) -> set[Deed]:
    """The same atoms as the cluster is asked about them."""
    return {Deed(rule.group, rule.resource, rule.verb, rule.name) for rule in rules}


def _listed(some: Iterable[Deed]) -> str:
    ordered = sorted(some)
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return ", ".join(str(deed) for deed in ordered[:SHOWN]) + more


async def _fence(opened: dict[str, Connection], users: list[str]) -> AsyncIterator[Line]:
    """Whether both admission policies and their bindings stand as this version prints them, and whom they hold."""
    if not opened:
        return
    printed = {(document["kind"], document["metadata"]["name"]): document for document in documents()}
    unseen, absent, other = [], [], []
    for (kind, name), document in printed.items():
        if kind == "Namespace":
            continue
        found = await _seen(opened.values(), f"/apis/{ADMISSION}/v1/{_plural(kind)}/{name}")
        if found is None:
            unseen.append(name)
        elif not found:
            absent.append(f"{kind} {name}")
        elif not holds(document["spec"], found.get("spec")):
            other.append(f"{kind} {name}")
    if absent:
        step = "smokejumper fence | kubectl apply --server-side -f -"
        yield Line(Mark.MISSING, "fence", f"{', '.join(absent)} not installed: nothing in the cluster bounds our accounts but RBAC", step)
    elif unseen:
        step = f"Ask an administrator: kubectl get validatingadmissionpolicybindings {BOUNDS} {FENCE}"
        yield Line(Mark.MISSING, "fence", "no account of ours may see whether it is installed", step)
    elif other:
        step = "smokejumper fence | kubectl apply --server-side -f -"
        yield Line(Mark.MISSING, "fence", f"{', '.join(other)} is not what this version prints", step)
    else:
        yield Line(Mark.GOOD, "fence", "installed" + await _parameters(opened.values()))
    if (outside := strangers(users)) and not absent:
        named = present(", ".join(outside), 300)
        step = f"Let Smokejumper write as the accounts {OURS}* that smokejumper rbac prints."
        yield Line(Mark.MISSING, "fence", f"it holds only {OURS}*, and not {named}", step)


def strangers(users: Iterable[str]) -> list[str]:
    """Those whom the fence does not hold; a user that the cluster does not tell (empty) may be one or not."""
    return sorted({user for user in users if user and not user.startswith(OURS)})


def holds(printed: object, found: object) -> bool:
    """Whether a spec in the cluster is the printed one: all of it in its order, and nothing more than the API server fills in.

    More would narrow it: a selector, `matchResources`, `excludeResourceRules`, names of resources.
    """
    if isinstance(printed, dict):
        return (
            isinstance(found, dict)
            and all(key in found and holds(value, found[key]) for key, value in printed.items())
            and all(not value or value == FILLED_IN.get(key) for key, value in found.items() if key not in printed)
        )
    if isinstance(printed, list):
        return isinstance(found, list) and len(printed) == len(found) and all(map(holds, printed, found))
    return printed == found


async def _parameters(connections: Iterable[Connection]) -> str:
    found = await _seen(connections, f"/api/v1/namespaces/{PARAMETER_NAMESPACE}") or {}
    annotations = found.get("metadata", {}).get("annotations") or {}
    return ", and paused: our accounts try and write nothing" if annotations.get(PAUSED) == "true" else ""


async def _seen(connections: Iterable[Connection], path: str) -> dict[str, Any] | None:
    """The object, empty when it is not there, None when no account may look or none is answered."""
    for connection in connections:
        response = await connection.get(path)
        if response.status == 404:
            return {}
        if response.ok:
            document = json.loads(response.body)
            return document if isinstance(document, dict) else None
    return None


def _plural(kind: str) -> str:
    return f"{kind.removesuffix('y').lower()}ies" if kind.endswith("y") else f"{kind.lower()}s"
