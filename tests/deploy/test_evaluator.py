"""The evaluator is not lenient and not blind: roles that differ from a harmless one by one word."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.evaluator import Ask, allows

EXEC = Ask("create", "", "pods", "exec", namespace="ml")
SECRET = Ask("get", "", "secrets", name="db", namespace="ml")
POD = Ask("get", "", "pods", namespace="ml")


def role(rule: dict[str, Any], *, subject: dict[str, Any] | None = None, namespace: str = "", of: str = "") -> list[dict[str, Any]]:
    """A role with one rule, bound; confined to `namespace` if there is one. `of`: kind of the role, where it differs from the binding's."""
    kind = of or ("Role" if namespace else "ClusterRole")
    home = {"namespace": namespace} if namespace else {}
    return [
        {"kind": kind, "metadata": {"name": "r", **(home if kind == "Role" else {})}, "rules": [rule]},
        {
            "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
            "metadata": {"name": "b", **home},
            "roleRef": {"kind": kind, "name": "r"},
            "subjects": [subject or {"kind": "ServiceAccount", "namespace": "smokejumper", "name": "reader"}],
        },
    ]


def rule(verbs: str, groups: str, resources: str, names: str = "") -> dict[str, Any]:
    return {
        "verbs": verbs.split(),
        "apiGroups": [group.strip("'") for group in groups.split()],
        "resources": resources.split(),
        **({"resourceNames": names.split()} if names else {}),
    }


@pytest.mark.parametrize(
    ("granted", "ask", "allowed"),
    [
        (rule("get", "''", "pods"), POD, True),
        (rule("get", "''", "pods"), Ask("get", "", "pods", "log", namespace="ml"), False),
        (rule("get", "''", "pods"), Ask("list", "", "pods", namespace="ml"), False),
        (rule("get", "apps", "pods"), POD, False),
        (rule("get", "*", "pods"), POD, True),
        (rule("*", "''", "pods/exec"), EXEC, True),
        (rule("create", "''", "*"), EXEC, True),
        (rule("create", "''", "pods/*"), EXEC, False),
        (rule("create", "''", "*/exec"), EXEC, True),
        (rule("create", "''", "*/exec"), Ask("create", "", "pods", namespace="ml"), False),
        (rule("create", "''", "pods exec"), EXEC, False),
        (rule("get", "''", "secrets", "db"), SECRET, True),
        (rule("get", "''", "secrets", "other"), SECRET, False),
        (rule("list", "''", "secrets", "db"), Ask("list", "", "secrets", namespace="ml"), False),
        (rule("get", "''", "*"), SECRET, True),
        (rule("get", "''", "Secrets"), SECRET, False),
    ],
)
def test_one_word_decides(granted: dict[str, Any], ask: Ask, allowed: bool) -> None:
    assert allows(role(granted), "smokejumper", "reader", ask) is allowed


def test_a_binding_in_a_namespace_reaches_no_further() -> None:
    confined = role(rule("get", "''", "pods"), namespace="ml")
    borrowed = role(rule("get", "''", "pods"), namespace="ml", of="ClusterRole")
    for documents in (confined, borrowed):
        assert allows(documents, "smokejumper", "reader", POD)
        assert not allows(documents, "smokejumper", "reader", Ask("get", "", "pods", namespace="shop"))
        assert not allows(documents, "smokejumper", "reader", Ask("list", "", "pods"))


@pytest.mark.parametrize(
    ("subject", "allowed"),
    [
        ({"kind": "Group", "name": "system:serviceaccounts"}, True),
        ({"kind": "Group", "name": "system:serviceaccounts:smokejumper"}, True),
        ({"kind": "Group", "name": "system:serviceaccounts:other"}, False),
        ({"kind": "Group", "name": "system:authenticated"}, True),
        ({"kind": "User", "name": "system:serviceaccount:smokejumper:reader"}, True),
        ({"kind": "User", "name": "reader"}, False),
        ({"kind": "ServiceAccount", "namespace": "other", "name": "reader"}, False),
        ({"kind": "ServiceAccount", "namespace": "smokejumper", "name": "reader2"}, False),
    ],
)
def test_whom_a_binding_means(subject: dict[str, Any], allowed: bool) -> None:
    assert allows(role(rule("get", "''", "pods"), subject=subject), "smokejumper", "reader", POD) is allowed


def test_a_binding_to_a_role_of_another_namespace_grants_nothing() -> None:
    documents = role(rule("get", "''", "pods"), namespace="ml")
    documents[0]["metadata"]["namespace"] = "shop"
    assert not allows(documents, "smokejumper", "reader", POD)
