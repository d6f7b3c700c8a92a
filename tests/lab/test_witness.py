"""The witness over fake audit logs of a change that a real executor made: it must be able to fail, and for each reason by itself."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from guardrails.action import DeletePod, EvictPod, RolloutUndo, target
from guardrails.directory import Directory
from guardrails.gate import Gate
from guardrails.office import DATABASE, PEOPLE, Office, open_office
from guardrails.request import BoundRequest
from tests.guardrails.conftest import CALM, FakeClock, numbered, person
from tests.guardrails.fake_cluster import FakeCluster, deployment, pod, replica_set, roll_out
from tests.lab.api import USER_AGENT
from tests.lab.audit import AuditLog
from tests.lab.witness import Account, account_for, permitted, permitted_below

pytestmark = pytest.mark.anyio

PRODUCT = "smokejumper/0.1.0"
VERBS = {"PATCH": "patch", "DELETE": "delete", "POST": "create"}


@pytest.fixture
def cluster() -> FakeCluster:
    fake = FakeCluster(FakeClock(), deployment(), replica_set(1, "web:1"), replica_set(2, "web:2"), pod(), pod("web-h2-y"))
    fake.heal = roll_out
    return fake


@pytest.fixture
async def office(tmp_path: Path, cluster: FakeCluster) -> AsyncIterator[Office]:
    """An office whose three changes (a patch, a delete and an eviction) were approved and made."""
    directory = Directory.load(tmp_path / PEOPLE)
    for name in ("ada", "bob", "cleo"):
        directory.add(name, ["sre-oncall"])
    async with open_office(tmp_path, {"lab": cluster}, clock=FakeClock(), ids=numbered(), durable=False) as office:
        gate = Gate(office)
        subjects = (
            (RolloutUndo(), target("Deployment", "shop", "web")),
            (DeletePod(), target("Pod", "shop", "web-h2-x")),
            (EvictPod(), target("Pod", "shop", "web-h2-y")),
        )
        for action, on in subjects:
            shown = await gate.propose(action, on, cluster="lab", requester="ada", evidence=CALM)
            for name in ("bob", "cleo"):
                if shown.state == "pending":
                    shown = await gate.approve(shown.id, shown.digest or "", person(office, name), "cli")
            await gate.execute(shown.id, shown.digest or "", "ada")
        yield office


def record(request: BoundRequest, number: int, **changes: Any) -> dict[str, Any]:
    """The line that the API server writes for a request of the product that it carried out."""
    body = request.body()
    if request.method == "DELETE":
        body |= {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/__internal"}
    return {
        "auditID": f"audit-{number}",
        "verb": VERBS[request.method],
        "user": {"username": "executor"},
        "userAgent": PRODUCT,
        "objectRef": {"resource": "things", "name": "web"},
        "requestURI": f"{request.path}?fieldManager=smokejumper",
        "requestReceivedTimestamp": "2026-11-25T10:00:00Z",
        "responseStatus": {"code": 200},
        "requestObject": body,
    } | changes


def heard(tmp_path: Path, *records: dict[str, Any]) -> Account:
    """What the witness says about a log of these records and the office's database."""
    path = tmp_path / "audit.log"
    path.write_text("".join(json.dumps(one) + "\n" for one in records), "utf-8")

    def knock(token: str) -> None:
        with path.open("a", encoding="utf-8") as log:
            log.write(json.dumps({"auditID": token, "verb": "get", "requestURI": token, "user": {"username": "lab:loader"}}) + "\n")

    found = permitted(tmp_path / DATABASE, "uid-of-lab")
    return account_for(AuditLog(path, knock).writes(machinery=True), found)


async def test_what_was_granted_is_found_granted(office: Office, cluster: FakeCluster, tmp_path: Path) -> None:
    account = heard(tmp_path, *(record(request, n) for n, request in enumerate(cluster.writes)))
    assert (len(account.writes), len(account.granted), account.offences) == (3, 3, ())
    assert {write.verb for write, _ in account.granted} == {"patch", "delete", "create"}
    assert account.complaint() == ""


async def test_a_write_that_no_ledger_knows(office: Office, cluster: FakeCluster, tmp_path: Path) -> None:
    stranger = record(cluster.writes[0], 1, requestURI="/apis/apps/v1/namespaces/shop/deployments/other")
    [offence] = heard(tmp_path, stranger).offences
    assert offence.startswith("without a grant: 2026-11-25T10:00:00Z executor")
    assert "deployments/other" in heard(tmp_path, stranger).complaint()
    [other] = heard(tmp_path, record(cluster.writes[0], 1, user={"username": "system:serviceaccount:smokejumper:executor"})).granted
    assert other[0].user.endswith("executor")


@pytest.mark.parametrize("code", [201, 500, None])
async def test_also_what_may_have_happened_counts(office: Office, cluster: FakeCluster, tmp_path: Path, code: int | None) -> None:
    status = {} if code is None else {"code": code}
    stranger = record(cluster.writes[0], 1, requestURI="/api/v1/nodes/gpu-1", responseStatus=status)
    assert len(heard(tmp_path, stranger).offences) == 1


@pytest.mark.parametrize("code", [403, 409, 422])
async def test_what_was_refused_is_no_write(office: Office, cluster: FakeCluster, tmp_path: Path, code: int) -> None:
    refused = record(cluster.writes[0], 1, requestURI="/api/v1/nodes/gpu-1", responseStatus={"code": code})
    dry = record(cluster.writes[0], 2, requestURI="/api/v1/nodes/gpu-1?dryRun=All")
    assert heard(tmp_path, refused, dry).writes == ()


async def test_a_grant_is_good_for_one_write(office: Office, cluster: FakeCluster, tmp_path: Path) -> None:
    [offence] = heard(tmp_path, record(cluster.writes[0], 1), record(cluster.writes[0], 2)).offences
    assert "was granted request 0 (change) once, and it was sent again" in offence


async def test_a_grant_is_good_for_its_own_body_and_object(office: Office, cluster: FakeCluster, tmp_path: Path) -> None:
    patch, delete, eviction = (record(request, n) for n, request in enumerate(cluster.writes))
    wider, forged, other_pod, other_victim = (copy.deepcopy(one) for one in (patch, patch, delete, eviction))
    wider["requestObject"]["spec"]["replicas"] = 0
    forged["requestObject"]["metadata"]["annotations"]["smokejumper.dev/proposal"] = "p-9.0123456789abcdef"
    other_pod["requestObject"]["preconditions"]["uid"] = "uid-of-another"
    other_victim["requestObject"]["deleteOptions"]["preconditions"]["uid"] = "uid-of-another"
    for one in (wider, forged, other_pod, other_victim):
        assert len(heard(tmp_path, one).offences) == 1, one


async def test_the_machinery_and_the_tests_own_hands_are_told_apart(office: Office, cluster: FakeCluster, tmp_path: Path) -> None:
    away = {"requestURI": "/api/v1/nodes/gpu-1"}
    by_hand = record(cluster.writes[0], 1, userAgent=USER_AGENT, **away)
    controller = {"user": {"username": "system:serviceaccount:kube-system:node-controller"}, "userAgent": "kube-controller-manager/v1.37.2"}
    account = heard(tmp_path, by_hand, record(cluster.writes[0], 2, **controller, **away))
    assert (account.writes, account.by_hand) == ((), 1)
    disguised = record(cluster.writes[0], 3, userAgent="kube-controller-manager/v1.37.2", **away)
    assert len(heard(tmp_path, disguised).offences) == 1


async def test_databases_are_found_wherever_tests_put_them(office: Office, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / DATABASE).write_text("no database")
    found, unreadable = permitted_below(tmp_path, "uid-of-lab")
    assert len(found) == 3
    assert unreadable == (tmp_path / "elsewhere" / DATABASE,)
    assert permitted_below(tmp_path, "uid-of-another-cluster")[0] == ()
