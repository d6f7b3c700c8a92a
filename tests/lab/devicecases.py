"""Generated device claims: what drivers publish, who holds it, and a pod that wants some, as manifests for a real control plane.

Every case has drivers of its own and a slot of three nodes, so that cases of other slots do not touch it. A case says nothing about
the answer: that is the scheduler's. Longer than most modules: it is a list, one short generator for each theme.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.lab.api import Object

NAMESPACE = "devices"
SLOT_LABEL = "lab.smokejumper.dev/slot"
RACK_LABEL = "lab.smokejumper.dev/rack"
NODES_PER_SLOT = 3
API = "resource.k8s.io/v1"
ROOT = "resource.kubernetes.io/pcieRoot"
THEMES = (
    "plain",
    "selector",
    "error",
    "taint",
    "held",
    "counters",
    "shares",
    "constraint",
    "count",
    "pool",
    "node",
    "class",
    "absent",
    "first",
    "all",
    "admin",
    "two-claims",
    "mixed",
    "rule",
    "binding",
    "distinct",
)


@dataclass
class Case:
    """The objects of one case. `holders` are claims that are allocated before the pod comes, with their status."""

    name: str
    theme: str
    slot: int
    classes: list[Object] = field(default_factory=list)
    slices: list[Object] = field(default_factory=list)
    holders: list[Object] = field(default_factory=list)
    rules: list[Object] = field(default_factory=list)
    claims: dict[str, Object] = field(default_factory=dict)
    templated: bool = False
    # Whether a device that has to be attached first cannot be, once.
    fails_to_bind: bool = False
    node_selector: dict[str, str] = field(default_factory=dict)
    # A device that every selector of the case's generator accepts.
    ideal: Object = field(default_factory=dict)

    def claim_name(self, claim: str, attempt: int) -> str:
        return f"{self.name}-{claim}-{attempt}"

    def claim_objects(self, attempt: int) -> list[Object]:
        """The claims, or their templates, of one attempt: specs cannot be changed, so each attempt has its own."""
        kind = "ResourceClaimTemplate" if self.templated else "ResourceClaim"
        return [
            {
                "apiVersion": API,
                "kind": kind,
                "metadata": {"name": self.claim_name(name, attempt), "namespace": NAMESPACE},
                "spec": {"spec": spec} if self.templated else spec,
            }
            for name, spec in self.claims.items()
        ]

    def pod(self, attempt: int) -> Object:
        source = "resourceClaimTemplateName" if self.templated else "resourceClaimName"
        uses = [{"name": name, source: self.claim_name(name, attempt)} for name in self.claims]
        container = {
            "name": "main",
            "image": "registry.example.com/train:1",
            "resources": {"claims": [{"name": name} for name in self.claims]},
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{self.name}-{attempt}", "namespace": NAMESPACE},
            "spec": {
                "containers": [container],
                "resourceClaims": uses,
                "nodeSelector": {SLOT_LABEL: f"slot-{self.slot}", **self.node_selector},
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
            },
        }


def node_name(slot: int, place: int) -> str:
    return f"slot-{slot}-{place}"


def nodes(slots: int) -> list[Object]:
    """The nodes of some slots, for played kubelets."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": node_name(slot, place),
                "labels": {
                    "kubernetes.io/hostname": node_name(slot, place),
                    "lab.smokejumper.dev/kubelet": "played",
                    "lab.smokejumper.dev/machine": "cpu",
                    SLOT_LABEL: f"slot-{slot}",
                    RACK_LABEL: f"rack-{place % 2}",
                },
            },
        }
        for slot in range(slots)
        for place in range(NODES_PER_SLOT)
    ]


def generate(seed: int, number: int, slot: int) -> Case:
    """The case of that number, on the nodes of that slot: the same for the same seed."""
    return _Generator(random.Random(f"{seed}/{number}"), number, THEMES[number % len(THEMES)], slot).case()


class _Generator:
    def __init__(self, chance: random.Random, number: int, theme: str, slot: int) -> None:
        self.chance, self.theme, self.slot = chance, theme, slot
        self.made = Case(f"c{number}", theme, slot)
        self.driver = f"c{number}.example.com"
        self.published: list[tuple[str, str, Object]] = []

    def often(self, probability: float) -> bool:
        return self.chance.random() < probability

    def about(self, theme: str, otherwise: float = 0.08) -> bool:
        """Whether something happens that belongs to a theme."""
        return self.often(0.75 if self.theme == theme else 0.3 if self.theme == "mixed" else otherwise)

    def case(self) -> Case:
        self.made.ideal = {
            "name": "ideal",
            "attributes": {
                "model": {"string": "H100"},
                "index": {"int": 7},
                "numa": {"int": 0},
                "ecc": {"bool": True},
                "driverVersion": {"version": "580.1.0"},
                ROOT: {"string": "pci0"},
            },
            "capacity": {"memory": {"value": "80Gi"}},
        }
        self._classes()
        if self.theme == "counters":
            self._partitions()
        elif self.theme == "shares":
            self._shared_devices()
        else:
            self._pools()
        self._hold()
        if self.theme == "rule":
            self._rules()
        self.made.templated = self.often(0.3)
        self.made.fails_to_bind = self.theme == "binding" and self.often(0.3)
        for name in ("gpu", "more")[: 2 if self.theme == "two-claims" or (self.theme == "mixed" and self.often(0.3)) else 1]:
            self.made.claims[name] = {"devices": self._claim()}
        if self.about("node"):
            self.made.node_selector = self.chance.choice([{RACK_LABEL: "rack-1"}, {RACK_LABEL: "rack-0"}, {RACK_LABEL: "rack-9"}])
        return self.made

    # -- what is published

    def _classes(self) -> None:
        selectors = [f'device.driver == "{self.driver}"']
        if self.about("error", 0.03) and self.often(0.4):
            selectors.append(f'device.attributes["{self.driver}"].ecc')
        elif self.often(0.15):
            selectors.append(f'device.attributes["{self.driver}"].model in ["A100", "H100"]')
        self.made.classes.append(self._class("gpu", selectors))
        self.made.classes.append(self._class("any", [f'device.driver == "{self.driver}"']))

    def _class(self, name: str, selectors: Sequence[str]) -> Object:
        return {
            "apiVersion": API,
            "kind": "DeviceClass",
            "metadata": {"name": f"{self.made.name}-{name}"},
            "spec": {"selectors": [{"cel": {"expression": text}} for text in selectors]},
        }

    def _device(self, name: str) -> Object:
        attributes: Object = {
            "model": {"string": self.chance.choice(["A100", "H100", "H100", "L4"])},
            "index": {"int": self.chance.randrange(8)},
            "numa": {"int": self.chance.randrange(2)},
            "driverVersion": {"version": self.chance.choice(["550.54.15", "570.0.0", "580.1.0", "580.1.0-rc.1"])},
            ROOT: {"string": f"pci{self.chance.randrange(2 if self.theme != 'constraint' else 4)}"},
        }
        if self.theme != "error" or self.often(0.6):
            attributes["ecc"] = {"bool": self.often(0.8)}
        if self.often(0.1):
            del attributes[ROOT]
        device: Object = {
            "name": name,
            "attributes": attributes,
            "capacity": {"memory": {"value": self.chance.choice(["24Gi", "40Gi", "80Gi"])}},
        }
        if self.theme == "binding" and self.often(0.7):
            device |= {
                "bindingConditions": ["Attached", "Warm"],
                "bindingFailureConditions": ["AttachFailed"],
                "bindsToNode": self.often(0.5),
            }
        if self.about("taint"):
            effect = self.chance.choice(["NoSchedule", "NoSchedule", "NoExecute", "None"])
            device["taints"] = [{"key": f"{self.driver}/sick", "value": self.chance.choice(["79", "48"]), "effect": effect}]
        return device

    def _slice(self, name: str, pool: Object, where: Object, devices: list[Object], counters: list[Object] | None = None) -> None:
        spec: Object = {"driver": self.driver, "pool": pool, **where}
        spec |= {"sharedCounters": counters} if counters else {"devices": devices}
        self.made.slices.append(
            {"apiVersion": API, "kind": "ResourceSlice", "metadata": {"name": f"{self.made.name}-{name}"}, "spec": spec}
        )
        newest = pool["generation"] == 2
        self.published += [(self.driver, pool["name"], device) for device in devices if newest]

    def _pools(self) -> None:
        if self.theme == "absent" and self.often(0.6):
            return
        layout = self.chance.choice(["nodes", "nodes", "nodes", "network", "each"])
        if layout == "nodes":
            for place in range(self.chance.choice([1, 2, NODES_PER_SLOT])):
                self._node_pool(place)
        elif layout == "network":
            where = self.chance.choice([{SLOT_LABEL: f"slot-{self.slot}"}, {SLOT_LABEL: f"slot-{self.slot}", RACK_LABEL: "rack-0"}])
            terms = [{"matchExpressions": [{"key": key, "operator": "In", "values": [value]} for key, value in where.items()]}]
            self._published_pool("net", {"nodeSelector": {"nodeSelectorTerms": terms}})
        else:
            devices = [self._device(f"dev-{index}") for index in range(self.chance.randint(2, 5))]
            for device in devices:
                device["nodeName"] = node_name(self.slot, self.chance.randrange(NODES_PER_SLOT))
            self._slice("each", self._pool("each"), {"perDeviceNodeSelection": True}, devices)

    def _pool(self, name: str, count: int = 1, generation: int = 2) -> Object:
        return {"name": f"{self.made.name}-{name}", "generation": generation, "resourceSliceCount": count}

    def _node_pool(self, place: int) -> None:
        self._published_pool(f"n{place}", {"nodeName": node_name(self.slot, place)})

    def _published_pool(self, name: str, where: Object) -> None:
        slices = self.chance.choice([1, 1, 2])
        wanted = slices + (1 if self.about("pool", 0.04) else 0)
        for part in range(slices):
            devices = [self._device(f"dev-{part}-{index}") for index in range(self.chance.randint(1, 4))]
            self._slice(f"{name}-{part}", self._pool(name, wanted), where, devices)
        if self.about("pool", 0.05):
            old = [{**self.made.ideal, "name": f"old-{index}"} for index in range(3)]
            self._slice(f"{name}-old", self._pool(name, 1, generation=1), where, old)

    def _partitions(self) -> None:
        for place in range(self.chance.choice([1, 2])):
            cards = self.chance.choice([1, 2])
            pool, where = self._pool(f"n{place}", 2), {"nodeName": node_name(self.slot, place)}
            sets = [{"name": f"card-{card}", "counters": {"memory": {"value": "80Gi"}, "slices": {"value": "7"}}} for card in range(cards)]
            self._slice(f"n{place}-counters", pool, where, [], sets)
            devices = []
            for card in range(cards):
                for size, parts, memory, slices in (("whole", 1, "80Gi", "7"), ("half", 2, "40Gi", "3"), ("small", 4, "20Gi", "2")):
                    for part in range(parts):
                        device = self._device(f"{size}-{card}-{part}")
                        device["attributes"]["profile"] = {"string": size}
                        device["capacity"] = {"memory": {"value": memory}}
                        counters = {"memory": {"value": memory}, "slices": {"value": slices}}
                        device["consumesCounters"] = [{"counterSet": f"card-{card}", "counters": counters}]
                        devices.append(device)
            self._slice(f"n{place}-devices", pool, where, devices)

    def _shared_devices(self) -> None:
        for place in range(self.chance.choice([1, 2])):
            devices = []
            for index in range(self.chance.choice([1, 2])):
                device = self._device(f"nic-{index}")
                device["allowMultipleAllocations"] = True
                policy = self.chance.choice(
                    [
                        {"default": "10Gi", "validRange": {"min": "10Gi", "step": "10Gi", "max": "40Gi"}},
                        {"default": "20Gi", "validValues": ["20Gi", "40Gi"]},
                        None,
                    ]
                )
                device["capacity"] = {"memory": {"value": "40Gi", **({"requestPolicy": policy} if policy else {})}}
                devices.append(device)
            self._slice(f"n{place}", self._pool(f"n{place}"), {"nodeName": node_name(self.slot, place)}, devices)

    def _rules(self) -> None:
        """Taints by rule: of all devices of the driver, of a pool, of a device, of nothing."""
        for index in range(self.chance.choice([1, 1, 2])):
            _, pool, device = self.chance.choice(self.published)
            chosen = self.chance.choice([{"pool": pool}, {"pool": pool, "device": device["name"]}, {"device": device["name"]}, {}])
            effect = self.chance.choice(["NoSchedule", "NoSchedule", "NoExecute", "None"])
            taint = {"key": f"{self.driver}/{self.chance.choice(['sick', 'repair'])}", "value": "79", "effect": effect}
            self.made.rules.append(
                {
                    "apiVersion": API,
                    "kind": "DeviceTaintRule",
                    "metadata": {"name": f"{self.made.name}-rule-{index}"},
                    "spec": {"deviceSelector": {"driver": self.driver, **chosen}, "taint": taint},
                }
            )

    # -- who holds what

    def _hold(self) -> None:
        if self.theme not in ("held", "counters", "shares") and not (self.theme == "mixed" or self.often(0.15)):
            return
        shares = self.theme == "shares"
        share = 0.7 if self.theme == "held" else 0.35
        used: dict[tuple[str, str], float] = {}
        for index, (driver, pool, device) in enumerate(self.published):
            if not self.often(share) or not self._still_uncut(pool, device, used):
                continue
            result: Object = {"request": "gpu", "driver": driver, "pool": pool, "device": device["name"]}
            if shares:
                result |= {
                    "shareID": f"00000000-0000-4000-8000-{index:012d}",
                    "consumedCapacity": {"memory": self.chance.choice(["10Gi", "20Gi", "40Gi"])},
                }
            self.made.holders.append(self._holder(index, result))

    def _still_uncut(self, pool: str, device: Object, used: dict[tuple[str, str], float]) -> bool:
        """Whether a partition can be held beside those that are held already."""
        for entry in device.get("consumesCounters", ()):
            key = (pool, entry["counterSet"])
            amount = float(entry["counters"]["memory"]["value"].removesuffix("Gi"))
            if used.get(key, 0.0) + amount > 80:
                return False
            used[key] = used.get(key, 0.0) + amount
        return True

    def _holder(self, index: int, result: Object) -> Object:
        spec = {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": f"{self.made.name}-any"}}]}}
        return {
            "apiVersion": API,
            "kind": "ResourceClaim",
            "metadata": {"name": f"{self.made.name}-holder-{index}", "namespace": NAMESPACE},
            "spec": spec,
            "status": {"allocation": {"devices": {"results": [result]}}},
        }

    # -- what is wanted

    def _claim(self) -> Object:
        count = 2 if self.theme == "constraint" or self.often(0.2) else 1
        requests = [self._request(("first", "second")[place]) for place in range(count)]
        devices: Object = {"requests": requests}
        constraints: list[Object] = []
        if self.theme == "distinct":
            attribute = self.chance.choice([ROOT, f"{self.driver}/numa", f"{self.driver}/model"])
            constraints.append({"distinctAttribute": attribute})
        if self.about("constraint"):
            names = [item["name"] for item in requests] if self.often(0.5) else []
            attribute = self.chance.choice([ROOT, ROOT, f"{self.driver}/numa", f"{self.driver}/model"])
            word = self.chance.choice(["matchAttribute", "matchAttribute", "distinctAttribute"])
            constraints.append({word: attribute, **({"requests": names} if names else {})})
        return {**devices, "constraints": constraints} if constraints else devices

    def _request(self, name: str) -> Object:
        if self.about("first", 0.05):
            return {
                "name": name,
                "firstAvailable": [{"name": f"way-{place}", **self._exactly(sub=True)} for place in range(self.chance.choice([2, 3]))],
            }
        return {"name": name, "exactly": self._exactly()}

    def _exactly(self, *, sub: bool = False) -> Object:
        exactly: Object = {"deviceClassName": f"{self.made.name}-gpu"}
        if self.about("class", 0.02):
            exactly["deviceClassName"] = f"{self.made.name}-{self.chance.choice(['gpus', 'gpu', 'any'])}"
        if self.about("all", 0.04):
            exactly["allocationMode"] = "All"
        else:
            exactly["count"] = self.chance.choice(
                [2, 3, 4, 6] if self.about("count", 0.1) else [2, 2, 3] if self.theme == "distinct" else [1, 1, 1, 2]
            )
        several = [1, 2, 2, 3] if self.theme in ("selector", "error") else [0, 0, 1, 1, 2]
        selectors = [self._selector() for _ in range(self.chance.choice(several))]
        if self.theme == "counters":
            selectors = [f'device.attributes["{self.driver}"].profile == "{self.chance.choice(["whole", "half", "small"])}"']
        if selectors:
            exactly["selectors"] = [{"cel": {"expression": text}} for text in dict.fromkeys(selectors)]
        if self.often(0.3 if self.theme in ("taint", "rule") else 0.05):
            exactly["tolerations"] = [
                self.chance.choice(
                    [
                        {"key": f"{self.driver}/sick", "operator": "Exists"},
                        {"key": f"{self.driver}/sick", "operator": "Equal", "value": "79", "effect": "NoSchedule"},
                    ]
                )
            ]
        if self.theme == "shares" and self.often(0.8):
            exactly["capacity"] = {"requests": {"memory": self.chance.choice(["5Gi", "10Gi", "15Gi", "20Gi", "40Gi", "60Gi"])}}
        elif self.often(0.03):
            exactly["capacity"] = {"requests": {self.chance.choice(["memory", "bandwidth"]): "40Gi"}}
        if not sub and self.about("admin", 0.02):
            exactly["adminAccess"] = True
        return exactly

    def _selector(self) -> str:
        own = f'device.attributes["{self.driver}"]'
        memory = f'device.capacity["{self.driver}"].memory'
        risky = [f"{own}.ecc == true", f"{own}.index > 2", f"{own}.numa == 0 || {own}.ecc"]
        if self.theme == "error" and self.often(0.6):
            return self.chance.choice(risky)
        return self.chance.choice(
            [
                f'{own}.model == "{self.chance.choice(["H100", "A100", "B200"])}"',
                f'{own}.model in ["H100", "H200"]',
                f'{own}.model.lowerAscii().startsWith("{self.chance.choice(["h", "a", "b"])}")',
                f'{own}.model.matches("^[AH]100$") || {own}.numa == 1',
                f'{memory}.compareTo(quantity("{self.chance.choice(["40Gi", "80Gi", "96Gi"])}")) >= 0',
                f'{memory}.isGreaterThan(quantity("30Gi")) && {own}.numa == {self.chance.randrange(2)}',
                f'{own}.driverVersion.isGreaterThan(semver("{self.chance.choice(["560.0.0", "580.1.0-rc.0", "590.0.0"])}"))',
                f'{own}.driverVersion.compareTo(semver("570.0.0")) >= 0 ? {own}.numa == 0 : {own}.numa == 1',
                f'{own}.exists(name, name == "ecc") && {own}.numa < 2',
                f'"ecc" in {own} && {own}.ecc',
                f"has({own}.ecc) && {own}.ecc",
                f'[0, 1, 2].exists(one, one == {own}.numa) && !({own}.model == "L4")',
                *(risky if self.theme == "mixed" else []),
            ]
        )
