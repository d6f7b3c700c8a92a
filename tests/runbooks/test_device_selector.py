"""The CEL of device selectors: what Kubernetes' selectors use, what is not known here, and what must not hang."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from cluster.facts.dra import Device
from runbooks.device_selector import Answer, Selection, attributes_named, selects

DEVICE = msgspec.convert(
    {
        "name": "gpu-0",
        "attributes": {
            "productName": {"string": "NVIDIA A100"},
            "driverVersion": {"version": "550.1.2"},
            "ecc": {"bool": True},
            "index": {"int": 3},
            "resource.kubernetes.io/pcieRoot": {"string": "pci0"},
        },
        "capacity": {"memory": {"value": "80Gi"}},
    },
    Device,
)
OWN = 'device.attributes["d.example.com"]'


TEN = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ('device.driver == "d.example.com"', Answer.YES),
        ('device.driver == "other"', Answer.NO),
        (f'{OWN}.productName.lowerAscii().matches("a100$")', Answer.YES),
        (f'{OWN}.productName.contains("H100") || {OWN}.index > 2', Answer.YES),
        (f'{OWN}.productName.split(" ")[1] == "A100"', Answer.YES),
        (f"!{OWN}.ecc", Answer.NO),
        (f"{OWN}.index > 2 ? {OWN}.ecc : false", Answer.YES),
        (f"{OWN}.index == 3.0 && {OWN}.index - 1 > 1", Answer.YES),
        (f"{OWN}.productName == 3", Answer.NO),
        ('device.capacity["d.example.com"].memory.compareTo(quantity("96Gi")) >= 0', Answer.NO),
        ('device.capacity["d.example.com"].memory.isGreaterThan(quantity("40Gi"))', Answer.YES),
        ('device.capacity["d.example.com"].memory == quantity("80Gi")', Answer.YES),
        (f'{OWN}.driverVersion.compareTo(semver("560.0.0")) >= 0', Answer.NO),
        (f'{OWN}.driverVersion.isLessThan(semver("550.1.2")) || {OWN}.driverVersion.isGreaterThan(semver("550.1.2-rc.1"))', Answer.YES),
        ('device.attributes["resource.kubernetes.io"].pcieRoot in ["pci0", "pci1"]', Answer.YES),
        ('device.attributes.all(domain, domain != "x")', Answer.YES),
        (f'{OWN}.exists(name, name == "ecc") && size({OWN}) == 4', Answer.YES),
        ("[1, 2].map(one, one * 2) == [2, 4]", Answer.YES),
        ("device.allowMultipleAllocations", Answer.NO),
        # A domain that is not there is empty, a name that is not there aborts.
        (f'{OWN}.nothing == "x"', Answer.MISSING_KEY),
        ('device.attributes["other"].nothing == "x"', Answer.MISSING_KEY),
        ('"other" in device.attributes', Answer.NO),
        (f'has({OWN}.nothing) && {OWN}.nothing == "x"', Answer.NO),
        (f'"nothing" in {OWN} && {OWN}.nothing == "x"', Answer.NO),
        (f'{OWN}.nothing == "x" || device.driver == "d.example.com"', Answer.YES),
        (f'{OWN}.nothing == "x" && device.driver == "other"', Answer.NO),
        # Operations on the wrong type abort too.
        (f'{OWN}.index > "a"', Answer.FAILS),
        (f'{OWN}.productName.split(" ")[7] == "A100"', Answer.FAILS),
        ('quantity("1Gi").compareTo(quantity("x")) == 0', Answer.FAILS),
        # What is not known here.
        ("device.driver", Answer.UNKNOWN),
        ('cel.bind(x, device.driver, x == "y")', Answer.UNKNOWN),
        ('device.attributes[?"a"].x', Answer.UNKNOWN),
        ("unheard == 1", Answer.UNKNOWN),
        ("unheard(1)", Answer.UNKNOWN),
        ('device.driver.unheard() == "x"', Answer.UNKNOWN),
        ("[1, 2].reduce(r, i, 0, r + i) == 3", Answer.UNKNOWN),
        ("((", Answer.UNKNOWN),
        # What must not hang: patterns, strings that do not end, nesting, length, growth.
        (f'{OWN}.productName.matches("(a+)+$")', Answer.NO),
        (f'{OWN}.productName.matches("A100|H100")', Answer.YES),
        ('"' + "\\n" * 60, Answer.UNKNOWN),
        ("(" * 3_000 + "true" + ")" * 3_000, Answer.UNKNOWN),
        ("x" * 20_000, Answer.UNKNOWN),
        (f"{TEN}.all(a, {TEN}.all(b, {TEN}.all(c, {TEN}.all(d, a + b + c + d > 0))))", Answer.UNKNOWN),
        (f'"{"a" * 5_000}".replace("a", "{"b" * 4_000}").size() > 1', Answer.UNKNOWN),
    ],
)
def test_selects(expression: str, answer: Answer) -> None:
    assert selects(expression, DEVICE, "d.example.com") is answer


@pytest.mark.parametrize(
    ("expression", "same"),
    [
        (f"{OWN}.index == 3", True),
        (f'has({OWN}.index) && "ecc" in {OWN}', True),
        (f'{OWN}.productName == "NVIDIA A100"', False),
        (f'{OWN}.all(name, {OWN}[name] != "other")', False),
        (f"size({OWN}) == 4", False),
    ],
)
def test_devices_that_differ_in_what_is_not_asked_are_alike(expression: str, same: bool) -> None:
    other = msgspec.structs.replace(
        DEVICE,
        attributes={
            **(DEVICE.attributes or {}),
            "productName": msgspec.convert({"string": "other"}, type((DEVICE.attributes or {})["productName"])),
        },
    )
    selection = Selection()
    selection.answer(expression, DEVICE, "d.example.com")
    selection.answer(expression, other, "d.example.com")
    assert selection.evaluations == (1 if same else 2)


def test_attributes_named() -> None:
    assert attributes_named(f'{OWN}.productName == "x" && device.capacity["d"].memory.isLessThan(quantity("1Gi"))') == (
        "productName",
        "memory",
    )


def test_the_language_is_loaded_when_a_selector_is_evaluated_only() -> None:
    command = "import sys, oncall.cli, runbooks.detectors.registry; print('celpy' in sys.modules, 'lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=True, capture_output=True, text=True).stdout.split() == ["False", "False"]
