"""The second fence on a real API server, with the gate bypassed on purpose and RBAC opened wide: what is left still holds."""

from __future__ import annotations

import getpass
import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from oncall.fence import PARAMETER_NAMESPACE
from oncall.roles import ACCOUNTS, DRY_RUN, EXECUTOR, NAMESPACE, READER, documents
from tests.deploy.conftest import TEMPLATE, WAIT_SECONDS, Fenced, Run, annotation, deployment
from tests.deploy.evaluator import Ask, allows
from tests.deploy.probes import EXECUTOR_FORBIDDEN, EXECUTOR_MAY, FORBIDDEN, HUMAN_REVIEW, READER_FORBIDDEN, READER_MAY
from tests.lab.api import wait_for
from tests.lab.lab import Lab

RECEIPT = "smokejumper.dev/proposal"
APPS = "/apis/apps/v1/namespaces"


def receipt() -> str:
    return f"p-{secrets.token_hex(6)}.{secrets.token_hex(8)}"


def scaled(replicas: int, value: str | None = None) -> dict[str, Any]:
    """A merge patch with a receipt, fresh unless given."""
    return {"metadata": {"annotations": {RECEIPT: value or receipt()}}, "spec": {"replicas": replicas}}


@pytest.fixture
def space(lab: Lab) -> Iterator[str]:
    with lab.namespace("fence") as name:
        lab.apply(deployment(name))
        yield name


@pytest.fixture
def web(space: str) -> str:
    """The path of a Deployment with one replica."""
    return f"{APPS}/{space}/deployments/web"


def refused(answer: Any, words: str) -> None:
    assert answer.status_code == 422, answer.text
    assert words in answer.json()["message"], answer.json()["message"]


def replicas(fenced: Fenced, space: str) -> int:
    found = fenced.admin.get("apps/v1", "Deployment", "web", space)
    assert found is not None
    return int(found["spec"]["replicas"])


def pods(fenced: Fenced, space: str) -> list[dict[str, Any]]:
    return wait_for("a pod", lambda: fenced.admin.list("v1", "Pod", space), WAIT_SECONDS)


def ready(fenced: Fenced, space: str) -> dict[str, Any]:
    """The only pod once it serves: what is approved of a pod that is still becoming ready rightly no longer fits a moment later."""

    def serving() -> dict[str, Any] | None:
        pod: dict[str, Any] = pods(fenced, space)[0]
        conditions = {condition["type"]: condition["status"] for condition in pod.get("status", {}).get("conditions", [])}
        workload = fenced.admin.get("apps/v1", "Deployment", "web", space) or {}
        available = workload.get("status", {}).get("availableReplicas")
        return pod if conditions.get("Ready") == "True" and available == 1 else None

    return wait_for("the pod to serve", serving, WAIT_SECONDS)


def holding(pod: dict[str, Any], **options: Any) -> dict[str, Any]:
    """DeleteOptions with the pod's uid and version as preconditions."""
    preconditions = {"uid": pod["metadata"]["uid"], "resourceVersion": pod["metadata"]["resourceVersion"]}
    return {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions, **options}


# ---- the roles, asked of the real authorizer


@pytest.mark.parametrize("role", ACCOUNTS)
def test_the_authorizer_agrees_with_the_evaluator(accounts: Fenced, role: str) -> None:
    asks = (*FORBIDDEN, *READER_FORBIDDEN, *READER_MAY, *EXECUTOR_MAY, *EXECUTOR_FORBIDDEN, HUMAN_REVIEW)
    listed, name = documents(), ACCOUNTS[role]
    assert [ask for ask in dict.fromkeys(asks) if allows(listed, NAMESPACE, name, ask) != _authorized(accounts, name, ask)] == []


def _authorized(accounts: Fenced, account: str, ask: Ask) -> bool:
    attributes = {
        "verb": ask.verb,
        "group": ask.group,
        "resource": ask.resource,
        "subresource": ask.subresource,
        "name": ask.name,
        "namespace": ask.namespace,
    }
    groups = ["system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}"]
    spec = {"user": f"system:serviceaccount:{NAMESPACE}:{account}", "groups": groups, "resourceAttributes": attributes}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    answer = accounts.admin.json("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=review)
    return bool(answer["status"]["allowed"])


def test_the_reader_is_stopped_by_its_role_alone(accounts: Fenced, web: str) -> None:
    assert accounts.send("reader", "GET", web).status_code == 200
    for method, body in (("PATCH", scaled(2)), ("PATCH", scaled(2)), ("DELETE", None)):
        assert accounts.send("reader", method, web, body).status_code == 403
    assert accounts.send("reader", "PATCH", web, scaled(2), dryRun="All").status_code == 403
    assert accounts.send("reader", "GET", "/api/v1/secrets").status_code == 403


# ---- the fence, with every permission granted


def test_the_reader_stores_nothing_and_may_not_even_try(unbounded: Fenced, web: str, space: str) -> None:
    for query in ({}, {"dryRun": "All"}):
        refused(unbounded.send("reader", "PATCH", web, scaled(2), **query), "only reads")
    config = {"metadata": {"name": "note"}, "data": {}}
    refused(unbounded.send("reader", "POST", f"/api/v1/namespaces/{space}/configmaps", config), "only reads")
    assert replicas(unbounded, space) == 1


def test_the_dry_run_account_may_try_and_never_stores(unbounded: Fenced, web: str, space: str) -> None:
    refused(unbounded.send("dryrun", "PATCH", web, scaled(2)), "stores nothing")
    assert unbounded.send("dryrun", "PATCH", web, scaled(2, "unapproved"), dryRun="All").status_code == 200
    assert replicas(unbounded, space) == 1


def test_a_dry_run_of_a_delete_that_is_none_is_caught(unbounded: Fenced, space: str) -> None:
    """A DELETE with a body ignores the query: `dryRun` there alone would delete. For the dry-run account it does not."""
    for _ in range(5):
        pod = pods(unbounded, space)[0]
        path = f"/api/v1/namespaces/{space}/pods/{pod['metadata']['name']}"
        answer = unbounded.send("dryrun", "DELETE", path, holding(pod), dryRun="All")
        tried = unbounded.send("dryrun", "DELETE", path, holding(pod, dryRun=["All"]))
        if tried.status_code == 200:
            break
    refused(answer, "stores nothing")
    assert tried.status_code == 200
    left = unbounded.admin.get("v1", "Pod", pod["metadata"]["name"], space)
    assert left is not None
    assert "deletionTimestamp" not in left["metadata"]


def test_the_executor_writes_with_a_fresh_receipt_only(unbounded: Fenced, web: str, space: str) -> None:
    mine = receipt()
    plain = {"spec": {"replicas": 2}}
    refused(unbounded.send("executor", "PATCH", web, plain), "receipt of a new proposal")
    for wrong in ("unapproved", "p-1", f"{mine}x", f"{mine}.again"):
        refused(unbounded.send("executor", "PATCH", web, scaled(2, wrong)), "receipt of a new proposal")
    assert replicas(unbounded, space) == 1
    assert unbounded.send("executor", "PATCH", web, scaled(2, mine)).status_code == 200
    assert replicas(unbounded, space) == 2
    # The receipt of an earlier proposal is on the object now: it opens nothing.
    refused(unbounded.send("executor", "PATCH", web, {"spec": {"replicas": 1}}), "receipt of a new proposal")
    refused(unbounded.send("executor", "PATCH", web, scaled(1, mine)), "receipt of a new proposal")
    assert unbounded.send("executor", "PATCH", web, scaled(1, f"{mine}.rollback")).status_code == 200
    assert replicas(unbounded, space) == 1


def test_the_executor_cannot_touch_system_namespaces(unbounded: Fenced, lab: Lab) -> None:
    for namespace in ("kube-system", "kube-public", NAMESPACE):
        lab.apply(deployment(namespace, 0))
        path = f"{APPS}/{namespace}/deployments/web"
        try:
            refused(unbounded.send("executor", "PATCH", path, scaled(1)), "system namespace")
            assert unbounded.send("executor", "PATCH", path, scaled(1), dryRun="All").status_code == 422
        finally:
            lab.client("lab:loader").delete("apps/v1", "Deployment", "web", namespace)


def test_the_executor_cannot_exceed_the_bound_on_replicas_either_way(unbounded: Fenced, web: str, space: str) -> None:
    refused(unbounded.send("executor", "PATCH", web, scaled(101)), "more replicas")
    refused(unbounded.send("executor", "PATCH", f"{web}/scale", {"spec": {"replicas": 2}}), "no action of Smokejumper")
    refused(unbounded.send("executor", "PATCH", f"{web}/scale", scaled(101)), "no action of Smokejumper")
    refused(unbounded.send("executor", "PATCH", f"{web}/status", {"status": {"replicas": 5}}), "no action of Smokejumper")
    assert replicas(unbounded, space) == 1
    with unbounded.set({annotation("max-replicas"): "0"}, trying=web, refused=True, body=scaled(3)):
        # What is above the bound already may go down, and may stay.
        assert unbounded.send("executor", "PATCH", web, scaled(1)).status_code == 200
        refused(unbounded.send("executor", "PATCH", web, scaled(2)), "more replicas")


def test_only_known_kinds_are_written_and_nothing_is_connected_to(unbounded: Fenced, space: str) -> None:
    pod = pods(unbounded, space)[0]
    inside = f"/api/v1/namespaces/{space}"
    name = pod["metadata"]["name"]
    binding = {
        "metadata": {"name": "mine"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    }
    token = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    attempts: tuple[tuple[str, str, Any, dict[str, str]], ...] = (
        ("POST", f"{inside}/pods/{name}/exec", None, {"command": "id", "container": "app", "stdout": "true"}),
        ("POST", f"{inside}/serviceaccounts/default/token", token, {}),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding, {}),
        ("POST", f"{inside}/secrets", {"metadata": {"name": "x"}}, {}),
        ("POST", f"{inside}/pods", {"metadata": {"name": "x"}, **{"spec": TEMPLATE["spec"]}}, {}),
        ("PATCH", f"/api/v1/namespaces/{PARAMETER_NAMESPACE}", {"metadata": {"annotations": {annotation("paused"): "false"}}}, {}),
        ("DELETE", "/apis/apiregistration.k8s.io/v1/apiservices/v1.apps", None, {}),
        ("DELETE", f"{APPS}/{space}/deployments/web", None, {}),
        ("DELETE", f"{inside}/pods", None, {}),
        ("PATCH", "/api/v1/nodes/cpu-0/status", {"status": {"phase": "x"}}, {}),
    )
    for method, path, body, query in attempts:
        answer = unbounded.send("executor", method, path, body, **query)
        assert answer.status_code == 422, (path, answer.text)
        assert "no action of Smokejumper" in answer.text, (path, answer.text)
    assert unbounded.admin.get("v1", "Pod", name, space) is not None


def test_finalizers_and_owners_stay(unbounded: Fenced, web: str) -> None:
    for metadata in (
        {"finalizers": ["example.com/x"]},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]},
    ):
        body = {"metadata": {**metadata, "annotations": {RECEIPT: receipt()}}}
        refused(unbounded.send("executor", "PATCH", web, body), "neither finalizers nor owners")


def test_a_delete_holds_what_was_looked_at_and_only_what_comes_back(unbounded: Fenced, space: str, lab: Lab) -> None:
    alone = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "alone", "namespace": space}, "spec": TEMPLATE["spec"]}
    lab.apply(alone)
    for _ in range(5):
        # Its status may change between the look and the delete; then the server refuses by itself.
        lone = unbounded.admin.get("v1", "Pod", "alone", space)
        assert lone is not None
        answer = unbounded.send("executor", "DELETE", f"/api/v1/namespaces/{space}/pods/alone", holding(lone))
        if answer.status_code != 409:
            break
    refused(answer, "recreates it")
    for _ in range(5):
        owned = next(pod for pod in pods(unbounded, space) if pod["metadata"]["name"] != "alone")
        path = f"/api/v1/namespaces/{space}/pods/{owned['metadata']['name']}"
        refused(unbounded.send("executor", "DELETE", path), "names uid and resourceVersion")
        only_uid = holding(owned)
        del only_uid["preconditions"]["resourceVersion"]
        refused(unbounded.send("executor", "DELETE", path, only_uid), "names uid and resourceVersion")
        if unbounded.send("executor", "DELETE", path, holding(owned)).status_code == 200:
            break
    wait_for(
        "the pod to go",
        lambda: owned["metadata"]["uid"] not in {pod["metadata"]["uid"] for pod in unbounded.admin.list("v1", "Pod", space)},
        WAIT_SECONDS,
    )


def test_an_eviction_names_the_pod_that_was_looked_at(unbounded: Fenced, space: str) -> None:
    pod = pods(unbounded, space)[0]
    name = pod["metadata"]["name"]
    path = f"/api/v1/namespaces/{space}/pods/{name}/eviction"
    eviction: dict[str, Any] = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": space}}
    refused(unbounded.send("executor", "POST", path, eviction), "names the uid")
    eviction["deleteOptions"] = {"preconditions": {"uid": pod["metadata"]["uid"]}}
    refused(unbounded.send("dryrun", "POST", path, eviction), "stores nothing")
    refused(unbounded.send("reader", "POST", path, eviction), "only reads")
    with unbounded.set({annotation("protected-namespaces"): space}, trying=f"{APPS}/{space}/deployments/web", refused=True, body=scaled(1)):
        refused(unbounded.send("executor", "POST", path, eviction), "protected")
    assert unbounded.send("executor", "POST", path, eviction).status_code == 201


def test_paused_it_may_try_and_stores_nothing(unbounded: Fenced, web: str, space: str) -> None:
    unbounded._annotate({annotation("paused"): "true"})
    try:
        wait_for("the pause", lambda: unbounded.send("executor", "PATCH", web, scaled(1)).status_code == 422, WAIT_SECONDS)
        refused(unbounded.send("executor", "PATCH", web, scaled(2)), "paused")
        assert unbounded.send("executor", "PATCH", web, scaled(2), dryRun="All").status_code == 200
        assert unbounded.send("dryrun", "PATCH", web, scaled(2), dryRun="All").status_code == 200
        assert replicas(unbounded, space) == 1
        assert unbounded.admin.patch("apps/v1", "Deployment", "web", {"spec": {"replicas": 1}}, space)
    finally:
        unbounded._annotate({annotation("paused"): "false"})
    wait_for("the end of the pause", lambda: unbounded.send("executor", "PATCH", web, scaled(2)).status_code == 200, WAIT_SECONDS)


@pytest.mark.parametrize(
    "parameters",
    [
        {annotation("paused"): None},
        {annotation("max-replicas"): None},
        {annotation("protected-namespaces"): None},
        {annotation("paused"): "flase"},
        {annotation("max-replicas"): "many"},
        {annotation("pause"): "true"},
    ],
    ids=["no-paused", "no-bound", "no-list", "misspelt-value", "no-number", "misspelt-key"],
)
def test_without_parameters_our_accounts_stop_and_nobody_else(
    unbounded: Fenced, web: str, space: str, parameters: dict[str, str | None]
) -> None:
    with unbounded.set(parameters, trying=web, refused=True, body=scaled(2)):
        refused(unbounded.send("executor", "PATCH", web, scaled(2)), "has no parameters")
        refused(unbounded.send("dryrun", "PATCH", web, scaled(2), dryRun="All"), "has no parameters")
        assert replicas(unbounded, space) == 1
        assert unbounded.admin.patch("apps/v1", "Deployment", "web", {"metadata": {"labels": {"by": "hand"}}}, space)
        assert unbounded.lab.client("admin").patch("apps/v1", "Deployment", "web", {"spec": {"replicas": 1}}, space)


def test_protected_namespaces_are_left_alone(unbounded: Fenced, web: str, space: str) -> None:
    with unbounded.set({annotation("protected-namespaces"): f"payments, {space}"}, trying=web, refused=True, body=scaled(2)):
        refused(unbounded.send("executor", "PATCH", web, scaled(2)), "protected")
        node = {"metadata": {"annotations": {RECEIPT: receipt()}}, "spec": {"unschedulable": None}}
        assert unbounded.send("executor", "PATCH", "/api/v1/nodes/cpu-0", node).status_code == 200


def test_asking_what_one_may_do_is_no_write(unbounded: Fenced, space: str) -> None:
    attributes = {"verb": "get", "resource": "pods", "namespace": space}
    for account in ("executor", "dryrun", "reader"):
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        assert unbounded.send(account, "POST", path, review).json()["status"]["allowed"] is True


def test_why_the_parameters_are_no_object_that_can_be_deleted(lab: Lab) -> None:
    """A missing parameter object refuses everybody, whatever the match conditions say. If this ever fails, a kind of our own is safe."""
    with lab.namespace("trap") as space:
        name = f"trap-{space}"
        meta: dict[str, Any] = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
        rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]
        selector = {"matchLabels": {"kubernetes.io/metadata.name": space}}
        policy = {
            **meta,
            "kind": "ValidatingAdmissionPolicy",
            "spec": {
                "failurePolicy": "Fail",
                "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
                "matchConstraints": {"resourceRules": rules, "namespaceSelector": selector},
                "matchConditions": [{"name": "nobody", "expression": "request.userInfo.username == 'nobody'"}],
                "validations": [{"expression": "true"}],
            },
        }
        missing = {"name": "not-there", "namespace": space, "parameterNotFoundAction": "Deny"}
        binding = {
            **meta,
            "kind": "ValidatingAdmissionPolicyBinding",
            "spec": {"policyName": name, "validationActions": ["Deny"], "paramRef": missing},
        }
        lab.apply(policy, binding)
        path = f"/api/v1/namespaces/{space}/configmaps"
        try:
            wait_for("the trap to shut", lambda: "no params found" in _tried(lab, path), WAIT_SECONDS)
        finally:
            for kind in ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"):
                lab.client("lab:loader").delete(meta["apiVersion"], kind, name)


def _tried(lab: Lab, path: str) -> str:
    """What the API server says to an administrator who tries to create a ConfigMap."""
    return lab.client("admin").request("POST", path, query={"dryRun": "All"}, body={"metadata": {"name": "any"}}).text


# ---- the ordinary path behind the fence


def _writes(lab: Lab, role: str, since: int) -> list[tuple[str, str, int | None, bool]]:
    user = f"system:serviceaccount:{NAMESPACE}:{ACCOUNTS[role]}"
    return [(write.verb, write.resource, write.code, write.dry_run) for write in lab.audit.writes(user, since, dry_runs=True)]


def test_an_approved_change_passes_the_fence_each_step_by_its_own_account(lab: Lab, fenced: Fenced, smokejumper: Run) -> None:
    with lab.loaded("rollout-bad-image"):
        code, out, err = smokejumper("diagnose", "-n", "ml", "-o", "json")
        assert code == 0, err
        diagnosis = json.loads(out)
        assert diagnosis["causes"][0]["object"]["name"] == "serve"
        assert [gap for gap in diagnosis["cannot_see"] if gap["why"] == "forbidden"] == []
        smokejumper("people", "add", "alice", "--group", "sre-oncall", "--os-user", getpass.getuser())
        bob = smokejumper("people", "add", "bob", "--group", "sre-oncall")[1].strip()
        since = lab.audit.mark()
        code, out, err = smokejumper("propose", "rollout_undo", "deploy/serve", "-n", "ml")
        assert code == 0, out + err
        proposal = out.split()[0]
        tries = _writes(lab, DRY_RUN, since)
        assert tries
        assert {(verb, resource, dry) for verb, resource, _, dry in tries} == {("patch", "deployments", True)}
        assert tries[-1][2] == 200
        assert _writes(lab, EXECUTOR, since) == []
        shown = json.loads(smokejumper("proposals", "show", proposal, "--json")[1])
        assert smokejumper("approve", proposal, "--digest", shown["digest"], token=bob)[0] == 0
        code, out, err = smokejumper("execute", proposal)
        assert code == 0, out + err
        written = _writes(lab, EXECUTOR, since)
        assert [write for write in written if write[2] == 200] == [("patch", "deployments", 200, False)]
        assert {write[2] for write in written} <= {200, 409}
        assert all(dry for _, _, _, dry in _writes(lab, DRY_RUN, since))
        assert _writes(lab, READER, since) == []
        assert smokejumper("audit", "verify")[1].startswith("intact")


def test_an_approved_delete_passes_the_fence(lab: Lab, fenced: Fenced, space: str, smokejumper: Run) -> None:
    pod = ready(fenced, space)["metadata"]["name"]
    smokejumper("people", "add", "alice", "--group", "sre-oncall", "--os-user", getpass.getuser())
    # Two people are asked: it is the only pod that serves.
    others = [smokejumper("people", "add", name, "--group", "sre-oncall")[1].strip() for name in ("bob", "cleo")]
    code, out, err = smokejumper("propose", "delete_pod", f"pod/{pod}", "-n", space)
    assert code == 0, out + err
    proposal = out.split()[0]
    shown = json.loads(smokejumper("proposals", "show", proposal, "--json")[1])
    for token in others[: sum(shown["missing"].values())]:
        assert smokejumper("approve", proposal, "--digest", shown["digest"], token=token)[0] == 0
    code, out, err = smokejumper("execute", proposal)
    assert code == 0, out + err
    assert fenced.admin.get("v1", "Pod", pod, space) is None
