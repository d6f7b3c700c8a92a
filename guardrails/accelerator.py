"""Which resources stand for accelerators, and how many an object holds."""

from __future__ import annotations

from typing import Any

# Extended resources that stand for an accelerator, by vendor's device plugin.
_ACCELERATORS = ("nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/", "habana.ai/gaudi", "google.com/tpu", "aws.amazon.com/neuron")
_MIG = "nvidia.com/mig-"


def accelerators(resources: dict[str, Any]) -> int:
    """How many accelerators a list of resources holds. A MIG slice counts as one: it is held as exclusively."""
    total = 0
    for name, amount in resources.items():
        if (name.startswith(_ACCELERATORS) or name.startswith(_MIG)) and str(amount).isdigit():
            total += int(amount)
    return total


def pod_accelerators(pod: dict[str, Any]) -> int:
    """How many accelerators the containers of a pod, or of a pod template, hold by their limits."""
    containers = pod.get("spec", {}).get("containers") or ()
    return sum(accelerators((container.get("resources") or {}).get("limits") or {}) for container in containers)
