"""The accounts of Smokejumper in a cluster and what each may do there, as RBAC documents. Pure; nothing is applied.

Every rule is derived: the reader's from the kinds that are read, the executor's from the vocabulary of actions and from what planning
and verifying them reads. So a role never grants what no code uses, and a new kind or action shows up in review as a change of a role.
There is no wildcard, no Secret, no exec, attach, port-forward, proxy or ephemeral container, no token in any of them. Only the front of
an HTTP server, printed when asked for, may impersonate: it reads as whoever calls, and holds no other right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from cluster.kinds import CUSTOM_KINDS, KINDS, Kind
from guardrails.action import TARGET_RESOURCES, WORDS, AccessRule, NamespaceName, Target, access, target
from mcp_server.groups import GROUPS, Group
from mcp_server.ownership import group_of
from mcp_server.registry import Access

NAMESPACE = "smokejumper"
READER = "smokejumper-reader"
EXECUTOR = "smokejumper-executor"
DRY_RUN = "smokejumper-dry-run"
FRONT = "smokejumper-front"
IDENTITY = "smokejumper-cluster-identity"
# Service accounts, all in NAMESPACE: the model lives with the reader, approved changes leave through the executor, and what has not
# been approved yet is tried as the dry-run account, which the fence keeps from storing anything.
# The front of an HTTP server is a fourth, where callers are impersonated.
FRONT_ACCOUNT = "front"
ACCOUNTS = {READER: "reader", EXECUTOR: "executor", DRY_RUN: "dryrun"}
REVIEWS = "authorization.k8s.io"
# Both admission policies of the second fence, and their bindings, by these names.
FENCES = ("smokejumper-bounds", "smokejumper-fence")
ADMISSION = "admissionregistration.k8s.io"
RBAC_GROUP = "rbac.authorization.k8s.io"

Document = dict[str, Any]


class Rule(Struct, frozen=True, order=True):
    """One RBAC atom; `name` limits it to the object of that name."""

    group: str
    resource: str
    verb: str
    name: str = ""


def documents(
    namespaces: Iterable[NamespaceName] = (), *, configmaps: bool = True, callers: bool = False, groups: Iterable[Group] = GROUPS
) -> tuple[Document, ...]:
    """Namespace, service accounts, roles and bindings; roles of `namespaces` alone when there are any, else of the whole cluster.

    Confined to namespaces there is no ClusterRole: nodes, volumes and other kinds without a namespace are then neither read nor
    written. Without `configmaps` no account of ours may read or write ConfigMaps; set `read_configmaps = false` to go with it.
    With `callers` there is a front account that may impersonate users and groups, which RBAC can grant for a whole cluster only.
    Of tools in some `groups` only what those read is granted, and without remediation nothing may be written or tried.
    """
    tenants, chosen = tuple(dict.fromkeys(namespaces)), frozenset(groups)
    roles = ACCOUNTS if "remediation" in chosen else {READER: ACCOUNTS[READER]}
    head = (_namespace(), *(_account(name) for name in roles.values()), *(_front() if callers else ()))
    if not tenants:
        granted = {
            READER: reader_rules(groups=chosen),
            EXECUTOR: executor_rules(),
            DRY_RUN: executor_rules() | human_reviews(),
        }
        granted = {role: _chosen(granted[role], configmaps=configmaps) for role in roles}
        pairs = ((_role(role, rules), _binding(role, ACCOUNTS[role])) for role, rules in granted.items())
        return (*head, *(document for pair in pairs for document in pair))
    inside = {
        READER: reader_rules(namespaced=True, groups=chosen),
        EXECUTOR: executor_rules(namespaced=True),
        DRY_RUN: executor_rules(namespaced=True) | human_reviews(namespaced=True),
    }
    inside = {role: _chosen(inside[role], configmaps=configmaps) for role in roles}
    confined = [
        document
        for namespace in tenants
        for role, rules in inside.items()
        for document in (_role(role, rules, namespace), _binding(role, ACCOUNTS[role], namespace))
    ]
    if EXECUTOR not in roles:
        return (*head, *confined)
    # Asked for by name, a namespace counts as living in itself, so a Role there can grant the look at its uid.
    identity = (_role(IDENTITY, _cluster_identity(), "kube-system"), _binding(IDENTITY, "executor", "kube-system", "dryrun"))
    return (*head, *identity, *confined)


def front_rules() -> frozenset[Rule]:
    """What reading as the caller takes."""
    return frozenset({Rule("", "users", "impersonate"), Rule("", "groups", "impersonate")})


def _front() -> tuple[Document, ...]:
    return (_account(FRONT_ACCOUNT), _role(FRONT, front_rules()), _binding(FRONT, FRONT_ACCOUNT))


def _chosen(rules: Iterable[Rule], *, configmaps: bool) -> frozenset[Rule]:
    return frozenset(rule for rule in rules if configmaps or (rule.group, rule.resource) != ("", "configmaps"))


def reader_rules(*, namespaced: bool = False, groups: Iterable[Group] = GROUPS) -> frozenset[Rule]:
    """What diagnosis reads, of custom kinds those of some groups, and whether the fence stands. It follows no watch, so it is granted
    none.
    """
    kinds = [kind for kind in (*KINDS, *_custom_kinds(frozenset(groups))) if kind.namespaced or not namespaced]
    rules = {Rule(group, kind.plural, verb) for kind in kinds for group in (kind.group, *kind.also) for verb in ("get", "list")}
    rules.add(Rule("", "pods/log", "get"))
    if namespaced:
        rules.add(Rule("", "namespaces", "get"))
    else:
        kept = ("validatingadmissionpolicies", "validatingadmissionpolicybindings")
        rules |= {Rule(ADMISSION, resource, "get", name) for resource in kept for name in FENCES}
    return frozenset(rules)


def _custom_kinds(groups: frozenset[Group]) -> tuple[Kind, ...]:
    """The custom kinds of some groups, those of the core, and whatever else the groups' tools read."""
    if groups == frozenset(GROUPS):
        return CUSTOM_KINDS
    # Imported here: it brings all tools along, which only roles for some of them need.
    from mcp_server.tools.catalogue import toolset

    tools = toolset(groups)
    reading = (rule for spec in tools if spec.access is Access.READ for rule in tools.rules(spec.name))
    read = {(rule.api_group, name) for rule in reading for name in rule.resources}
    return tuple(kind for kind in CUSTOM_KINDS if group_of(kind) in {"core", *groups} or (kind.group, kind.plural) in read)


def executor_rules(*, namespaced: bool = False) -> frozenset[Rule]:
    """What the vocabulary of actions writes, and what observing, planning and verifying them reads."""
    rules: set[Rule] = set()
    for word, on in _uses(namespaced=namespaced):
        rules |= {_atom(rule) for rule in access(word.model_construct(), on)}
        looked_at = [resource for resource in word.traits.reads if resource.namespaced or not namespaced]
        rules |= {Rule(resource.group, resource.plural, verb) for resource in looked_at for verb in ("get", "list")}
    if namespaced:
        return frozenset(rules)
    return frozenset(rules | _cluster_identity() | {Rule(REVIEWS, "selfsubjectaccessreviews", "create")})


def writes() -> frozenset[Rule]:
    """Everything that the executor is ever allowed to change."""
    return frozenset(rule for rule in executor_rules() if rule.verb not in ("get", "list") and rule.group != REVIEWS)


def _uses(*, namespaced: bool) -> list[tuple[Any, Target]]:
    """Every word with every kind it applies to. What an action needs does not depend on its parameters, nor on the object's name."""
    found = []
    for word in WORDS:
        for kind in word.traits.kinds:
            inside = TARGET_RESOURCES[kind].namespaced
            # A namespace is judged as living in itself; other kinds without one are out of a confined account's reach.
            if inside or not namespaced or TARGET_RESOURCES[kind].plural == "namespaces":
                found.append((word, target(kind, "x" if inside else None, "x")))
    return found


def human_reviews(*, namespaced: bool = False) -> frozenset[Rule]:
    """Asking what the human who proposes may do: for a namespace the review that lives in it, for nodes the cluster's."""
    local = Rule(REVIEWS, "localsubjectaccessreviews", "create")
    return frozenset({local} if namespaced else {local, Rule(REVIEWS, "subjectaccessreviews", "create")})


def _cluster_identity() -> frozenset[Rule]:
    """The uid of kube-system is how one cluster is told from another."""
    return frozenset({Rule("", "namespaces", "get", "kube-system")})


def _atom(rule: AccessRule) -> Rule:
    return Rule(rule.group, f"{rule.resource}/{rule.subresource}" if rule.subresource else rule.resource, rule.verb)


def _folded(rules: Iterable[Rule]) -> list[Document]:
    """The atoms as they stand in a Role: one rule per group and set of verbs."""
    verbs: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for rule in sorted(rules):
        verbs[rule.group, rule.name, rule.resource].append(rule.verb)
    resources: dict[tuple[str, str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (group, name, resource), said in verbs.items():
        resources[group, name, tuple(said)].append(resource)
    return [
        {"apiGroups": [group], "resources": listed, **({"resourceNames": [name]} if name else {}), "verbs": list(said)}
        for (group, name, said), listed in sorted(resources.items())
    ]


def _metadata(name: str, namespace: str | None = None) -> Document:
    labels = {"app.kubernetes.io/name": "smokejumper"}
    return {"name": name, **({"namespace": namespace} if namespace else {}), "labels": labels}


def _namespace() -> Document:
    metadata = _metadata(NAMESPACE)
    metadata["labels"]["pod-security.kubernetes.io/enforce"] = "restricted"
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _account(name: str) -> Document:
    # A pod that needs its token mounts it expressly, short-lived and bound.
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(name, NAMESPACE), "automountServiceAccountToken": False}


def _role(name: str, rules: Iterable[Rule], namespace: str | None = None) -> Document:
    kind = "Role" if namespace else "ClusterRole"
    return {"apiVersion": f"{RBAC_GROUP}/v1", "kind": kind, "metadata": _metadata(name, namespace), "rules": _folded(rules)}


def _binding(role: str, account: str, namespace: str | None = None, *others: str) -> Document:
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    return {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": kind,
        "metadata": _metadata(role, namespace),
        "roleRef": {"apiGroup": RBAC_GROUP, "kind": "Role" if namespace else "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE} for name in (account, *others)],
    }
