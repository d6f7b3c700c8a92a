"""Who an account is and what it may do, as the cluster says it: every answer that a review can have."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.account import Deed, Identity, identity, permitted
from cluster.errors import ClusterError
from tests.cluster.fake_api import FakeApi, Reply, Seen, connection, document, status

WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
MAY = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
PATCH = Deed("apps", "deployments", "patch")
EVICT = Deed("", "pods/eviction", "create")
SYSTEM = Deed("", "namespaces", "get", "kube-system")

pytestmark = pytest.mark.anyio


async def test_an_identity_is_what_the_server_calls_us(api: FakeApi) -> None:
    api.reply(WHO, document({"status": {"userInfo": {"username": "jane", "groups": ["sre", "system:authenticated"]}}}))
    async with connection(api) as opened:
        assert await identity(opened) == Identity("jane", ("sre", "system:authenticated"))
        api.reply(WHO, document({"status": {}}))
        assert await identity(opened) is None
        # Kubernetes before 1.28 does not serve the review.
        api.reply(WHO, status(404, "NotFound", "the server could not find the requested resource"))
        assert await identity(opened) is None


async def test_each_deed_is_asked_about_where_it_would_be_done(api: FakeApi) -> None:
    def answer(seen: Seen) -> Reply:
        attributes = json.loads(seen.body)["spec"]["resourceAttributes"]
        return document({"status": {"allowed": attributes["resource"] != "pods", "denied": attributes["resource"] == "namespaces"}})

    api.routes[MAY] = answer
    async with connection(api) as opened:
        assert await permitted(opened, {PATCH, EVICT, SYSTEM}, "ml") == {PATCH}
        assert await permitted(opened, {PATCH}) == {PATCH}
    asked: list[dict[str, Any]] = [json.loads(seen.body)["spec"]["resourceAttributes"] for seen in api.requests]
    by_resource = {one["resource"]: one for one in asked[:3]}
    assert by_resource["pods"] == {
        "verb": "create",
        "group": "",
        "resource": "pods",
        "subresource": "eviction",
        "name": "",
        "namespace": "ml",
    }
    assert by_resource["namespaces"]["namespace"] == "kube-system"
    assert "namespace" not in asked[3]


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (status(401, "Unauthorized", "Unauthorized"), "does not say"),
        (Reply(200, b"<html>"), "answers no JSON"),
        (status(403, "Forbidden", "no reviews here"), "no reviews here"),
    ],
)
async def test_who_does_not_say_is_an_error_and_never_a_no(api: FakeApi, reply: Reply, says: str) -> None:
    api.reply(WHO, reply)
    api.reply(MAY, reply)
    async with connection(api) as opened:
        with pytest.raises(ClusterError, match=says):
            await identity(opened)
        with pytest.raises(ClusterError, match=says):
            await permitted(opened, {PATCH, EVICT, SYSTEM})


def test_deeds_in_words() -> None:
    words = ["patch deployments.apps", "create pods/eviction", "get namespaces kube-system", "* *"]
    assert [str(deed) for deed in (PATCH, EVICT, SYSTEM, Deed("*", "*", "*"))] == words
