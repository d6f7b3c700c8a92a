"""The vendors of accelerators: which resources, DRA drivers and labels of a cluster stand for their devices. A row is a vendor.

What a vendor's faults look like is the detectors' knowledge (`runbooks`); what its devices are called is here, for policies as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple


class Vendor(NamedTuple):
    """One vendor. `resources` are extended resources, by exact name or by a prefix that ends in `-`, `_` or `/`; `parts` are those that
    hand out pieces of devices that another resource counts already. `models` are node labels that name the product, best first;
    `device` is what people call one.
    """

    name: str
    resources: tuple[str, ...]
    drivers: tuple[str, ...]
    models: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    device: str = "GPU"


# Sources: NVIDIA k8s-device-plugin and gpu-feature-discovery README; ROCm k8s-device-plugin and its node labeller; Intel device plugins
# for Kubernetes (gpu plugin, whose *_monitoring resources are no devices); Habana device plugin; GKE labels for TPUs; AWS Neuron device
# plugin (neuroncore counts the cores of the same devices). DRA drivers: the vendors' resource drivers and their DeviceClasses.
VENDORS: tuple[Vendor, ...] = (
    Vendor(
        "NVIDIA",
        ("nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-"),
        ("gpu.nvidia.com",),
        ("nvidia.com/gpu.product", "cloud.google.com/gke-accelerator"),
    ),
    Vendor(
        "AMD",
        ("amd.com/gpu", "amd.com/cpx_", "amd.com/dpx_", "amd.com/qpx_", "amd.com/spx_"),
        ("gpu.amd.com",),
        ("amd.com/gpu.product-name",),
    ),
    Vendor("Intel", ("gpu.intel.com/i915", "gpu.intel.com/xe"), ("gpu.intel.com",), ("gpu.intel.com/product",)),
    Vendor("Intel Gaudi", ("habana.ai/gaudi",), ("gaudi.intel.com",), device="Gaudi"),
    Vendor("Google TPU", ("google.com/tpu",), ("tpu.google.com",), ("cloud.google.com/gke-tpu-accelerator",), device="TPU chip"),
    Vendor(
        "AWS Neuron",
        ("aws.amazon.com/neuron", "aws.amazon.com/neurondevice", "aws.amazon.com/neuroncore"),
        ("neuron.aws.com",),
        ("node.kubernetes.io/instance-type",),
        ("aws.amazon.com/neuroncore",),
        "Neuron device",
    ),
)
_PREFIX_ENDS = ("-", "_", "/")
_BY_RESOURCE = {name: vendor for vendor in VENDORS for name in vendor.resources if not name.endswith(_PREFIX_ENDS)}
_BY_PREFIX = tuple((name, vendor) for vendor in VENDORS for name in vendor.resources if name.endswith(_PREFIX_ENDS))
_BY_DRIVER = {driver: vendor for vendor in VENDORS for driver in vendor.drivers}


def vendor_of(resource: str) -> Vendor | None:
    """Whose accelerator an extended resource stands for; None for every other resource."""
    if "/" not in resource:
        return None
    found = _BY_RESOURCE.get(resource)
    return found or next((vendor for prefix, vendor in _BY_PREFIX if resource.startswith(prefix)), None)


def vendors_by_resource(resources: Iterable[str]) -> dict[str, Vendor]:
    """Those of the resources that stand for accelerators, in their order, and whose they are."""
    return {name: vendor for name in resources if (vendor := vendor_of(name)) is not None}


def vendor_of_driver(driver: str) -> Vendor | None:
    """Whose accelerators a DRA driver hands out; None for network cards and the like."""
    return _BY_DRIVER.get(driver)


def accelerators(resources: dict[str, Any]) -> int:
    """How many accelerators a list of resources holds. A slice of one counts as one: it is held as exclusively."""
    return sum(int(amount) for name, amount in resources.items() if str(amount).isdigit() and vendor_of(name) is not None)


def pod_accelerators(pod: dict[str, Any]) -> int:
    """How many accelerators the containers of a pod, or of a pod template, hold by their limits."""
    containers = pod.get("spec", {}).get("containers") or ()
    return sum(accelerators((container.get("resources") or {}).get("limits") or {}) for container in containers)
