"""What could not be seen is told once for each reason."""

from __future__ import annotations

import json

from msgspec.structs import replace

from cluster.gaps import by_reason
from cluster.kinds import BY_NAME
from cluster.reading import Missing, Why
from cluster.response import Response, explain


def refused(kind_name: str, namespace: str | None = None, user: str = "system:serviceaccount:ml:ds") -> Missing:
    """What the API server's refusal of a list becomes."""
    kind = BY_NAME[kind_name]
    resource = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
    reach = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    said = f'{resource} is forbidden: User "{user}" cannot list resource "{kind.plural}" in API group "{kind.group}" {reach}'
    body = json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": said, "code": 403}).encode()
    what = f"{kind.plural} in {namespace}" if namespace else kind.plural
    return explain(Response(403, body), what, verb="list", kind=kind, namespace=namespace)


def test_refusals_that_differ_in_the_resource_are_one() -> None:
    (told,) = by_reason(refused(kind) for kind in ("Node", "StorageClass", "CSINode"))
    assert told.what == "Node, StorageClass, CSINode"
    assert told.detail == 'User "system:serviceaccount:ml:ds" cannot list them at the cluster scope'
    assert (
        told.next_step == "Grant the reading account get,list on them in the whole cluster (an RBAC Role or ClusterRole and its binding)."
    )


def test_refusals_of_several_logs_are_one() -> None:
    said = 'pods "{}" is forbidden: User "u" cannot get resource "pods/log" in API group "" in the namespace "ml"'
    gaps = [Missing(f"log of Pod/ml/{name}[c]", Why.FORBIDDEN, said.format(name), kind="Pod", namespace="ml") for name in ("a", "b")]
    (told,) = by_reason(gaps)
    assert (told.what, told.detail) == ("log of Pod/ml/a[c], log of Pod/ml/b[c]", 'User "u" cannot get them in the namespace "ml"')


def test_what_lives_in_a_namespace_may_be_asked_for_there() -> None:
    nodes, pods = by_reason([refused("Node"), refused("Pod"), refused("Event")])
    assert nodes == refused("Node")
    assert pods.what == "Pod, Event"
    assert pods.next_step.startswith("Ask about one namespace that it may read, or grant the reading account get,list on them")


def test_accounts_namespaces_and_reasons_are_kept_apart() -> None:
    gap = refused("Pod", "ml")
    others = (
        refused("Job", "shop"),
        refused("Job", "ml", "bob"),
        replace(refused("Job", "ml"), why=Why.TIMEOUT),
        Missing("alerts", Why.NO_SOURCE),
    )
    assert by_reason([gap, *others]) == [gap, *others]


def test_kinds_of_several_namespaces_are_told_with_theirs() -> None:
    late = [Missing(f"{name}s in {space}", Why.TIMEOUT, kind=name, namespace=space) for name, space in (("Pod", "ml"), ("Job", "shop"))]
    assert [(gap.what, gap.namespace) for gap in by_reason(late)] == [("Pods in ml, Jobs in shop", None)]


def test_a_kind_stands_for_all_of_it_and_not_for_one_log_or_the_rest_of_a_list() -> None:
    late = [
        Missing("log of Pod/ml/serve[main]", Why.TIMEOUT, kind="Pod", namespace="ml"),
        Missing("events in ml after the first 500", Why.TIMEOUT, kind="Event", namespace="ml"),
        Missing("services in ml", Why.TIMEOUT, kind="Service", namespace="ml"),
    ]
    assert [gap.what for gap in by_reason(late)] == ["log of Pod/ml/serve[main], events in ml after the first 500, Service in ml"]


def test_names_are_bounded_and_those_of_one_kind_told_apart() -> None:
    logs = [Missing(f"log of Pod/ml/a-{number}", Why.NOT_FOUND, kind="Pod") for number in range(8)]
    assert by_reason(logs)[0].what == ", ".join(item.what for item in logs[:6]) + " and 2 more"
    assert by_reason(logs, names_shown=8)[0].what == ", ".join(item.what for item in logs)
