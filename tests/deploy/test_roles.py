"""Our roles: equal to what is shipped, sufficient for what the code does, and unable to do what must not be done."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.kinds import CUSTOM_KINDS, KINDS
from mcp_server.groups import GROUPS
from mcp_server.registry import Access
from mcp_server.tools.catalogue import toolset
from oncall.cli import run
from oncall.commands.rbac import FENCE_HEAD, RBAC_HEAD, text
from oncall.fence import documents as fence_documents
from oncall.roles import ACCOUNTS, DRY_RUN, EXECUTOR, FRONT_ACCOUNT, NAMESPACE, READER, documents
from tests.deploy.evaluator import Ask, allows
from tests.deploy.probes import EXECUTOR_FORBIDDEN, EXECUTOR_MAY, FORBIDDEN, HUMAN_REVIEW, READER_FORBIDDEN, READER_MAY

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
WHOLE = documents()
CONFINED = documents(("ml", "shop"))


def may(where: tuple[dict[str, Any], ...], role: str, ask: Ask) -> bool:
    return allows(where, NAMESPACE, ACCOUNTS[role], ask)


@pytest.mark.parametrize(
    ("file", "command", "printed"),
    [
        ("rbac/cluster.yaml", ["rbac"], text(RBAC_HEAD, WHOLE)),
        ("rbac/namespaces.yaml", ["rbac", "-n", "team-a", "-n", "team-b"], text(RBAC_HEAD, documents(("team-a", "team-b")))),
        ("fence/fence.yaml", ["fence"], text(FENCE_HEAD, fence_documents())),
    ],
)
def test_what_is_shipped_is_what_the_command_prints(
    file: str, command: list[str], printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = (DEPLOY / file).read_text(encoding="utf-8")
    assert shipped == printed, f"run: smokejumper {' '.join(command)} > deploy/{file}"
    assert run(command) == 0
    assert capsys.readouterr().out == shipped


@pytest.mark.parametrize("role", ACCOUNTS)
@pytest.mark.parametrize("where", [WHOLE, CONFINED], ids=["cluster", "namespaces"])
def test_the_forbidden_stays_forbidden(where: tuple[dict[str, Any], ...], role: str) -> None:
    assert [ask for ask in FORBIDDEN if may(where, role, ask)] == []


def test_each_account_may_do_its_own_work_and_not_the_others() -> None:
    assert [ask for ask in READER_MAY if not may(WHOLE, READER, ask)] == []
    assert [ask for ask in READER_FORBIDDEN if may(WHOLE, READER, ask)] == []
    for role in (EXECUTOR, DRY_RUN):
        assert [ask for ask in EXECUTOR_MAY if not may(WHOLE, role, ask)] == []
        assert [ask for ask in EXECUTOR_FORBIDDEN if may(WHOLE, role, ask)] == []
    assert [role for role in ACCOUNTS if may(WHOLE, role, HUMAN_REVIEW)] == [DRY_RUN]


def test_only_the_front_of_an_http_server_impersonates_and_does_nothing_else() -> None:
    for namespaces in ((), ("ml", "shop")):
        with_front = documents(namespaces, callers=True)
        added = [document for document in with_front if document not in documents(namespaces)]
        assert [document["kind"] for document in added] == ["ServiceAccount", "ClusterRole", "ClusterRoleBinding"]
        assert added[1]["rules"] == [{"apiGroups": [""], "resources": ["groups", "users"], "verbs": ["impersonate"]}]
        assert allows(with_front, NAMESPACE, FRONT_ACCOUNT, Ask("impersonate", "", "users"))
        assert not any(allows(with_front, NAMESPACE, FRONT_ACCOUNT, ask) for ask in (*READER_MAY, *EXECUTOR_MAY))


def test_there_is_no_wildcard_and_no_subresource_but_these() -> None:
    rules = [rule for document in (*WHOLE, *CONFINED) for rule in document.get("rules", ())]
    words = {word for rule in rules for key in ("apiGroups", "resources", "verbs") for word in rule[key]}
    assert not {word for word in words if "*" in word}
    assert {word for word in words if "/" in word} <= {"pods/log", "pods/eviction", "pods/resize"}


def test_confined_to_namespaces_there_is_no_cluster_role() -> None:
    assert {document["kind"] for document in CONFINED} == {"Namespace", "ServiceAccount", "Role", "RoleBinding"}
    for role, ask in ((READER, Ask("list", "", "pods", namespace="ml")), (EXECUTOR, Ask("patch", "apps", "deployments", namespace="shop"))):
        assert may(CONFINED, role, ask)
        assert not may(CONFINED, role, Ask(ask.verb, ask.group, ask.resource, namespace="payments"))
        assert not may(CONFINED, role, Ask(ask.verb, ask.group, ask.resource))
    for role in (READER, EXECUTOR, DRY_RUN):
        assert not may(CONFINED, role, Ask("patch", "", "nodes", name="n1"))
    uid = Ask("get", "", "namespaces", name="kube-system", namespace="kube-system")
    assert [may(CONFINED, role, uid) for role in (READER, EXECUTOR, DRY_RUN)] == [False, True, True]
    assert may(CONFINED, DRY_RUN, Ask("create", "authorization.k8s.io", "localsubjectaccessreviews", namespace="ml"))


def test_the_reader_may_read_every_kind_that_is_read_and_what_the_tools_say_they_need() -> None:
    for kind in (*KINDS, *CUSTOM_KINDS):
        for verb, group in product(("get", "list"), (kind.group, *kind.also)):
            assert may(WHOLE, READER, Ask(verb, group, kind.plural)), kind.name
    for spec in toolset():
        if spec.access is Access.READ:
            for rule in spec.rbac:
                for resource, verb in product(rule.resources, rule.verbs):
                    whole, _, sub = resource.partition("/")
                    assert may(WHOLE, READER, Ask(verb, rule.api_group, whole, sub)), (spec.name, rule)


def test_without_configmaps_only_they_are_missing() -> None:
    quiet = documents(configmaps=False)
    differing = [kind.name for kind in KINDS if not may(quiet, READER, Ask("list", kind.group, kind.plural))]
    assert differing == ["ConfigMap"]
    for where in (quiet, documents(("ml",), configmaps=False)):
        for role, verb in product(ACCOUNTS, ("get", "list", "patch")):
            assert not may(where, role, Ask(verb, "", "configmaps", name="x", namespace="ml"))


def test_a_namespace_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rbac", "-n", "kube-system --as=admin"]) == 2
    assert run(["fence", "--protect", "x,y"]) == 2
    assert capsys.readouterr().out == ""


def test_the_fence_names_what_the_executor_may_write_and_nothing_else() -> None:
    policies = {d["metadata"]["name"]: d["spec"] for d in fence_documents() if d["kind"] == "ValidatingAdmissionPolicy"}
    rules = policies["smokejumper-fence"]["matchConstraints"]["resourceRules"]
    fenced = {(r["operations"][0], r["apiGroups"][0], name) for r in rules for name in r["resources"]}
    verbs = {"patch": "UPDATE", "delete": "DELETE", "create": "CREATE"}
    roles = (role for role in WHOLE if role["kind"] == "ClusterRole" and role["metadata"]["name"] == EXECUTOR)
    granted = {
        (verbs[verb], rule["apiGroups"][0], name)
        for role in roles
        for rule in role["rules"]
        for name, verb in product(rule["resources"], rule["verbs"])
        if verb in verbs and rule["apiGroups"] != ["authorization.k8s.io"]
    }
    assert fenced == granted
    (bound,) = (v["expression"] for v in policies["smokejumper-bounds"]["validations"] if v["message"].startswith("no action"))
    assert [item for item in granted if f"'{item[0]} {item[1]}/{item[2]}'" not in bound] == []
    assert policies["smokejumper-bounds"]["matchConstraints"]["resourceRules"][0]["resources"] == ["*/*"]


def test_the_shipped_files_are_plain_yaml() -> None:
    for file in DEPLOY.rglob("*.yaml"):
        body = file.read_text(encoding="utf-8")
        assert "&id" not in body
        assert all(document["kind"] for document in yaml.safe_load_all(body))


def test_roles_are_those_of_the_enabled_groups_only(capsys: pytest.CaptureFixture[str]) -> None:
    reading = documents(groups=("core", "queueing"))
    assert {d["metadata"]["name"] for d in reading if d["kind"] in ("ClusterRole", "Role", "ServiceAccount")} == {READER, "reader"}
    assert may(reading, READER, Ask("list", "kueue.x-k8s.io", "clusterqueues"))
    assert may(reading, READER, Ask("list", "", "pods"))
    assert not may(reading, READER, Ask("list", "serving.kserve.io", "inferenceservices"))
    assert {d["metadata"]["name"] for d in documents(("ml",), groups=("core",)) if d["kind"] == "Role"} == {READER}
    for group in ("investigation", "remediation"):
        # What is only tried or written is the executor's to read.
        assert not may(documents(groups=(group,)), READER, Ask("list", "jobset.x-k8s.io", "jobsets"))
    assert may(documents(groups=("training",)), READER, Ask("list", "jobset.x-k8s.io", "jobsets"))
    assert documents(groups=GROUPS) == WHOLE
    assert run(["rbac", "--groups", "core,queueing"]) == 0
    assert capsys.readouterr().out == text(RBAC_HEAD, reading)
    assert run(["rbac", "--groups", "core,queuing"]) == 2
    assert "nearest groups: queueing" in capsys.readouterr().err


def test_the_reader_of_some_groups_may_read_what_their_tools_need() -> None:
    for group in GROUPS:
        granted = documents(groups=(group,))
        tools = toolset((group,))
        for spec in tools:
            for rule in tools.rules(spec.name) if spec.access is Access.READ else ():
                for resource, verb in product(rule.resources, rule.verbs):
                    whole, _, sub = resource.partition("/")
                    assert may(granted, READER, Ask(verb, rule.api_group, whole, sub)), (spec.name, rule)
