"""What must never be allowed, and what must: the questions that both the evaluator and a real authorizer are asked."""

from __future__ import annotations

from tests.deploy.evaluator import Ask

CORE_READS = ("get", "list", "watch")
RBAC = "rbac.authorization.k8s.io"

# Nobody of ours may do these, anywhere.
FORBIDDEN: tuple[Ask, ...] = (
    *(Ask(verb, "", "secrets", namespace=space) for verb in (*CORE_READS, "create", "update", "patch", "delete") for space in ("", "ml")),
    Ask("get", "", "secrets", name="db", namespace="kube-system"),
    *(Ask(verb, "", "pods", sub, namespace="ml") for sub in ("exec", "attach", "portforward", "proxy") for verb in ("get", "create")),
    *(Ask(verb, "", "pods", "ephemeralcontainers", namespace="ml") for verb in ("patch", "update")),
    *(Ask(verb, "", "nodes", "proxy") for verb in ("get", "create", "update", "delete")),
    *(Ask("get", "", "services", "proxy", namespace=space) for space in ("ml", "kube-system")),
    Ask("create", "", "serviceaccounts", "token", namespace="ml"),
    Ask("create", "", "serviceaccounts", "token", name="executor", namespace="smokejumper"),
    *(Ask(verb, RBAC, kind) for kind in ("roles", "clusterroles") for verb in ("escalate", "bind", "create", "patch", "update", "delete")),
    *(Ask(verb, RBAC, kind, namespace="ml") for kind in ("rolebindings", "roles") for verb in ("create", "patch", "bind", "escalate")),
    *(Ask("impersonate", "", kind) for kind in ("users", "groups", "serviceaccounts")),
    Ask("impersonate", "authentication.k8s.io", "uids"),
    Ask("*", "*", "*"),
    Ask("*", "", "pods", namespace="ml"),
    Ask("get", "*", "*", namespace="ml"),
    *(Ask("create", group, kind, namespace="ml") for group, kind in (("", "pods"), ("apps", "deployments"), ("batch", "jobs"))),
    *(Ask("deletecollection", "", "pods", namespace=space) for space in ("", "ml")),
    *(Ask(verb, "", "nodes", "status") for verb in ("patch", "update")),
    *(Ask("patch", "apps", kind, "scale", namespace="ml") for kind in ("deployments", "statefulsets")),
    *(Ask(verb, "", "namespaces") for verb in ("create", "patch", "delete")),
    Ask("patch", "", "namespaces", name="default", namespace="default"),
    *(Ask(verb, "", "configmaps", namespace="ml") for verb in ("create", "update", "delete")),
    *(Ask(verb, "", "persistentvolumeclaims", namespace="ml") for verb in ("create", "delete")),
    *(
        Ask(verb, "admissionregistration.k8s.io", kind)
        for kind in ("validatingadmissionpolicies", "validatingadmissionpolicybindings", "validatingwebhookconfigurations")
        for verb in ("create", "patch", "delete")
    ),
    *(Ask(verb, "certificates.k8s.io", "certificatesigningrequests", sub) for sub in ("", "approval") for verb in ("create", "update")),
    Ask("create", "authentication.k8s.io", "tokenreviews"),
    Ask("patch", "apiextensions.k8s.io", "customresourcedefinitions"),
)

# What the reader must not do beyond that: write anything.
READER_FORBIDDEN: tuple[Ask, ...] = (
    *(
        Ask(verb, group, kind, namespace=space)
        for group, kind, space in (
            ("", "pods", "ml"),
            ("", "nodes", ""),
            ("apps", "deployments", "ml"),
            ("apps", "statefulsets", "ml"),
            ("apps", "daemonsets", "ml"),
            ("", "configmaps", "ml"),
            ("", "persistentvolumeclaims", "ml"),
            ("batch", "jobs", "ml"),
            ("", "events", "ml"),
            ("coordination.k8s.io", "leases", "ml"),
        )
        for verb in ("create", "update", "patch", "delete", "deletecollection")
    ),
    Ask("create", "", "pods", "eviction", namespace="ml"),
    Ask("patch", "", "pods", "resize", namespace="ml"),
    Ask("create", "authorization.k8s.io", "subjectaccessreviews"),
)

READER_MAY: tuple[Ask, ...] = (
    *(Ask(verb, "", kind, namespace="ml") for kind in ("pods", "events", "configmaps", "services") for verb in ("get", "list")),
    Ask("get", "", "pods", "log", namespace="ml"),
    Ask("list", "", "nodes"),
    Ask("list", "apps", "deployments"),
    Ask("list", "resource.k8s.io", "resourceclaims"),
)

EXECUTOR_MAY: tuple[Ask, ...] = (
    *(Ask(verb, "apps", kind, namespace="ml") for kind in ("deployments", "statefulsets", "daemonsets") for verb in ("get", "patch")),
    Ask("delete", "", "pods", name="serve-1", namespace="ml"),
    Ask("create", "", "pods", "eviction", name="serve-1", namespace="ml"),
    Ask("patch", "", "pods", "resize", name="serve-1", namespace="ml"),
    Ask("patch", "batch", "jobs", name="train", namespace="ml"),
    Ask("patch", "", "nodes", name="n1"),
    Ask("list", "", "nodes"),
    Ask("list", "policy", "poddisruptionbudgets", namespace="ml"),
    Ask("list", "autoscaling", "horizontalpodautoscalers", namespace="ml"),
    Ask("list", "apps", "controllerrevisions", namespace="ml"),
    Ask("get", "batch", "jobs", namespace="ml"),
    Ask("get", "", "namespaces", name="kube-system", namespace="kube-system"),
)

# The executor reads less than the reader: no logs, no events, no list of namespaces.
EXECUTOR_FORBIDDEN: tuple[Ask, ...] = (
    Ask("get", "", "pods", "log", namespace="ml"),
    Ask("list", "", "configmaps", namespace="ml"),
    Ask("list", "", "events", namespace="ml"),
    Ask("list", "", "namespaces"),
    Ask("update", "apps", "deployments", namespace="ml"),
    Ask("delete", "apps", "deployments", namespace="ml"),
    Ask("delete", "", "nodes", name="n1"),
)
HUMAN_REVIEW = Ask("create", "authorization.k8s.io", "subjectaccessreviews")
