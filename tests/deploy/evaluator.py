"""RBAC as the API server evaluates it (k8s.io/component-helpers, auth/rbac/validation), over documents: may this account do that? Pure.

Deliberately written without a look at `oncall.roles`: it knows wildcards, resource names, groups and bindings of every kind, which ours
do not use, so that a role which starts to use them is judged and not overlooked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class Ask:
    """One request as the authorizer sees it. `name` and `namespace` are "" where there is none."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    name: str = ""
    namespace: str = ""


def allows(documents: Iterable[Document], namespace: str, account: str, ask: Ask) -> bool:
    """Whether the bindings and roles among the documents let the service account do it."""
    listed = list(documents)
    identities = {f"system:serviceaccount:{namespace}:{account}"}
    groups = {"system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{namespace}"}
    for binding in listed:
        if binding["kind"] == "ClusterRoleBinding":
            home = ""
        elif binding["kind"] == "RoleBinding":
            home = binding["metadata"]["namespace"]
            if ask.namespace != home:
                continue
        else:
            continue
        subjects = binding.get("subjects") or ()
        if not any(_is(subject, home, namespace, account, identities, groups) for subject in subjects):
            continue
        if any(_covers(rule, ask) for rule in _rules(listed, binding["roleRef"], home)):
            return True
    return False


def _is(subject: Document, home: str, namespace: str, account: str, identities: set[str], groups: set[str]) -> bool:
    if subject["kind"] == "ServiceAccount":
        return (subject.get("namespace") or home, subject["name"]) == (namespace, account)
    return bool(subject["name"] in (identities if subject["kind"] == "User" else groups))


def _rules(documents: list[Document], reference: Document, home: str) -> list[Document]:
    """The rules of a role; a binding to a role that is not among the documents grants nothing that they could show."""
    for role in documents:
        same = (role["kind"], role["metadata"]["name"]) == (reference["kind"], reference["name"])
        if same and (role["kind"] == "ClusterRole" or role["metadata"]["namespace"] == home):
            return role.get("rules") or []
    return []


def _covers(rule: Document, ask: Ask) -> bool:
    whole = f"{ask.resource}/{ask.subresource}" if ask.subresource else ask.resource
    resources = rule.get("resources") or ()
    return (
        _any(rule["verbs"], ask.verb)
        and _any(rule.get("apiGroups") or (), ask.group)
        and ("*" in resources or whole in resources or (ask.subresource != "" and f"*/{ask.subresource}" in resources))
        and (not rule.get("resourceNames") or ask.name in rule["resourceNames"])
    )


def _any(listed: Iterable[str], wanted: str) -> bool:
    return "*" in listed or wanted in listed
