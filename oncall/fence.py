"""The second fence: admission policies in the cluster that hold our accounts even when everything on our side has failed. Pure.

Two ValidatingAdmissionPolicies. `smokejumper-bounds` has no parameters and names everything that our accounts may ever write; it
matches all resources. `smokejumper-fence` has parameters that a cluster's administrator may change at any time: paused, a bound on
replicas, protected namespaces.

The parameters are annotations of the namespace `default`, not a kind of our own, and that is the point: the API server looks for the
parameter object before it looks at match conditions (k8s.io/apiserver, pkg/admission/plugin/policy/generic/policy_dispatcher.go, "Match-
Conditions expressions are not evaluated here"), so with `parameterNotFoundAction: Deny` a deleted custom resource, or its deleted CRD,
refuses the matching writes of everybody, kubelets and controllers included. The namespace `default` cannot be deleted. What can go
missing are its annotations, and then only our accounts stop.

A delete carries no annotation, so it cannot show a receipt: it must hold uid and resourceVersion of the object as preconditions, and
the object must have a controller that recreates it. An eviction must hold the uid, and disruption budgets judge it. Which proposal
either belongs to is told by the Audit-ID in our ledger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from guardrails.request import RECEIPT_ANNOTATION
from oncall.roles import ACCOUNTS, ADMISSION, DRY_RUN, EXECUTOR, FENCES, NAMESPACE, REVIEWS, Document, writes

BOUNDS, FENCE = FENCES
# Cannot be deleted (k8s.io/apiserver, plugin/namespace/lifecycle: default, kube-system and kube-public are immortal), and belongs
# less than the other two to those who run the control plane.
PARAMETER_NAMESPACE = "default"
PREFIX = "fence.smokejumper.dev/"
PAUSED, MAX_REPLICAS, PROTECTED = f"{PREFIX}paused", f"{PREFIX}max-replicas", f"{PREFIX}protected-namespaces"
NEVER = ("kube-system", "kube-public", "kube-node-lease", NAMESPACE)
MAX_REPLICAS_DEFAULT = 100

_USER = f"system:serviceaccount:{NAMESPACE}:"


def documents(*, max_replicas: int = MAX_REPLICAS_DEFAULT, protected: Iterable[str] = (), paused: bool = False) -> tuple[Document, ...]:
    """Both policies with their bindings, and the namespace with its parameters: server-side apply it."""
    bounds = _policy(BOUNDS, [_everything()], _bounds_variables(), _bounds())
    bounds["spec"]["auditAnnotations"] = [{"key": "proposal", "valueExpression": "variables.receipt"}]
    fence = _policy(FENCE, _written(), _fence_variables(), _fence())
    fence["spec"]["paramKind"] = {"apiVersion": "v1", "kind": "Namespace"}
    return (
        bounds,
        _binding(BOUNDS),
        fence,
        _binding(FENCE, {"name": PARAMETER_NAMESPACE, "parameterNotFoundAction": "Deny"}),
        parameters(max_replicas=max_replicas, protected=protected, paused=paused),
    )


def parameters(*, max_replicas: int = MAX_REPLICAS_DEFAULT, protected: Iterable[str] = (), paused: bool = False) -> Document:
    """The namespace's part that is ours: all three annotations, always."""
    annotations = {PAUSED: str(paused).lower(), MAX_REPLICAS: str(max_replicas), PROTECTED: ",".join(sorted(protected))}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PARAMETER_NAMESPACE, "annotations": annotations}}


def _policy(name: str, rules: list[Document], variables: list[Document], validations: list[Document]) -> Document:
    conditions = [
        {"name": "ours", "expression": f"request.userInfo.username.startsWith('{_USER}')"},
        # A review asks and stores nothing, but reaches admission as a create.
        {"name": "no-access-review", "expression": f"request.resource.group != '{REVIEWS}'"},
    ]
    return {
        "apiVersion": f"{ADMISSION}/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "smokejumper"}},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": rules},
            "matchConditions": conditions,
            "variables": variables,
            "validations": validations,
        },
    }


def _binding(policy: str, parameter: Document | None = None) -> Document:
    return {
        "apiVersion": f"{ADMISSION}/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": policy, "labels": {"app.kubernetes.io/name": "smokejumper"}},
        "spec": {"policyName": policy, "validationActions": ["Deny", "Audit"], **({"paramRef": parameter} if parameter else {})},
    }


def _everything() -> Document:
    # Unlike in RBAC, `*/*` is needed to match subresources.
    return {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}


# The operation of a request by the verb that RBAC knows it by. Our updates are patches; a put would be as good.
OPERATIONS = {"patch": "UPDATE", "create": "CREATE", "delete": "DELETE"}


def _written() -> list[Document]:
    """Only what `smokejumper-bounds` lets our accounts write: the less a policy with parameters matches, the less it can ever stop."""
    resources: dict[tuple[str, str], list[str]] = defaultdict(list)
    for rule in sorted(writes()):
        resources[OPERATIONS[rule.verb], rule.group].append(rule.resource)
    return [
        {"apiGroups": [group], "apiVersions": ["*"], "operations": [operation], "resources": listed}
        for (operation, group), listed in sorted(resources.items())
    ]


def _permitted() -> list[str]:
    return sorted(f"{OPERATIONS[rule.verb]} {rule.group}/{rule.resource}" for rule in writes())


def _variable(name: str, expression: str) -> Document:
    return {"name": name, "expression": expression}


def _rule(expression: str, message: str) -> Document:
    return {"expression": expression, "message": message}


def _bounds_variables() -> list[Document]:
    update = "request.operation == 'UPDATE'"
    receipt = f"metadata.?annotations[?'{RECEIPT_ANNOTATION}'].orValue('')"
    return [
        _variable("trying", "request.?dryRun.orValue(false)"),
        _variable("space", "request.?namespace.orValue('')"),
        _variable("whole", "request.?subResource.orValue('') == ''"),
        _variable(
            "what",
            "request.operation + ' ' + request.resource.group + '/' + request.resource.resource +"
            " (variables.whole ? '' : '/' + request.subResource)",
        ),
        _variable("receipt", f"{update} ? object.{receipt} : ''"),
        _variable("earlier", f"{update} ? oldObject.{receipt} : ''"),
    ]


def _bounds() -> list[Document]:
    executor, dry_run = _USER + ACCOUNTS[EXECUTOR], _USER + ACCOUNTS[DRY_RUN]
    return [
        _rule(f"request.userInfo.username in ['{executor}', '{dry_run}']", "this account of Smokejumper only reads"),
        _rule(f"variables.trying || request.userInfo.username != '{dry_run}'", "the dry-run account stores nothing"),
        _rule(
            f"variables.what in {_permitted()} && (request.operation != 'DELETE' || request.?name.orValue('') != '')",
            "no action of Smokejumper does this",
        ),
        _rule(f"!(variables.space in {list(NEVER)})", "Smokejumper never writes to a system namespace"),
        _rule(
            # A resize of a pod keeps nothing but the resources, so its receipt would be dropped.
            "request.operation != 'UPDATE' || !variables.whole || variables.trying || (variables.receipt != variables.earlier &&"
            " variables.receipt.matches('^p-[0-9a-f]{12}[.][0-9a-f]{16}([.]rollback)?$'))",
            f"an update needs the receipt of a new proposal in the annotation {RECEIPT_ANNOTATION}",
        ),
        _rule(
            "request.operation != 'UPDATE' ||"
            " (object.metadata.?finalizers.orValue([]) == oldObject.metadata.?finalizers.orValue([]) &&"
            " object.metadata.?ownerReferences.orValue([]) == oldObject.metadata.?ownerReferences.orValue([]))",
            "Smokejumper changes neither finalizers nor owners",
        ),
        _rule(
            "request.operation != 'DELETE' || (oldObject != null &&"
            " request.?options.?preconditions.?uid.orValue('') == oldObject.metadata.uid &&"
            " request.?options.?preconditions.?resourceVersion.orValue('') == oldObject.metadata.resourceVersion &&"
            " oldObject.metadata.?ownerReferences.orValue([]).exists(owner, owner.?controller.orValue(false)))",
            "a delete names uid and resourceVersion of what was looked at, and that has a controller which recreates it",
        ),
        _rule(
            "request.operation != 'CREATE' || object.?deleteOptions.?preconditions.?uid.orValue('') != ''",
            "an eviction names the uid of what was looked at",
        ),
    ]


def _fence_variables() -> list[Document]:
    known = [PAUSED, MAX_REPLICAS, PROTECTED]
    given = "variables.given"
    return [
        _variable("given", "params.metadata.?annotations.orValue({})"),
        _variable(
            "legal",
            f"{known}.all(key, key in {given}) && {given}.all(key, !key.startsWith('{PREFIX}') || key in {known})"
            f" && {given}['{PAUSED}'] in ['true', 'false'] && {given}['{MAX_REPLICAS}'].matches('^[0-9]{{1,6}}$')",
        ),
        _variable("ceiling", f"variables.legal ? int({given}['{MAX_REPLICAS}']) : 0"),
        _variable("protected", f"variables.legal ? {given}['{PROTECTED}'].split(',').map(name, name.trim()) : []"),
        _variable("space", "request.?namespace.orValue('')"),
        _variable("wanted", f"request.operation == 'UPDATE' ? {_replicas('object')} : 0"),
        _variable("before", f"request.operation == 'UPDATE' ? {_replicas('oldObject')} : 0"),
    ]


def _replicas(of: str) -> str:
    """The replicas of a workload, or how many an autoscaler may choose."""
    return f"{of}.?spec.?replicas.orValue({of}.?spec.?maxReplicas.orValue(0))"


def _fence() -> list[Document]:
    where = f"the namespace {PARAMETER_NAMESPACE}"
    return [
        _rule(
            "variables.legal",
            f"the fence has no parameters: annotate {where} with {PAUSED} (true or false), {MAX_REPLICAS} and {PROTECTED}, and no other"
            f" {PREFIX}*",
        ),
        _rule(
            f"!variables.legal || variables.given['{PAUSED}'] == 'false' || request.?dryRun.orValue(false)",
            f"Smokejumper is paused by {PAUSED} of {where}",
        ),
        _rule(
            "!variables.legal || variables.wanted <= variables.ceiling || variables.wanted <= variables.before",
            f"more replicas than {MAX_REPLICAS} of {where} allows",
        ),
        _rule(
            "!variables.legal || variables.space == '' || !(variables.space in variables.protected)",
            f"this namespace is protected by {PROTECTED} of {where}",
        ),
    ]
