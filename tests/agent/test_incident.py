from __future__ import annotations

import pytest

from agent.incident import FOCUS_LIMIT, focus
from tests.runbooks.worlds import world

SHOP = """
kind: Namespace
metadata: {name: shop}
---
kind: Namespace
metadata: {name: web}
---
kind: Namespace
metadata: {name: team-7}
---
kind: Deployment
metadata: {name: checkout, namespace: shop}
---
kind: Deployment
metadata: {name: checkout, namespace: team-7}
---
kind: Service
metadata: {name: checkout, namespace: shop}
---
kind: Deployment
metadata: {name: app, namespace: web}
---
kind: Deployment
metadata: {name: cart-redis-primary, namespace: shop}
---
kind: StatefulSet
metadata: {name: orders-db, namespace: shop}
---
kind: Pod
metadata:
  name: orders-db-0
  namespace: shop
  ownerReferences: [{kind: StatefulSet, name: orders-db, controller: true}]
---
kind: Ingress
metadata: {name: front, namespace: shop}
spec: {rules: [{host: shop.example.com}]}
---
kind: ConfigMap
metadata: {name: checkout-settings, namespace: shop}
---
kind: Node
metadata: {name: gpu-node-17}
"""


def named(question: str | None) -> set[str]:
    return {str(ref) for ref in focus(world(SHOP), question)}


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Why is checkout slow?", {"Deployment/shop/checkout", "Deployment/team-7/checkout", "Service/shop/checkout"}),
        ("Why is checkout in namespace shop slow?", {"Deployment/shop/checkout", "Service/shop/checkout"}),
        ("checkout in team-7 is down", {"Deployment/team-7/checkout"}),
        ("Please fix the deployment named 'app' in the namespace 'web'", {"Deployment/web/app"}),
        ("my app is broken", set()),
        ("What is the issue with redis?", {"Deployment/shop/cart-redis-primary"}),
        ("orders-db-0 crashes", {"Pod/shop/orders-db-0"}),
        ("orders-db-5 was evicted", {"StatefulSet/shop/orders-db"}),
        ("checkout-6958c5bdd8-69gtn restarts in shop", {"Deployment/shop/checkout"}),
        ("nobody can reach shop.example.com", {"Ingress/shop/front"}),
        ("connection to checkout.shop.svc.cluster.local refused", {"Service/shop/checkout"}),
        ("node gpu-node-17 looks strange", {"Node/gpu-node-17"}),
        ('KubePodNotReady{namespace="shop", pod="orders-db-0"}', {"Pod/shop/orders-db-0"}),
        ("is configmap checkout-settings right?", {"ConfigMap/shop/checkout-settings"}),
        ("Scan: what is wrong?", set()),
        ("", set()),
        (None, set()),
    ],
)
def test_a_question_names_its_objects(question: str | None, expected: set[str]) -> None:
    assert named(question) == expected


def test_a_full_name_in_the_wrong_namespace_is_still_meant() -> None:
    assert {str(ref) for ref in focus(world(SHOP), "what is wrong with statefulset orders-db in namespace team-7")} == {
        "StatefulSet/shop/orders-db"
    }


def test_a_namespace_alone_means_its_workloads() -> None:
    found = named("what is going on in team-7?")
    assert found == {"Deployment/team-7/checkout"}


def test_an_ordinary_word_is_a_namespace_only_beside_that_word() -> None:
    assert named("the web is slow today") == set()
    assert named("what is wrong in the web namespace?") == {"Deployment/web/app"}


def test_focus_is_bounded() -> None:
    many = "\n---\n".join(f"kind: Deployment\nmetadata: {{name: worker-{number}, namespace: shop}}" for number in range(FOCUS_LIMIT * 2))
    assert len(focus(world(many), "worker is slow, worker-x too; gizmo worker-1 worker-2")) <= FOCUS_LIMIT


def test_a_huge_question_is_read_in_part() -> None:
    assert focus(world(SHOP), "x " * 100_000 + "checkout") == ()
