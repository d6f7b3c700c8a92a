from __future__ import annotations

from datetime import timedelta

from cluster.reading import Reading, Sample, Series
from cluster.telemetry import Alert, Dependency, NodeService, Reachability, Telemetry
from runbooks.detectors import processors, telemetry
from runbooks.finding import Finding
from tests.runbooks.manifests import manifest, pod, service
from tests.runbooks.worlds import NOW, codes, world

START = NOW - timedelta(minutes=30)
LIMITED = {"resources": {"limits": {"cpu": "1"}}}


def app(name: str, node: str = "node-1", calls: str | None = None) -> str:
    container = {**LIMITED, **({"env": [{"name": "NEXT_ADDR", "value": f"{calls}:80"}]} if calls else {})}
    return service(name, {"app": name}) + pod(f"{name}-1", {"app": name}, owner=("StatefulSet", name), node=node, container=container)


def series(name: str, values: list[float], **labels: str) -> Series:
    return Series({"__name__": name, **labels}, tuple(Sample(START + timedelta(minutes=at), value) for at, value in enumerate(values)))


def found(text: str, **parts: object) -> list[Finding]:
    made = world(text).with_telemetry(Reading(Telemetry(**parts)))  # type: ignore[arg-type]
    return [finding for detector in (*processors.DETECTORS, *telemetry.DETECTORS) for finding in detector(made)]


def subjects(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(finding.code, str(finding.subject)) for finding in findings}


FLAT, STEP = [0.02] * 12, [0.02] * 6 + [0.9] * 6


def test_a_node_service_that_is_stopped() -> None:
    for name, code in (
        ("kubelet", "node.kubelet-down"),
        ("kube-proxy", "node.kube-proxy-down"),
        ("containerd", "node.runtime-down"),
        ("kube-scheduler", "controlplane.scheduler-down"),
        ("kube-controller-manager", "controlplane.component-down"),
    ):
        assert subjects(found(app("a"), node_services=(NodeService("node-1", name, False, "inactive (dead)"),))) == {(code, "Node/node-1")}
    assert found(app("a"), node_services=(NodeService("node-1", "kubelet", True), NodeService("node-1", "kube-proxy", None))) == []


def test_throttled_periods_from_both_counters() -> None:
    periods = series("container_cpu_cfs_periods_total", [0, 100, 200, 300], pod="a-1")
    often = series("container_cpu_cfs_throttled_periods_total", [0, 60, 120, 180], pod="a-1")
    rarely = series("container_cpu_cfs_throttled_periods_total", [0, 2, 4, 6], pod="a-1")
    assert subjects(found(app("a"), series=(periods, often))) == {("cpu.throttled", "StatefulSet/shop/a")}
    assert found(app("a"), series=(periods, rarely)) == []
    # The container started again: both counters begin anew.
    again = series("container_cpu_cfs_periods_total", [1000, 1100, 0, 100], pod="a-1")
    assert codes(found(app("a"), series=(again, series("container_cpu_cfs_throttled_periods_total", [600, 660, 0, 60], pod="a-1")))) == {
        "cpu.throttled"
    }
    assert found(app("a"), series=(again, series("container_cpu_cfs_throttled_periods_total", [600, 602, 0, 2], pod="a-1"))) == []


def test_the_ratio_of_both_needs_no_rise() -> None:
    name = "container_cpu_cfs_throttled_periods_ratio"
    assert codes(found(app("a"), series=(series(name, [0.6] * 12, pod="a-1"),))) == {"cpu.throttled"}
    assert found(app("a"), series=(series(name, [0.1] * 12, pod="a-1"),)) == []
    assert found(app("a"), series=(series(name, [], pod="a-1"),)) == []


def test_what_node_exporter_says_is_about_the_node_whoever_measured_it() -> None:
    exporter = "\nkind: Pod\nmetadata: {name: node-exporter-x, namespace: monitoring}\nspec: {nodeName: node-1, containers: []}\n"
    rising = [0.001] * 6 + [0.05] * 6
    for labels in ({"instance": "10.9.9.9:9100"}, {"node": "node-1"}):
        lost = series("node_netstat_Tcp_RetransSegs_ratio", rising, namespace="monitoring", pod="node-exporter-x", **labels)
        assert subjects(found(f"{app('a')}---{exporter}", series=(lost,))) == {("network.packet-loss", "Node/node-1")}


def test_use_at_the_limit_after_a_rise() -> None:
    assert codes(found(app("a"), series=(series("pod_cpu_usage_cores", [0.2] * 6 + [0.98] * 6, pod="a-1"),))) == {"cpu.throttled"}
    assert found(app("a"), series=(series("pod_cpu_usage_cores", [0.97] * 12, pod="a-1"),)) == []
    assert found(app("a"), series=(series("pod_cpu_usage_cores", [0.1] * 6 + [0.3] * 6, pod="a-1"),)) == []


def test_an_alert_names_its_object_and_resolved_ones_do_not_count() -> None:
    firing = Alert("CPUThrottlingHigh", "a-1", "firing", START, (("namespace", "shop"),))
    assert subjects(found(app("a"), alerts=(firing,))) == {("cpu.throttled", "StatefulSet/shop/a")}
    assert found(app("a"), alerts=(Alert("CPUThrottlingHigh", "a-1", "resolved"),)) == []
    assert found(app("a"), alerts=(Alert("Watchdog", "a-1", "firing"), Alert("CPUThrottlingHigh", "unknown", "firing"))) == []


def test_slowness_is_blamed_on_the_deepest_callee() -> None:
    chain = app("web", "node-1", "cart") + app("cart", "node-2", "db") + app("db", "node-1")
    slow = tuple(series("request_latency_seconds_p95", STEP, service=name) for name in ("web", "cart"))
    findings = found(chain, series=slow)
    assert subjects(findings) == {("network.latency", "StatefulSet/shop/cart")}
    assert [ref.name for ref in findings[0].affects] == ["web"]
    assert findings[0].since is not None


def test_recorded_dependencies_count_as_calls() -> None:
    slow = tuple(series("latency_p99", STEP, subject=name) for name in ("a", "b"))
    findings = found(app("a") + app("b"), series=slow, dependencies=(Dependency("a", "b"),))
    assert subjects(findings) == {("network.latency", "StatefulSet/shop/b")}


def test_what_was_always_slow_is_no_change() -> None:
    assert found(app("a"), series=(series("latency_p99", [0.9] * 12, service="a"), series("latency_p95", FLAT, service="a"))) == []


def test_everything_on_one_node_is_the_node() -> None:
    text = "".join(app(name, "node-1") for name in ("a", "b", "c")) + app("d", "node-2")
    slow = tuple(series("latency_p99", STEP, service=name) for name in ("a", "b", "c"))
    assert subjects(found(text, series=slow)) == {("network.latency", "Node/node-1")}


def test_lost_packets_of_a_node() -> None:
    node = manifest("Node", "node-1", namespace=None)
    lossy = series("node_packet_loss_ratio", [0.0] * 6 + [0.2] * 6, node="node-1")
    assert subjects(found(node + app("a"), series=(lossy,))) == {("network.packet-loss", "Node/node-1")}
    assert found(node + app("a"), series=(series("node_packet_loss_ratio", [0.0] * 12, node="node-1"),)) == []


def test_memory_that_grows_in_a_line_and_memory_that_saws() -> None:
    growing = series("container_memory_working_set_bytes", [100.0 + 10 * at for at in range(20)], pod="a-1")
    sawing = series("container_memory_working_set_bytes", [100.0 + 50 * (at % 4) for at in range(20)], pod="a-1")
    assert codes(found(app("a"), series=(growing,))) == {"memory.leak"}
    assert found(app("a"), series=(sawing,)) == []


def test_a_budget_that_is_used_up() -> None:
    assert codes(found(app("a"), series=(series("process_open_fds_percent", [50, 60, 70, 80, 95, 97, 98, 99], pod="a-1"),))) == {
        "resource.exhausted"
    }
    assert found(app("a"), series=(series("process_open_fds_percent", [50] * 8, pod="a-1"),)) == []


def test_connection_tests_that_fail_or_take_long() -> None:
    assert subjects(found(app("a"), connectivity=(Reachability("", "shop/a", 80, False),))) == {("service.unreachable", "Service/shop/a")}
    assert codes(found(app("a"), connectivity=(Reachability("", "shop/a", 80, True, 2.5),))) == {"network.latency"}
    assert found(app("a"), connectivity=(Reachability("", "shop/a", 80, True, 0.004), Reachability("", "else", 80, False))) == []


def test_a_cpu_limit_that_leaves_nothing_to_run_on() -> None:
    def starved(limit: str, ready: bool = False) -> str:
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]}
        status["containerStatuses"] = [{"name": "main", "ready": ready, "restartCount": 7}]
        return pod("a", container={"resources": {"limits": {"cpu": limit}}}, status=status)

    assert codes(found(starved("10m"))) == {"cpu.limit-starves"}
    assert found(starved("500m")) == []
    assert found(starved("10m", ready=True)) == []
