"""Actions on nodes for real: taints, cordons, MIG profiles and drains, also those that were interrupted, killed or stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from tests.lab.api import wait_for
from tests.oncall.actions.bench import NODE_LABEL, ROOT, WAIT_SECONDS, Bench


def test_taints_cordons_and_a_mig_profile(bench: Bench, nodes: tuple[str, str]) -> None:
    node = nodes[0]
    before = bench.get("v1", "Node", node, cluster_wide=True)["spec"]["taints"]
    bench.do("taint", f"node/{node}", "key=example.com/suspect", "value=gpu")
    assert len(bench.get("v1", "Node", node, cluster_wide=True)["spec"]["taints"]) == len(before) + 1
    bench.do("untaint", f"node/{node}", "key=example.com/suspect")
    assert bench.get("v1", "Node", node, cluster_wide=True)["spec"]["taints"] == before
    assert "managed by the node controllers" in bench.refused("taint", f"node/{node}", "key=node.kubernetes.io/unreachable")
    assert "Cordon it first" in bench.refused("set_mig_profile", f"node/{node}", "profile=all-1g.10gb")
    bench.do("cordon", f"node/{node}")

    def mig_manager() -> None:
        bench.client.patch("v1", "Node", node, {"metadata": {"labels": {"nvidia.com/mig.config.state": "success"}}})

    with bench.played(mig_manager):
        bench.do("set_mig_profile", f"node/{node}", "profile=all-1g.10gb")
        assert bench.get("v1", "Node", node, cluster_wide=True)["metadata"]["labels"]["nvidia.com/mig.config"] == "all-1g.10gb"
        bench.do("set_mig_profile", f"node/{node}", "profile=all-disabled")
    bench.do("uncordon", f"node/{node}")
    assert bench.writes() == [("patch", "nodes", node, 200)] * 6


def test_an_interrupted_verification_is_taken_up_and_nothing_is_sent_again(bench: Bench, nodes: tuple[str, str]) -> None:
    node = nodes[0]
    bench.do("cordon", f"node/{node}")
    proposal, digest = bench.propose("set_mig_profile", f"node/{node}", "profile=all-1g.10gb")
    command = [sys.executable, "-c", "from oncall.cli import main; main()", "--state", str(bench.state)]
    words = ["--kubeconfig", str(bench.lab.kubeconfig("executor")), "execute", proposal]
    with subprocess.Popen([*command, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        # Nobody plays the MIG manager, so the verification goes on until it is interrupted.
        wait_for("the verification", lambda: bench.state_of(proposal) == "verifying", WAIT_SECONDS)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 130, err
    assert f"The execution of {proposal} was interrupted" in err
    # A clock that is behind: however slow this machine is, the lease is not over.
    refused = bench.elsewhere("execute", proposal, digest, "--seconds-later", "-600")
    assert "its change is made, and whether it worked is being verified" in refused.stderr, refused.stdout + refused.stderr
    assert f"'smokejumper execute {proposal}'" in refused.stderr

    def mig_manager() -> None:
        bench.client.patch("v1", "Node", node, {"metadata": {"labels": {"nvidia.com/mig.config.state": "success"}}})

    with bench.played(mig_manager):
        done = bench.elsewhere("execute", proposal, digest, "--seconds-later", "90")
    assert done.stdout.split() == ["succeeded"], done.stdout + done.stderr
    assert bench.writes() == [("patch", "nodes", node, 200)] * 2


def _settled(bench: Bench, nodes: tuple[str, str], replicas: int = 3) -> list[str]:
    """Pods on the first node, and a second one that is open to them."""
    bench.client.patch("v1", "Node", nodes[1], {"spec": {"unschedulable": True}})
    toleration = {"key": NODE_LABEL, "operator": "Exists"}
    bench.deployment(replicas=replicas, nodeSelector={NODE_LABEL: bench.space}, tolerations=[toleration])
    bench.apply("policy/v1", "PodDisruptionBudget", "web", spec={"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}})
    wait_for(
        "the budget",
        lambda: bench.get("policy/v1", "PodDisruptionBudget", "web").get("status", {}).get("disruptionsAllowed") == 1,
        WAIT_SECONDS,
    )
    bench.client.patch("v1", "Node", nodes[1], {"spec": {"unschedulable": None}})
    return sorted(p["metadata"]["name"] for p in bench.pods())


def test_a_drain_waits_for_the_budget_and_moves_each_pod_once(bench: Bench, nodes: tuple[str, str]) -> None:
    names = _settled(bench, nodes)
    bench.do("drain", f"node/{nodes[0]}")
    # The drain ends when the node is empty; the last pod's replacement may not be placed yet.
    wait_for("the pods on the other node", lambda: [p["spec"].get("nodeName") for p in bench.pods()] == [nodes[1]] * 3, WAIT_SECONDS)
    cordon, *evictions = bench.writes()
    assert cordon == ("patch", "nodes", nodes[0], 200)
    assert sorted(name for _, kind, name, code in evictions if code == 201 and kind == "pods/eviction") == names
    assert {code for *_, code in evictions} <= {201, 429}
    bench.do("uncordon", f"node/{nodes[0]}")


@pytest.mark.parametrize("step", ["change:sent", "change:recorded"])
def test_a_drain_that_was_killed_goes_on_and_moves_each_pod_once(bench: Bench, nodes: tuple[str, str], step: str) -> None:
    names = _settled(bench, nodes, replicas=2)
    proposal, digest = bench.propose("drain", f"node/{nodes[0]}")

    assert bench.elsewhere("execute", proposal, digest, "--die-at", step).returncode == -9
    recovered = bench.elsewhere("recover", "--seconds-later", "90")
    assert recovered.stdout.split() == [proposal, "succeeded"], recovered.stdout + recovered.stderr
    done = [(kind, name) for _, kind, name, code in bench.writes() if code in (200, 201)]
    assert done == [("nodes", nodes[0]), *(("pods/eviction", name) for name in names)]


def test_the_kill_switch_stops_a_drain_and_what_was_done_stays(bench: Bench, nodes: tuple[str, str]) -> None:
    _settled(bench, nodes)
    bench.apply("policy/v1", "PodDisruptionBudget", "web", spec={"maxUnavailable": 0, "selector": {"matchLabels": {"app": "web"}}})
    wait_for(
        "the budget",
        lambda: bench.get("policy/v1", "PodDisruptionBudget", "web").get("status", {}).get("disruptionsAllowed") == 0,
        WAIT_SECONDS,
    )
    proposal, _ = bench.propose("drain", f"node/{nodes[0]}", "wait_seconds=600")
    started = threading.Event()

    def stop() -> None:
        if not started.is_set() and bench.get("v1", "Node", nodes[0], cluster_wide=True)["spec"].get("unschedulable"):
            started.set()
            code = "import sys; from oncall.cli import run; sys.exit(run(sys.argv[1:]))"
            words = ["--state", str(bench.state), "kill-switch", "on", "--reason", "test"]
            subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, check=True, capture_output=True)

    with bench.played(stop):
        code, out, err = bench.say("execute", proposal)
    assert code == 1, out + err
    assert "Stopped after 1 of 4 requests" in out
    assert bench.get("v1", "Node", nodes[0], cluster_wide=True)["spec"]["unschedulable"] is True
    assert {code for _, kind, _, code in bench.writes() if kind == "pods/eviction"} <= {429}
    assert "deny-kill-switch" in bench.refused("uncordon", f"node/{nodes[0]}")
    assert bench.say("kill-switch", "off", "--reason", "over", token=bench.tokens[0])[0] == 0
    bench.do("uncordon", f"node/{nodes[0]}")
