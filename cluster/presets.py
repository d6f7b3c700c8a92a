"""What exporters call the things that detectors judge: for each measurement the PromQL, under the current and the earlier names.

Here are those of containers, nodes, networks and volumes; `servingpresets` has those of model servers, `devicepresets` those of GPUs. It
holds no thresholds; those belong to the detectors.
Sources: cAdvisor docs/storage/prometheus.md, node_exporter 1.x collectors, kubelet volume stats (K pkg/kubelet/metrics), Istio standard
metrics, OpenTelemetry HTTP semantic conventions.
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster.devicepresets import DEVICES
from cluster.promql import NARROW, POD, Form, Preset, share, slowest
from cluster.servingpresets import SERVING

_DEVICES = 'device!~"lo|veth.*|cali.*|cni.*|lxc.*|docker.*|br-.*",'
_DISKS = 'device!~"loop.*|ram.*|dm-.*",'

_PLATFORM: tuple[Preset, ...] = (
    Preset(
        "cpu-throttling",
        "share of scheduler periods in which containers were throttled",
        (
            share(
                "container_cpu_cfs_throttled_periods_total",
                "container_cpu_cfs_periods_total",
                "container_cpu_cfs_throttled_periods_ratio",
                'container!="",',
            ),
        ),
    ),
    Preset(
        "cpu-usage",
        "cores that pods use",
        (Form(f'sum by ({POD}) (rate(container_cpu_usage_seconds_total{{container!="",{NARROW}}}[5m]))', "container_cpu_usage_cores"),),
    ),
    Preset(
        "request-latency",
        "seconds that requests take, 95th percentile",
        (
            slowest(
                "istio_request_duration_milliseconds",
                "namespace, destination_workload",
                "istio_request_duration_seconds_p95",
                " / 1000",
                'reporter="destination",',
            ),
            slowest("http_server_request_duration_seconds", POD, "http_server_request_duration_seconds_p95"),
            slowest("http_server_duration_milliseconds", POD, "http_server_request_duration_seconds_p95", " / 1000"),
            slowest("http_request_duration_seconds", POD, "http_request_duration_seconds_p95"),
        ),
    ),
    Preset(
        "pod-network-drops",
        "share of packets to pods that are dropped",
        (
            share(
                "container_network_receive_packets_dropped_total",
                "container_network_receive_packets_total",
                "container_network_receive_packets_dropped_ratio",
            ),
        ),
    ),
    Preset(
        "node-network-drops",
        "share of packets to nodes that are dropped",
        (
            share(
                "node_network_receive_drop_total",
                "node_network_receive_packets_total",
                "node_network_receive_drop_ratio",
                _DEVICES,
            ),
        ),
        of="node",
    ),
    Preset(
        "node-retransmits",
        "share of TCP segments that nodes send again",
        (share("node_netstat_Tcp_RetransSegs", "node_netstat_Tcp_OutSegs", "node_netstat_Tcp_RetransSegs_ratio"),),
        of="node",
    ),
    Preset(
        "node-connections",
        "share of a node's connection table that is used",
        (
            Form(
                f"node_nf_conntrack_entries{{{NARROW}}} / node_nf_conntrack_entries_limit{{{NARROW}}}",
                "node_nf_conntrack_entries_ratio",
            ),
        ),
        of="node",
    ),
    Preset(
        "node-disk-busy",
        "share of the time in which a node's disk works",
        (Form(f"rate(node_disk_io_time_seconds_total{{{_DISKS}{NARROW}}}[5m])", "node_disk_io_time_ratio"),),
        of="node",
        swept=False,
    ),
    Preset(
        "node-file-server-seconds",
        "seconds that a file server takes for an operation of a node",
        (
            Form(
                f"sum by (instance, node, namespace, pod, export) "
                f"(rate(node_mountstats_nfs_operations_request_time_seconds_total{{{NARROW}}}[5m])) / "
                f"sum by (instance, node, namespace, pod, export) (rate(node_mountstats_nfs_operations_requests_total{{{NARROW}}}[5m]))",
                "node_mountstats_nfs_operation_seconds",
            ),
        ),
        of="node",
    ),
    Preset(
        "volume-used",
        "share of the space of volumes that is used",
        (
            Form(
                f"1 - kubelet_volume_stats_available_bytes{{{NARROW}}} / kubelet_volume_stats_capacity_bytes{{{NARROW}}}",
                "kubelet_volume_stats_used_ratio",
            ),
        ),
    ),
    Preset(
        "volume-files",
        "share of the files that volumes can hold",
        (
            Form(
                f"1 - kubelet_volume_stats_inodes_free{{{NARROW}}} / kubelet_volume_stats_inodes{{{NARROW}}}",
                "kubelet_volume_stats_inodes_used_ratio",
            ),
        ),
    ),
)

PRESETS: tuple[Preset, ...] = (*SERVING, *DEVICES, *_PLATFORM)
BY_NAME: Mapping[str, Preset] = {preset.name: preset for preset in PRESETS}
