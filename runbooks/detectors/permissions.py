"""Permissions: requests that RBAC refused, bindings that bind nothing, and rights wider than they need to be.

The refused requests are known from logs and events; the roles and bindings then tell which object has to change. The hygiene findings
stay silent about the platform's own namespaces and built-in roles.
Limits: rights are judged by the roles and bindings that were read; other authorisers are not known.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from msgspec import Struct

from cluster.facts.config import ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, ServiceAccount
from cluster.facts.event import Event
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.traffic import is_system

# K staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go, the text of every refusal by RBAC.
_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]+)" cannot (?P<verb>[\w*]+) (?:resource "(?P<resource>[^"]+)"(?: in API group "(?P<group>[^"]*)")?'
    r'(?P<scope> in the namespace "(?P<namespace>[^"]+)"| at the cluster scope)?|path "(?P<path>[^"]+)")'
)
_ACCOUNT = re.compile(r"^system:serviceaccount:(?P<namespace>[^:]+):(?P<name>.+)$")
_BUILT_IN = re.compile(r"^(system:.*|cluster-admin|admin|edit|view|kubeadm:.*|eks:.*|gke-.*|aks-.*)$")
_EVERYBODY = frozenset({"system:anonymous", "system:unauthenticated", "system:authenticated", "system:serviceaccounts"})
_SYSTEM_SUBJECT = re.compile(r"^system:")

AnyRole = Role | ClusterRole
AnyBinding = RoleBinding | ClusterRoleBinding


class Refusal(Struct, frozen=True):
    """One request that was refused: who asked (`account` None for a user that is no ServiceAccount), for what, and the proof."""

    user: str
    account: ObjectRef | None
    verb: str
    resource: str
    group: str
    namespace: str | None
    asker: ObjectRef
    evidence: Evidence


def forbidden(world: World) -> Iterator[Finding]:
    """A request that RBAC refused, blamed on the role or binding that should have allowed it, else on the workload that asked."""
    grouped: dict[tuple[str, str, str, str | None], list[Refusal]] = defaultdict(list)
    for refusal in _refusals(world):
        grouped[(refusal.user, refusal.verb, refusal.resource, refusal.namespace)].append(refusal)
    for refusals in grouped.values():
        yield _blame(world, refusals)


def _refusals(world: World) -> Iterator[Refusal]:
    for (container, _), reading in world.logs.items():
        seen: set[str] = set()
        for line in reading.value.lines:
            # klog puts the answer of the API in quotes of its own.
            match = _FORBIDDEN.search(line.replace('\\"', '"')) if "cannot" in line else None
            if match is not None and match[0] not in seen:
                seen.add(match[0])
                pod = container.pod_ref
                yield _refusal(match, world.top_owner(pod), cite(Source.LOG, pod, f"log[{container.container}]", line.strip()))
    for event in world.all(Event):
        match = _FORBIDDEN.search(event.text) if "cannot" in event.text else None
        if match is not None:
            evidence = cite(Source.EVENT, event.subject, event.reason, event.text, event.last_seen)
            yield _refusal(match, world.top_owner(event.subject), evidence)


def _refusal(match: re.Match[str], asker: ObjectRef, evidence: Evidence) -> Refusal:
    account = _ACCOUNT.match(match["user"])
    ref = ObjectRef(ServiceAccount.kind, account["namespace"], account["name"]) if account else None
    resource = match["resource"] or match["path"] or ""
    return Refusal(match["user"], ref, match["verb"], resource, match["group"] or "", match["namespace"], asker, evidence)


def _blame(world: World, refusals: list[Refusal]) -> Finding:
    first = refusals[0]
    where = f"in namespace {first.namespace}" if first.namespace else "at the cluster scope"
    what = f"{first.verb} {first.resource} {where}"
    askers = tuple(dict.fromkeys(refusal.asker for refusal in refusals))
    evidence = tuple(dict.fromkeys(refusal.evidence for refusal in refusals))[:4]
    code, subject, why = "rbac.forbidden", askers[0], "no role that it is bound to allows it"
    more: tuple[Evidence, ...] = ()
    fault = _fault(world, first)
    if fault is not None:
        subject, why, more = fault
        code = "rbac.role-insufficient" if subject.kind in (Role.kind, ClusterRole.kind) else "rbac.binding-wrong"
    return Finding(
        code,
        subject,
        Certainty.PROVEN,
        (*evidence, *more),
        f"{first.user} may not {what}: {why}.",
        affects=askers,
        since=min((item.at for item in evidence if item.at is not None), default=None),
        lacks="",
    )


def _fault(world: World, refusal: Refusal) -> tuple[ObjectRef, str, tuple[Evidence, ...]] | None:
    """(object to change, why, evidence): the bound role that falls short, or the binding that misses the account; None when unknown."""
    if refusal.account is None:
        return None
    account = refusal.account
    bound: list[AnyRole] = []
    near: list[tuple[AnyBinding, AnyRole]] = []
    for binding in _bindings(world, refusal.namespace):
        role = _role_of(world, binding)
        names_it = any(_is_account(binding, subject.kind, subject.namespace, subject.name, account) for subject in binding.subjects or ())
        if names_it and role is None and _role_presence(world, binding) is Presence.ABSENT:
            text = f"{binding.ref.kind} {binding.name} binds it to {binding.role_ref.kind} {binding.role_ref.name}, which does not exist"
            return binding.ref, text, (cite(Source.FIELD, binding.ref, "roleRef", f"{binding.role_ref.kind}/{binding.role_ref.name}"),)
        if role is not None and names_it:
            bound.append(role)
        elif role is not None and _grants(role, refusal):
            near.append((binding, role))
    for binding, role in near:
        likes = [item for item in binding.subjects or () if item.kind == ServiceAccount.kind]
        if any(item.name == account.name or (item.namespace or binding.namespace) == account.namespace for item in likes):
            named = ", ".join(f"{item.namespace or binding.namespace}/{item.name}" for item in likes)
            text = f"{binding.ref.kind} {binding.name} grants it through {role.ref.kind} {role.name}, but to {named}"
            return binding.ref, text, (cite(Source.FIELD, binding.ref, "subjects", named),)
    custom = [role for role in bound if not _BUILT_IN.match(role.name)]
    if custom:
        best = max(custom, key=lambda role: (_touches(role, refusal.resource), role.name))
        rules = _rules_text(best, refusal.resource)
        return (
            best.ref,
            f"{best.ref.kind} {best.name}, which it is bound to, allows only {rules}",
            (cite(Source.FIELD, best.ref, "rules", rules),),
        )
    return None


def _bindings(world: World, namespace: str | None) -> tuple[AnyBinding, ...]:
    """The bindings that count for a request in a namespace, or at the cluster scope."""
    local = tuple(item for item in world.all(RoleBinding) if item.namespace == namespace)
    return (*local, *world.all(ClusterRoleBinding))


def _is_account(binding: AnyBinding, kind: str, namespace: str | None, name: str, account: ObjectRef) -> bool:
    if kind == "Group":
        return name in ("system:serviceaccounts", f"system:serviceaccounts:{account.namespace}", "system:authenticated")
    return kind == ServiceAccount.kind and name == account.name and (namespace or binding.namespace) == account.namespace


def _role_of(world: World, binding: AnyBinding) -> AnyRole | None:
    if binding.role_ref.kind == ClusterRole.kind:
        return world.get(ClusterRole, None, binding.role_ref.name)
    return world.get(Role, binding.namespace, binding.role_ref.name)


def _role_presence(world: World, binding: AnyBinding) -> Presence:
    reference: RoleRef = binding.role_ref
    return world.presence(reference.kind, None if reference.kind == ClusterRole.kind else binding.namespace, reference.name)


def _grants(role: AnyRole, refusal: Refusal) -> bool:
    return any(
        _has(rule.verbs, refusal.verb) and _has(rule.resources, refusal.resource) and _has(rule.api_groups, refusal.group)
        for rule in role.rules or ()
    )


def _has(values: tuple[str, ...] | None, wanted: str) -> bool:
    return bool(values) and (wanted in (values or ()) or "*" in (values or ()))


def _touches(role: AnyRole, resource: str) -> bool:
    return any(_has(rule.resources, resource) for rule in role.rules or ())


def _rules_text(role: AnyRole, resource: str) -> str:
    rules = [rule for rule in role.rules or () if _has(rule.resources, resource)] or list(role.rules or ())
    return "; ".join(_rule_text(rule) for rule in rules[:4]) or "nothing"


def _rule_text(rule: PolicyRule) -> str:
    return f"{','.join(rule.verbs)} on {','.join(rule.resources or rule.non_resource_urls or ())}"


def dangling_binding(world: World) -> Iterator[Finding]:
    """A binding to a role that does not exist, or of ServiceAccounts none of which exists."""
    bindings: tuple[AnyBinding, ...] = (*world.all(RoleBinding), *world.all(ClusterRoleBinding))
    for binding in bindings:
        if is_system(binding.namespace) or _BUILT_IN.match(binding.name):
            continue
        accounts = [item for item in binding.subjects or () if item.kind == ServiceAccount.kind]
        if _role_presence(world, binding) is Presence.ABSENT:
            yield Finding(
                "rbac.binding-role-missing",
                binding.ref,
                Certainty.PROVEN,
                (
                    cite(Source.FIELD, binding.ref, "roleRef", f"{binding.role_ref.kind}/{binding.role_ref.name}"),
                    cite(
                        Source.ABSENCE,
                        ObjectRef(binding.role_ref.kind, binding.namespace, binding.role_ref.name),
                        "metadata.name",
                        "no such role",
                    ),
                ),
                f"{binding.ref.kind} {binding.name} grants {binding.role_ref.kind} {binding.role_ref.name}, which does not exist: "
                "it grants nothing.",
                affects=_pods_of_accounts(world, binding),
            )
        elif accounts and all(
            world.presence(ServiceAccount.kind, item.namespace or binding.namespace, item.name) is Presence.ABSENT for item in accounts
        ):
            names = ", ".join(f"{item.namespace or binding.namespace}/{item.name}" for item in accounts[:5])
            yield Finding(
                "rbac.binding-subject-missing",
                binding.ref,
                Certainty.PROVEN,
                (cite(Source.FIELD, binding.ref, "subjects", names),),
                f"{binding.ref.kind} {binding.name} grants {binding.role_ref.name} to ServiceAccount(s) that do not exist: {names}.",
            )


def _pods_of_accounts(world: World, binding: AnyBinding) -> tuple[ObjectRef, ...]:
    accounts = {(item.namespace or binding.namespace, item.name) for item in binding.subjects or () if item.kind == ServiceAccount.kind}
    if not accounts:
        return ()
    return tuple(pod.ref for pod in world.all(Pod) if (pod.namespace, pod.spec.service_account_name or "default") in accounts)[:20]


def privileged(world: World) -> Iterator[Finding]:
    """A container that runs privileged outside the platform's namespaces: it can do anything on its node."""
    reported: set[ObjectRef] = set()
    for pod in world.all(Pod):
        names = [item.name for item in pod.spec.all_containers if item.security_context is not None and item.security_context.privileged]
        if not names or is_system(pod.namespace) or pod.finished:
            continue
        subject = world.top_owner(pod.ref)
        # Agents that must touch every node run as DaemonSets; that they are privileged is what they are for.
        if subject in reported or subject.kind == "DaemonSet":
            continue
        reported.add(subject)
        yield Finding(
            "security.privileged",
            subject,
            Certainty.PROVEN,
            tuple(cite(Source.FIELD, pod.ref, f"spec.containers[{name}].securityContext.privileged", "true") for name in names[:3]),
            f"{subject.kind} {subject.namespace}/{subject.name} runs container {', '.join(names)} privileged, with all rights on its node.",
        )


def wildcard_role(world: World) -> Iterator[Finding]:
    """A binding to a role of one's own that allows every verb or every resource."""
    bindings: tuple[AnyBinding, ...] = (*world.all(RoleBinding), *world.all(ClusterRoleBinding))
    for binding in bindings:
        role = _role_of(world, binding)
        built_in = isinstance(role, ClusterRole) and _BUILT_IN.match(role.name)
        if role is None or built_in or is_system(binding.namespace) or _BUILT_IN.match(binding.name):
            continue
        subjects = binding.subjects or ()
        if subjects and all(is_system(item.namespace) or _SYSTEM_SUBJECT.match(item.name) for item in subjects):
            continue
        wide = next((rule for rule in role.rules or () if "*" in rule.verbs or "*" in (rule.resources or ())), None)
        if wide is not None:
            names = ", ".join(item.name for item in subjects[:5]) or "nobody yet"
            yield Finding(
                "security.wildcard-role",
                binding.ref,
                Certainty.PROVEN,
                (
                    cite(Source.FIELD, role.ref, "rules", _rule_text(wide)),
                    cite(Source.FIELD, binding.ref, "roleRef", f"{role.ref.kind}/{role.name} to {names}"),
                ),
                f"{binding.ref.kind} {binding.name} grants {role.ref.kind} {role.name} to {names}, and that role has a wildcard: "
                f"{_rule_text(wide)}.",
            )


def administrator_for_everyone(world: World) -> Iterator[Finding]:
    """`cluster-admin` given to whoever names no account of a namespace, or to everybody who can reach the API."""
    bindings: tuple[AnyBinding, ...] = (*world.all(ClusterRoleBinding), *world.all(RoleBinding))
    for binding in bindings:
        # A Role that somebody called so allows what its rules say, and `wildcard_role` looks at them.
        everything = (binding.role_ref.kind, binding.role_ref.name) == (ClusterRole.kind, "cluster-admin")
        if not everything or is_system(binding.namespace):
            continue
        for subject in binding.subjects or ():
            pods = subject.kind == ServiceAccount.kind and subject.name == "default" and not is_system(subject.namespace)
            if not pods and subject.name not in _EVERYBODY:
                continue
            whom = f"ServiceAccount {subject.namespace or binding.namespace}/default" if pods else f"{subject.kind} {subject.name}"
            yield Finding(
                "security.wildcard-role",
                binding.ref,
                Certainty.PROVEN,
                (
                    cite(Source.FIELD, binding.ref, "subjects", whom),
                    cite(Source.FIELD, binding.ref, "roleRef", "ClusterRole/cluster-admin"),
                ),
                f"{binding.ref.kind} {binding.name} grants cluster-admin to {whom}, which "
                + ("every pod of its namespace has that names no other." if pods else "is anybody who reaches the API."),
            )


def default_service_account(world: World) -> Iterator[Finding]:
    """Pods that run with the namespace's default ServiceAccount and its token mounted, where that account may do something.

    Every pod that names no account has this one, and by itself it may do nothing. Where bindings were not read, only a pod that somebody
    made by hand is mentioned.
    """
    reported: set[ObjectRef] = set()
    granted = _granted_to_default(world)
    bindings_read = RoleBinding.kind in world.read_kinds and bool(world.all(RoleBinding) or world.all(ClusterRoleBinding))
    for pod in world.all(Pod):
        if pod.spec.service_account_name != "default" or pod.finished or is_system(pod.namespace):
            continue
        account = world.get(ServiceAccount, pod.namespace, "default")
        # Whether a token is mounted is decided by the pod first, then by the account: unread, it is not known.
        if account is None or pod.spec.automount_service_account_token is False:
            continue
        if pod.spec.automount_service_account_token is None and account.automount_service_account_token is False:
            continue
        subject = world.top_owner(pod.ref)
        if subject in reported or not (pod.namespace in granted or (not bindings_read and subject.same(pod.ref))):
            continue
        reported.add(subject)
        yield Finding(
            "security.default-service-account",
            subject,
            Certainty.PROVEN,
            (
                cite(Source.FIELD, pod.ref, "spec.serviceAccountName", "default"),
                cite(Source.FIELD, account.ref, "automountServiceAccountToken", "not disabled"),
            ),
            f"{subject.kind} {subject.namespace}/{subject.name} runs with the default ServiceAccount of its namespace and its token: "
            "whatever is granted to that account, every such pod may do.",
        )


def _granted_to_default(world: World) -> frozenset[str | None]:
    """The namespaces whose default ServiceAccount some binding names."""
    bindings: tuple[RoleBinding | ClusterRoleBinding, ...] = (*world.all(RoleBinding), *world.all(ClusterRoleBinding))
    return frozenset(
        subject.namespace or binding.namespace
        for binding in bindings
        for subject in binding.subjects or ()
        if subject.kind == ServiceAccount.kind and subject.name == "default"
    )


DETECTORS: tuple[Detector, ...] = (
    forbidden,
    dangling_binding,
    privileged,
    wildcard_role,
    administrator_for_everyone,
    default_service_account,
)
