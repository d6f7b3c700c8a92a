"""What exporters call the things that detectors judge: for each measurement the PromQL, under the current and the earlier names.

Names change between releases (vLLM dropped `gpu_cache_usage_perc`), and one fleet runs several releases, so every form whose metrics
exist is asked and the first one counts where an object has both. It holds no thresholds; those belong to the detectors.
Sources: vLLM 0.33.0 v1/metrics/loggers.py, SGLang 0.5.23 observability/metrics_collector.py, TGI and Triton metrics pages, dcgm-exporter
4.8 default-counters.csv, cAdvisor docs/storage/prometheus.md, node_exporter 1.x collectors, Istio standard metrics, OpenTelemetry HTTP
semantic conventions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

# Stands in a selector for what narrows it to namespaces and objects.
NARROW = "$narrow"
SWEEP_MINUTES = 60
# Idleness is judged over an hour, which a window of exactly one does not span.
LONG_MINUTES = 120
_NAME = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)\{")
_PLAIN_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A scraper that keeps its own labels moves those of the exporter here (Prometheus configuration, `honor_labels`).
EXPORTED = "exported_"
MOVED = ("namespace", "pod", "container", "node", "service")


class Form(Struct, frozen=True):
    """One way to ask. `called` is the metric that the result is, where the expression drops names; "" where it keeps them."""

    expression: str
    called: str = ""

    @property
    def names(self) -> frozenset[str]:
        """The metrics that it needs, all of them."""
        return frozenset(_NAME.findall(self.expression))


class Preset(Struct, frozen=True):
    """One measurement. `of` is what its series belong to: those of pods have a namespace, those of nodes have none.

    One that is not `swept` is only asked for by name.
    """

    name: str
    about: str
    forms: tuple[Form, ...]
    of: str = "pod"
    minutes: int = SWEEP_MINUTES
    swept: bool = True


def _gauge(name: str) -> Form:
    return Form(f"{name}{{{NARROW}}}")


def _mean(name: str, called: str = "") -> Form:
    """The mean of a histogram or summary over five minutes."""
    return Form(f"rate({name}_sum{{{NARROW}}}[5m]) / rate({name}_count{{{NARROW}}}[5m])", called or name)


def _share(part: str, whole: str, called: str, matchers: str = "") -> Form:
    selector = f"{{{matchers}{NARROW}}}"
    return Form(f"rate({part}{selector}[5m]) / rate({whole}{selector}[5m])", called)


def _slowest(name: str, by: str, called: str, unit: str = "", matchers: str = "") -> Form:
    """The 95th percentile of a histogram."""
    rates = f"rate({name}_bucket{{{matchers}{NARROW}}}[5m])"
    return Form(f"histogram_quantile(0.95, sum by ({by}, le) ({rates})){unit}", called)


_POD = "namespace, exported_namespace, pod, exported_pod"
_DEVICES = 'device!~"lo|veth.*|cali.*|cni.*|lxc.*|docker.*|br-.*",'

PRESETS: tuple[Preset, ...] = (
    Preset(
        "inference-running",
        "requests that model servers work on",
        tuple(map(_gauge, ("vllm:num_requests_running", "sglang:num_running_reqs", "tgi_batch_current_size"))),
    ),
    Preset(
        "inference-waiting",
        "requests that wait at model servers",
        tuple(map(_gauge, ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "tgi_queue_size", "nv_inference_pending_request_count"))),
    ),
    Preset(
        "inference-kv-cache",
        "share of the KV cache that is used",
        tuple(map(_gauge, ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"))),
    ),
    Preset(
        "inference-preemptions",
        "requests a second that are computed again because the KV cache was full",
        (
            Form(f"rate(vllm:num_preemptions_total{{{NARROW}}}[5m])", "vllm:num_preemptions_rate"),
            Form(f"rate(sglang:num_retracted_requests_total{{{NARROW}}}[5m])", "sglang:num_retracted_requests_rate"),
            _gauge("sglang:num_retracted_reqs"),
        ),
    ),
    Preset(
        "inference-seconds-per-token",
        "seconds between two tokens of an answer",
        (
            _mean("vllm:inter_token_latency_seconds"),
            _mean("vllm:time_per_output_token_seconds"),
            _mean("sglang:inter_token_latency_seconds"),
            _mean("tgi_request_mean_time_per_token_duration"),
        ),
    ),
    Preset(
        "inference-first-token",
        "seconds to the first token, 95th percentile",
        (
            _slowest("vllm:time_to_first_token_seconds", _POD, "vllm:time_to_first_token_seconds_p95"),
            _slowest("sglang:time_to_first_token_seconds", _POD, "sglang:time_to_first_token_seconds_p95"),
        ),
        swept=False,
    ),
    Preset(
        "gpu-utilisation",
        "how busy GPUs are",
        (
            Form(f"max_over_time(DCGM_FI_DEV_GPU_UTIL{{{NARROW}}}[2m])", "DCGM_FI_DEV_GPU_UTIL"),
            Form(f"max_over_time(DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{NARROW}}}[2m])", "DCGM_FI_PROF_GR_ENGINE_ACTIVE"),
        ),
        minutes=LONG_MINUTES,
    ),
    Preset("gpu-clock", "clocks of GPUs in MHz", (_gauge("DCGM_FI_DEV_SM_CLOCK"),)),
    Preset("gpu-temperature", "temperatures of GPUs in °C", (_gauge("DCGM_FI_DEV_GPU_TEMP"),)),
    Preset(
        "gpu-thermal-events",
        "times that heat slowed GPUs",
        (
            Form(f'DCGM_EXP_CLOCK_EVENTS_COUNT{{clock_event=~"hw_thermal|sw_thermal|hw_slowdown",{NARROW}}}'),
            Form(f"rate(DCGM_FI_DEV_THERMAL_VIOLATION{{{NARROW}}}[5m])", "DCGM_FI_DEV_THERMAL_VIOLATION"),
        ),
    ),
    Preset("gpu-xid", "the last XID error of GPUs", (_gauge("DCGM_FI_DEV_XID_ERRORS"),)),
    Preset("gpu-memory-errors", "uncorrectable memory errors of GPUs", (_gauge("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"),)),
    Preset("gpu-row-remapping", "whether row remapping of GPUs failed", (_gauge("DCGM_FI_DEV_ROW_REMAP_FAILURE"),)),
    Preset(
        "cpu-throttling",
        "share of scheduler periods in which containers were throttled",
        (
            _share(
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
        (Form(f'sum by ({_POD}) (rate(container_cpu_usage_seconds_total{{container!="",{NARROW}}}[5m]))', "container_cpu_usage_cores"),),
    ),
    Preset(
        "request-latency",
        "seconds that requests take, 95th percentile",
        (
            _slowest(
                "istio_request_duration_milliseconds",
                "namespace, destination_workload",
                "istio_request_duration_seconds_p95",
                " / 1000",
                'reporter="destination",',
            ),
            _slowest("http_server_request_duration_seconds", _POD, "http_server_request_duration_seconds_p95"),
            _slowest("http_server_duration_milliseconds", _POD, "http_server_request_duration_seconds_p95", " / 1000"),
            _slowest("http_request_duration_seconds", _POD, "http_request_duration_seconds_p95"),
        ),
    ),
    Preset(
        "pod-network-drops",
        "share of packets to pods that are dropped",
        (
            _share(
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
            _share(
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
        (_share("node_netstat_Tcp_RetransSegs", "node_netstat_Tcp_OutSegs", "node_netstat_Tcp_RetransSegs_ratio"),),
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
)
# Every series; the metric's name is a label like others.
ANY = Form(f"{{{NARROW}}}")
BY_NAME: Mapping[str, Preset] = {preset.name: preset for preset in PRESETS}


def render(form: Form, of: str, namespaces: Sequence[str] = (), labels: Mapping[str, str] | None = None) -> str:
    """The PromQL of a form for some namespaces and label values; also under the names to which a scraper moves an exporter's labels."""
    wanted = dict(labels or {})
    scoped = tuple(namespaces) if of == "pod" else ()
    plain = form.expression.replace(NARROW, _matchers(scoped, wanted))
    if not scoped and wanted.keys().isdisjoint(MOVED):
        return plain
    moved = {f"{EXPORTED}{key}" if key in MOVED else key: value for key, value in wanted.items()}
    return f"({form.expression.replace(NARROW, _matchers(scoped, moved, EXPORTED))}) or ({plain})"


def _matchers(namespaces: tuple[str, ...], labels: Mapping[str, str], prefix: str = "") -> str:
    parts = [f"{_label(key)}={_quoted(value)}" for key, value in sorted(labels.items())]
    if namespaces:
        pattern = "|".join(re.escape(name) for name in namespaces)
        parts.append(f"{prefix}namespace=~{_quoted(pattern)}")
    return ",".join(parts)


def _label(key: str) -> str:
    return key if _PLAIN_LABEL.fullmatch(key) else _quoted(key)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
