"""Device claims explained as a tool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.kinds import BY_NAME
from cluster.recorded import RecordedReader
from cluster.reference import Scope
from cluster.world import World
from mcp_server.errors import ToolRefusal
from mcp_server.tools.claims import KINDS, Explained, explain_waiting
from runbooks.device_request import INQUIRY_LIMIT, Budget
from tests.mcp_server.incident import call

pytestmark = pytest.mark.anyio
DRIVER = "gpu.example.com"
RESOURCE = "resource.k8s.io/v1"


def object_(kind: str, name: str, spec: dict[str, Any], namespace: str | None = None, **more: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": RESOURCE if kind != "Pod" else "v1", "kind": kind, "metadata": metadata, "spec": spec, **more}


def devices(model: str = "A100") -> list[dict[str, Any]]:
    listed = [{"name": f"gpu-{place}", "attributes": {"model": {"string": model}}} for place in range(2)]
    pool = {"name": "node-1", "generation": 1, "resourceSliceCount": 1}
    selectors = [{"cel": {"expression": f'device.driver == "{DRIVER}"'}}]
    return [
        object_("ResourceSlice", "node-1", {"driver": DRIVER, "nodeName": "node-1", "pool": pool, "devices": listed}),
        object_("DeviceClass", "gpu", {"selectors": selectors}),
        object_("DeviceTaintRule", "others", {"deviceSelector": {"driver": "other"}, "taint": {"key": "sick", "effect": "NoSchedule"}}),
    ]


def claim(name: str = "one", model: str = "H100", status: dict[str, Any] | None = None) -> dict[str, Any]:
    selectors = [{"cel": {"expression": f'device.attributes["{DRIVER}"].model == "{model}"'}}]
    requests = [{"name": "gpu", "exactly": {"deviceClassName": "gpu", "selectors": selectors}}]
    return object_("ResourceClaim", name, {"devices": {"requests": requests}}, "ml", **({"status": status} if status else {}))


def pod(name: str = "train", of: str = "one") -> dict[str, Any]:
    uses = [{"name": "gpu", "resourceClaimName": of}]
    return object_("Pod", name, {"containers": [{"name": "c"}], "resourceClaims": uses}, "ml", status={"phase": "Pending"})


def recorded(folder: Path, *items: dict[str, Any]) -> RecordedReader:
    (folder / "objects.yaml").write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": items}))
    return RecordedReader.open(folder)


async def test_a_pod_is_told_what_decides_and_how_many_devices_pass_each_test(tmp_path: Path) -> None:
    reader = recorded(tmp_path, *devices(), claim(), pod())
    for asked in ({}, {"namespace": "ml", "pod": "train"}, {"namespace": "ml", "claim": "one"}):
        page = (await call(reader, "dra_diagnose", **asked)).render()
        assert page.lines[:2] == ("1 not allocatable", "decided by: selector matches too few devices (1)")
        rows = page.structured["rows"]
        assert any('model == "H100"' in row[4] and "2 × model=A100" in row[4] for row in rows)
        funnel = [(row[4].partition(" ")[0], row[5]) for row in rows if row[1]]
        assert funnel == [("published", "2"), ("selector", "2"), ("selector", "0")]


async def test_a_class_and_an_allocated_claim(tmp_path: Path) -> None:
    results = [{"request": "gpu", "driver": DRIVER, "pool": "node-1", "device": "gpu-0"}]
    held = {"allocation": {"devices": {"results": results}}, "reservedFor": [{"resource": "pods", "name": "other", "uid": "u"}]}
    reader = recorded(tmp_path, *devices(), claim("held", status=held))
    of_class = (await call(reader, "dra_diagnose", device_class="gpu")).render()
    assert of_class.lines[0] == "1 allocatable"
    assert [row[5] for row in of_class.structured["rows"] if row[4] in ("published", "free")] == ["2", "1"]
    of_claim = (await call(reader, "dra_diagnose", namespace="ml", claim="held")).render()
    assert f"{DRIVER}/node-1/gpu-0" in of_claim.structured["rows"][0][4]
    assert "pods other" in of_claim.structured["rows"][0][4]


@pytest.mark.parametrize("limit", [1, 3, 50])
async def test_every_page_explains_its_own_pods_and_the_pages_all(tmp_path: Path, limit: int) -> None:
    names = [f"train-{place}" for place in range(5)]
    items = [item for name in names for item in (claim(name), pod(name, name))]
    reader = recorded(tmp_path, *devices(), *items)
    pages: list[dict[str, Any]] = []
    cursor = None
    while cursor or not pages:
        page = (await call(reader, "dra_diagnose", limit=limit, **({"cursor": cursor} if cursor else {}))).render()
        pages.append(page.structured)
        cursor = page.cursor
    rows = [row for page in pages for row in page["rows"]]
    assert all(0 < len(page["rows"]) <= limit for page in pages)
    assert [name for name in names for _ in range(5)] == [row[0].rpartition("/")[2] for row in rows]
    assert len({tuple(row) for row in rows}) == len(rows)
    assert ("more that wait are explained on other pages" in pages[0]["headline"][0]) is (limit < 25)
    # What a page has not come to yet counts as one row at least, and what was shown is counted.
    shown = 0
    for told in pages:
        shown += len(told["rows"])
        left = told["total"] - shown
        assert len({row[0] for row in rows[shown:]}) <= left <= len(rows) - shown
        assert told["cut"] in ("", f"{left} more of 25", f"{left} or more of at least {told['total']}")
        assert ("at least" in told["cut"]) is (told["total"] < 25)
    assert pages[-1]["total"] == len(rows) == 25


async def test_a_page_ends_where_its_work_does_and_never_without_a_row(tmp_path: Path) -> None:
    names = ["train-0", "train-1", "train-2"]
    reader = recorded(tmp_path, *devices(), *(item for name in names for item in (claim(name), pod(name, name))))
    made = World("c", reader.now(), Scope("c"))
    for kind in KINDS:
        made = made.with_facts(kind, (await reader.objects(BY_NAME[kind], Scope("c"))).value, complete=True)
    places = [("ml", name) for name in names]
    made.once(Budget).left = INQUIRY_LIMIT + 1
    first = explain_waiting(made, None, 50, ("", "", -1))
    assert [place for place, _ in first.said] == places[:1]
    assert (first.before, first.waiting) == ((), tuple(places[1:]))
    # All rows of the first pod were shown: the second is explained, however little work is left.
    second = explain_waiting(made, None, 50, (*places[0], 99))
    assert [place for place, _ in second.said] == places[:2]
    assert second.waiting == (places[2],)
    assert explain_waiting(made, "other", 50, ("", "", -1)) == Explained(())


async def test_a_cursor_of_another_kind_is_refused(tmp_path: Path) -> None:
    reader = recorded(tmp_path, *devices(), claim(), pod())
    page = (await call(reader, "dra_diagnose", limit=1)).render()
    assert page.cursor
    with pytest.raises(ToolRefusal, match="cursor"):
        await call(reader, "dra_diagnose", limit=1, cursor=page.cursor[:-4])
    with pytest.raises(ToolRefusal, match="cursor belongs to a call with other arguments"):
        await call(reader, "dra_diagnose", namespace="ml", limit=1, cursor=page.cursor)


async def test_what_cannot_be_evaluated_is_said(tmp_path: Path) -> None:
    wanted = claim()
    wanted["spec"]["devices"]["requests"][0]["exactly"]["selectors"][0]["cel"]["expression"] = 'cel.bind(x, device.driver, x == "y")'
    page = (await call(recorded(tmp_path, *devices(), wanted, pod()), "dra_diagnose")).render()
    assert page.lines[0] == "1 cannot be told"
    assert any("cannot be evaluated here" in row[4] for row in page.structured["rows"])


async def test_what_does_not_exist_is_refused_with_what_does(tmp_path: Path) -> None:
    reader = recorded(tmp_path, *devices(), claim(), pod())
    with pytest.raises(ToolRefusal, match=r"nearest .*: gpu"):
        await call(reader, "dra_diagnose", device_class="gpus")
    with pytest.raises(ToolRefusal, match="one"):
        await call(reader, "dra_diagnose", namespace="ml", claim="ones")
    with pytest.raises(ToolRefusal, match="'namespace' is required"):
        await call(reader, "dra_diagnose", pod="train")
    with pytest.raises(ToolRefusal, match="give one of"):
        await call(reader, "dra_diagnose", namespace="ml", pod="train", claim="one")
