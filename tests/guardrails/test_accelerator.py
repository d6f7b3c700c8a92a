"""Every vendor's devices are known by resource and driver, and nothing else passes for one."""

from __future__ import annotations

import pytest

from guardrails.accelerator import VENDORS, accelerators, pod_accelerators, vendor_of, vendor_of_driver, vendors_by_resource


@pytest.mark.parametrize(
    ("resource", "vendor"),
    [
        ("nvidia.com/gpu", "NVIDIA"),
        ("nvidia.com/gpu.shared", "NVIDIA"),
        ("nvidia.com/mig-3g.40gb", "NVIDIA"),
        ("amd.com/gpu", "AMD"),
        ("amd.com/cpx_nps4", "AMD"),
        ("gpu.intel.com/i915", "Intel"),
        ("gpu.intel.com/xe", "Intel"),
        ("habana.ai/gaudi", "Intel Gaudi"),
        ("google.com/tpu", "Google TPU"),
        ("aws.amazon.com/neuroncore", "AWS Neuron"),
    ],
)
def test_a_resource_names_its_vendor(resource: str, vendor: str) -> None:
    found = vendor_of(resource)
    assert found is not None
    assert found.name == vendor


@pytest.mark.parametrize(
    "resource",
    [
        "cpu",
        "hugepages-2Mi",
        "nvidia.com/gpumem",
        "nvidia.com/gpucores",
        "gpu.intel.com/i915_monitoring",
        "rdma/hca",
        "amd.com/",
        "vpc.amazonaws.com/efa",
    ],
)
def test_what_is_no_device_has_no_vendor(resource: str) -> None:
    assert vendor_of(resource) is None


def test_the_accelerators_among_resources_keep_their_order() -> None:
    found = vendors_by_resource({"nvidia.com/mig-1g.5gb": "2", "cpu": "8", "nvidia.com/gpu": "0", "amd.com/gpu": "1"})
    assert [(name, vendor.name) for name, vendor in found.items()] == [
        ("nvidia.com/mig-1g.5gb", "NVIDIA"),
        ("nvidia.com/gpu", "NVIDIA"),
        ("amd.com/gpu", "AMD"),
    ]


def test_a_driver_names_its_vendor() -> None:
    assert [vendor_of_driver(driver) for vendor in VENDORS for driver in vendor.drivers] == [
        vendor for vendor in VENDORS for _ in vendor.drivers
    ]
    assert vendor_of_driver("dra.net") is None
    assert vendor_of_driver("compute-domain.nvidia.com") is None


def test_devices_are_counted_whoever_made_them() -> None:
    assert accelerators({"cpu": "8", "nvidia.com/gpu": "2", "nvidia.com/mig-1g.5gb": 3, "habana.ai/gaudi": "8"}) == 13
    limits = [{"resources": {"limits": {"nvidia.com/gpu": 1}}}, {}, {"resources": {"limits": {"google.com/tpu": "4"}}}]
    assert pod_accelerators({"spec": {"containers": limits}}) == 5
