from __future__ import annotations

from typing import Any

import pytest

from runbooks.detectors import permissions
from runbooks.finding import Finding
from tests.runbooks.manifests import manifest, pod
from tests.runbooks.worlds import codes, world

REFUSED = (
    'configmaps "x" is forbidden: User "system:serviceaccount:shop:web" cannot get resource "configmaps" in API group "" '
    'in the namespace "shop"'
)
WEB = pod("web", serviceAccountName="web")
LOG = {("shop", "web", "main"): REFUSED}


def role(verbs: list[str], resources: list[str], name: str = "reader") -> str:
    return manifest("Role", name, rules=[{"verbs": verbs, "resources": resources, "apiGroups": [""]}])


def binding(name: str = "reader", account: str = "web", namespace: str = "shop", **fields: Any) -> str:
    subjects = [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    return manifest("RoleBinding", name, roleRef={"kind": "Role", "name": "reader"}, subjects=subjects, **fields)


def found(text: str, *complete: str, **arguments: Any) -> list[Finding]:
    made = world(text, complete=complete, **arguments)
    return [finding for detector in permissions.DETECTORS for finding in detector(made)]


def blamed(text: str, *complete: str) -> set[tuple[str, str]]:
    return {(finding.code, str(finding.subject)) for finding in found(text, *complete, logs=LOG)}


def test_a_refusal_without_a_role_in_sight_is_the_workloads() -> None:
    assert blamed(WEB) == {("rbac.forbidden", "Pod/shop/web")}


def test_a_bound_role_that_falls_short_is_blamed() -> None:
    assert blamed(WEB + role(["get"], ["secrets"]) + binding()) == {("rbac.role-insufficient", "Role/shop/reader")}


def test_a_binding_of_the_wrong_account_is_blamed() -> None:
    text = WEB + role(["get"], ["configmaps"]) + binding(account="wev")
    assert blamed(text) == {("rbac.binding-wrong", "RoleBinding/shop/reader")}


def test_a_binding_to_a_role_that_does_not_exist_is_blamed() -> None:
    assert ("rbac.binding-wrong", "RoleBinding/shop/reader") in blamed(WEB + binding(), "Role")


def test_a_log_that_only_speaks_of_permission_is_no_refusal() -> None:
    assert found(WEB, logs={("shop", "web", "main"): "user bob cannot get resource: permission denied by application"}) == []


def test_bindings_that_bind_nothing() -> None:
    account = manifest("ServiceAccount", "web")
    assert codes(found(binding() + account, "Role")) == {"rbac.binding-role-missing"}
    assert codes(found(binding(account="gone") + account + role(["get"], ["pods"]))) == {"rbac.binding-subject-missing"}
    assert found(binding() + account + role(["get"], ["pods"])) == []
    assert found(binding()) == []


def test_a_privileged_container_outside_the_platform() -> None:
    privileged = {"securityContext": {"privileged": True}}
    assert codes(found(pod("web", container=privileged))) == {"security.privileged"}
    assert found(pod("cni", namespace="kube-system", container=privileged)) == []
    assert found(pod("agent-1", owner=("DaemonSet", "agent"), container=privileged)) == []
    assert found(pod("web", container={"securityContext": {"privileged": False}})) == []


def test_a_wildcard_role_that_is_bound() -> None:
    assert codes(found(role(["*"], ["pods"]) + binding())) == {"security.wildcard-role"}
    assert codes(found(role(["get"], ["*"]) + binding())) == {"security.wildcard-role"}
    assert found(role(["*"], ["pods"])) == []
    assert found(role(["*"], ["pods"]) + binding(namespace="kube-system")) == []
    assert found(role(["get"], ["pods"]) + binding()) == []


def test_built_in_roles_are_left_alone() -> None:
    admin = manifest("ClusterRole", "cluster-admin", namespace=None, rules=[{"verbs": ["*"], "resources": ["*"]}])
    bound = {"roleRef": {"kind": "ClusterRole", "name": "cluster-admin"}, "subjects": [{"kind": "Group", "name": "ops"}]}
    assert found(admin + manifest("ClusterRoleBinding", "ops", namespace=None, **bound)) == []


def test_an_administrator_that_everybody_is() -> None:
    def bound(kind: str, name: str, namespace: str = "shop") -> str:
        subjects = [{"kind": kind, "name": name, "namespace": namespace}]
        reference = {"kind": "ClusterRole", "name": "cluster-admin"}
        return manifest("ClusterRoleBinding", "ops", namespace=None, roleRef=reference, subjects=subjects)

    for kind, name in (("ServiceAccount", "default"), ("Group", "system:authenticated"), ("User", "system:anonymous")):
        assert codes(found(bound(kind, name))) == {"security.wildcard-role"}
    for kind, name, namespace in (
        ("ServiceAccount", "deployer", "shop"),
        ("Group", "system:masters", ""),
        ("ServiceAccount", "default", "kube-system"),
    ):
        assert found(bound(kind, name, namespace)) == []


@pytest.mark.parametrize(("verbs", "told"), [(["get"], set()), (["*"], {"security.wildcard-role"})])
def test_a_role_of_ones_own_that_is_called_as_a_built_in_one_is_judged_by_its_rules(verbs: list[str], told: set[str]) -> None:
    own = manifest("Role", "cluster-admin", rules=[{"verbs": verbs, "resources": ["pods"]}])
    subjects = [{"kind": "ServiceAccount", "name": "default", "namespace": "shop"}]
    bound = manifest("RoleBinding", "ops", roleRef={"kind": "Role", "name": "cluster-admin"}, subjects=subjects)
    assert [(item.code, "grants Role cluster-admin" in item.explanation) for item in found(own + bound)] == [(code, True) for code in told]


def test_the_default_account_with_its_token() -> None:
    default = manifest("ServiceAccount", "default")
    used = pod("web", serviceAccountName="default")
    assert codes(found(used + default)) == {"security.default-service-account"}
    assert found(used) == []
    assert found(pod("web", serviceAccountName="default", automountServiceAccountToken=False) + default) == []
    assert found(used + manifest("ServiceAccount", "default", automountServiceAccountToken=False)) == []


def test_a_default_account_that_may_do_nothing_is_no_finding() -> None:
    default = manifest("ServiceAccount", "default")
    used = pod("web-1", serviceAccountName="default", owner=("StatefulSet", "web"))
    assert found(used + default) == []
    elsewhere = found(used + default + role(["get"], ["pods"]) + binding(account="web"))
    assert codes(elsewhere) == {"rbac.binding-subject-missing"}
    granted = found(used + default + role(["get"], ["pods"]) + binding(account="default"))
    assert [(item.code, item.subject.name) for item in granted] == [("security.default-service-account", "web")]


def test_a_refusal_that_klog_put_in_quotes() -> None:
    escaped = REFUSED.replace('"', '\\"')
    log = {("shop", "web", "main"): f'E0115 11:59:00.000000 1 reflector.go:166] "Unhandled Error" err="failed to list: {escaped}"'}
    assert {(item.code, str(item.subject)) for item in found(WEB, logs=log)} == {("rbac.forbidden", "Pod/shop/web")}
