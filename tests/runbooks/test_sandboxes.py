from __future__ import annotations

from runbooks.detectors.sandboxes import failed_sandboxes
from tests.runbooks.specimens import event, pod, waiting
from tests.runbooks.worlds import world

SANDBOX = "Failed to create pod sandbox: rpc error: failed to setup network for sandbox: plugin type=bridge failed"


def test_one_workload_s_sandbox_is_its_own_and_several_accuse_the_node() -> None:
    one = pod(state=waiting("ContainerCreating"), phase="Pending") + event("FailedCreatePodSandBox", SANDBOX)
    (finding,) = failed_sandboxes(world(one))
    assert (finding.code, finding.subject.kind) == ("sandbox.failed", "Deployment")
    other = pod("api-77777-abcde", state=waiting("ContainerCreating"), phase="Pending")
    both = world(one + other + event("FailedCreatePodSandBox", SANDBOX, about="api-77777-abcde"))
    assert {finding.subject.kind for finding in failed_sandboxes(both)} == {"Node"}


def test_no_address_left_is_the_node_s() -> None:
    text = "Failed to create pod sandbox: failed to allocate for range 0: no IP addresses available in range set: 10.0.0.1-10.0.0.254"
    (finding,) = failed_sandboxes(world(pod(state=waiting("ContainerCreating"), phase="Pending") + event("FailedCreatePodSandBox", text)))
    assert (finding.code, finding.subject.name) == ("sandbox.addresses-exhausted", "node-1")


def test_a_sandbox_that_came_up_at_last_is_history() -> None:
    made = world(pod(state=waiting("ImagePullBackOff"), phase="Pending") + event("FailedCreatePodSandBox", SANDBOX) + event("Started", "x"))
    assert not list(failed_sandboxes(made))
