"""Refused creations: one fault and one near miss per code, in the API server's own words."""

from __future__ import annotations

import pytest

from cluster.world import World
from runbooks.catalogue import catalogue
from runbooks.detectors.admission import DETECTORS
from runbooks.finding import Finding
from tests.runbooks.manifests import pod
from tests.runbooks.worlds import codes, told, world


def refused(message: str, *, replicas: int = 0, made: str = "2026-01-15T11:30:00Z") -> str:
    return f"""
---
kind: Deployment
metadata: {{name: web, namespace: shop}}
---
kind: ReplicaSet
metadata:
  name: web-5d
  namespace: shop
  creationTimestamp: "{made}"
  ownerReferences: [{{kind: Deployment, name: web, controller: true}}]
spec: {{replicas: 1}}
status:
  replicas: {replicas}
  conditions: [{{type: ReplicaFailure, status: "True", reason: FailedCreate, message: {message!r}}}]
"""


def found(made: World) -> list[Finding]:
    return [finding for detector in DETECTORS for finding in detector(made)]


QUOTA = """
---
kind: ResourceQuota
metadata: {name: compute, namespace: shop, creationTimestamp: "%s"}
spec: {hard: {requests.cpu: 20m}%s}
status: {used: {requests.cpu: 20m}}
"""
EXCEEDED = (
    'pods "web-5d-x" is forbidden: exceeded quota: compute, requested: requests.cpu=10m, used: requests.cpu=20m, limited: requests.cpu=20m'
)
UNSPECIFIED = 'pods "web-5d-" is forbidden: failed quota: compute: must specify limits.cpu for: web'
ACCOUNT = 'pods "web-5d-" is forbidden: error looking up service account shop/runner: serviceaccount "runner" not found'
DOWN = (
    'Internal error occurred: failed calling webhook "check.example.com": failed to call webhook: Post "https://check.shop.svc:443/v": '
    'no endpoints available for service "check"'
)
X509 = DOWN.replace('no endpoints available for service "check"', "tls: failed to verify certificate: x509: certificate has expired")
HOOKS = """
---
kind: ValidatingWebhookConfiguration
metadata: {name: checks}
webhooks:
  - name: check.example.com
    failurePolicy: %s
    clientConfig: {service: {name: check, namespace: shop}}
---
kind: Service
metadata: {name: %s, namespace: shop}
spec: {selector: {app: check}}
"""
CHECK_POD = """
---
kind: Pod
metadata: {name: check, namespace: shop, labels: {app: check}}
status: {phase: Running, conditions: [{type: Ready, status: "True"}]}
"""
PRIORITY_SCOPE = ", scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [high]}]}"

FIRES: dict[str, tuple[str, str]] = {
    "quota.exceeded": ("ResourceQuota/shop/compute", refused(EXCEEDED) + QUOTA % ("2026-01-15T11:00:00Z", "")),
    "quota.unspecified": ("Deployment/shop/web", refused(UNSPECIFIED) + QUOTA % ("2026-01-15T11:00:00Z", "")),
    "quota.priority-exceeded": ("ResourceQuota/shop/compute", refused(EXCEEDED) + QUOTA % ("2026-01-15T11:00:00Z", PRIORITY_SCOPE)),
    "admission.serviceaccount-missing": ("Deployment/shop/web", refused(ACCOUNT)),
    "admission.pod-security": (
        "Deployment/shop/web",
        refused('pods "web" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c")'),
    ),
    "admission.limitrange": (
        "Deployment/shop/web",
        refused('pods "web" is forbidden: maximum memory usage per Container is 8Gi, but limit is 16Gi'),
    ),
    "admission.policy-denied": (
        "Deployment/shop/web",
        refused('admission webhook "policy.example.com" denied the request: image must come from the internal registry'),
    ),
    "admission.webhook-failing": ("ValidatingWebhookConfiguration/checks", refused(X509) + HOOKS % ("Fail", "check") + CHECK_POD),
    "controlplane.webhook-down": ("ValidatingWebhookConfiguration/checks", refused(DOWN) + HOOKS % ("Fail", "check") + CHECK_POD),
    "admission.webhook-no-backend": ("ValidatingWebhookConfiguration/checks", HOOKS % ("Fail", "other") + CHECK_POD),
    "admission.webhook-ignored": ("ValidatingWebhookConfiguration/checks", HOOKS % ("Ignore", "other") + CHECK_POD),
    "admission.priorityclass-missing": (
        "Deployment/shop/web",
        refused('pods "web" is forbidden: no PriorityClass with name urgent was found'),
    ),
    "admission.runtimeclass-missing": (
        "Deployment/shop/web",
        refused('pods "web" is forbidden: pod rejected: RuntimeClass "gvisor" not found'),
    ),
    "gpu.runtimeclass-missing": ("Deployment/shop/web", refused('pods "web" is forbidden: pod rejected: RuntimeClass "nvidia" not found')),
    "admission.namespace-terminating": (
        "Namespace/shop",
        refused('pods "web" is forbidden: unable to create new content in namespace shop because it is being terminated'),
    ),
    "admission.create-refused": ("Deployment/shop/web", refused('Pod "web" is invalid: spec.containers[0].name: Duplicate value: "c"')),
    "controlplane.etcd": ("Pod/kube-system/etcd", refused("etcdserver: mvcc: database space exceeded")),
}
NEAR: dict[str, str] = {
    # The ReplicaSet has its pods by now: the condition is history.
    "quota.exceeded": refused(EXCEEDED, replicas=1) + QUOTA % ("2026-01-15T11:00:00Z", ""),
    "quota.unspecified": FIRES["quota.exceeded"][1],
    "quota.priority-exceeded": FIRES["quota.exceeded"][1],
    "admission.serviceaccount-missing": FIRES["admission.pod-security"][1],
    "admission.pod-security": FIRES["admission.policy-denied"][1],
    "admission.limitrange": FIRES["quota.exceeded"][1],
    "admission.policy-denied": FIRES["admission.webhook-failing"][1],
    "admission.webhook-failing": FIRES["controlplane.webhook-down"][1],
    "controlplane.webhook-down": FIRES["admission.webhook-failing"][1],
    "admission.webhook-no-backend": HOOKS % ("Fail", "check") + CHECK_POD,
    "admission.webhook-ignored": HOOKS % ("Ignore", "check") + CHECK_POD,
    "admission.priorityclass-missing": FIRES["quota.exceeded"][1],
    "admission.runtimeclass-missing": FIRES["gpu.runtimeclass-missing"][1],
    "gpu.runtimeclass-missing": FIRES["admission.runtimeclass-missing"][1],
    "admission.namespace-terminating": FIRES["quota.exceeded"][1],
    "admission.create-refused": FIRES["quota.exceeded"][1],
    "controlplane.etcd": FIRES["controlplane.webhook-down"][1],
}


def test_every_code_has_a_fault_and_a_near_miss() -> None:
    own = {"controlplane.webhook-down", "controlplane.etcd", "gpu.runtimeclass-missing"}
    assert set(FIRES) == set(NEAR) == {code for code in catalogue() if code.startswith(("admission.", "quota."))} | own


@pytest.mark.parametrize("code", sorted(FIRES))
def test_fires(code: str) -> None:
    subject, text = FIRES[code]
    assert told(code, found(world(text))) == [subject]


@pytest.mark.parametrize("code", sorted(NEAR))
def test_near_miss(code: str) -> None:
    assert told(code, found(world(NEAR[code]))) == []


def test_a_webhook_whose_pods_have_long_not_been_ready_has_no_backend() -> None:
    hooks = HOOKS % ("Fail", "check")
    stuck = pod("check", {"app": "check"}, ready=False)
    assert codes(found(world(hooks + "---\n" + stuck))) == {"admission.webhook-no-backend"}
    assert found(world(hooks.replace("spec: {", "spec: {publishNotReadyAddresses: true, ") + "---\n" + stuck)) == []
    # Of a pod without a status nobody knows whether it is ready.
    assert found(world(hooks + "---\nkind: Pod\nmetadata: {name: check, namespace: shop, labels: {app: check}}\n")) == []
    other = pod("check-2", {"app": "check"})
    assert found(world(hooks + "---\n" + stuck + other)) == []
    assert found(world(hooks + "---\n" + pod("check", {"app": "check"}, ready=False, created="2026-01-15T11:58:00Z"))) == []


def test_a_quota_younger_than_the_template_is_what_changed() -> None:
    made = world(refused(UNSPECIFIED) + QUOTA % ("2026-01-15T11:45:00Z", ""))
    assert [str(finding.subject) for finding in found(made)] == ["ResourceQuota/shop/compute"]


def test_an_account_that_pods_still_use_was_deleted() -> None:
    user = "\n---\nkind: Pod\nmetadata: {name: old, namespace: shop}\nspec: {serviceAccountName: runner}\nstatus: {phase: Running}"
    assert [str(finding.subject) for finding in found(world(refused(ACCOUNT) + user))] == ["ServiceAccount/shop/runner"]


EVENT = """
---
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec: {replicas: 2}
status: {replicas: %d}
---
kind: Event
metadata: {name: e, namespace: shop}
involvedObject: {kind: StatefulSet, name: db, namespace: shop}
reason: FailedCreate
type: Warning
message: >-
  create Pod db-0 in StatefulSet db failed error: pods "db-0" is forbidden: exceeded quota: q, requested: pods=1, used: pods=5,
  limited: pods=5
firstTimestamp: "2026-01-15T11:50:00Z"
lastTimestamp: "2026-01-15T11:59:00Z"
"""


def test_a_controller_without_conditions_is_believed_by_its_events_while_it_is_short() -> None:
    assert [str(finding.subject) for finding in found(world(EVENT % 0))] == ["ResourceQuota/shop/q"]
    assert found(world(EVENT % 2)) == []


def test_an_account_missing_from_a_complete_listing_is_found_before_any_event() -> None:
    text = """
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {replicas: 1, template: {spec: {serviceAccountName: runner}}}
---
kind: ServiceAccount
metadata: {name: %s, namespace: shop}
"""
    assert [finding.code for finding in found(world(text % "default"))] == ["admission.serviceaccount-missing"]
    assert found(world(text % "runner")) == []


def test_two_volumes_at_one_path_are_the_templates_fault() -> None:
    invalid = 'Pod "web-5d-x" is invalid: spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/data": must be unique'
    (finding,) = found(world(refused(invalid)))
    assert (finding.code, str(finding.subject)) == ("config.mounted-twice", "Deployment/shop/web")
    assert "at /data" in finding.explanation
    other = invalid.replace("volumeMounts[1].mountPath", "ports[1].name")
    assert "config.mounted-twice" not in {item.code for item in found(world(refused(other)))}
