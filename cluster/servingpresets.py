"""What model servers, endpoint pickers and their autoscalers measure: load, cache, where the time of a request goes, what they refuse.

Sources: vLLM 0.33.0 v1/metrics/loggers.py and its NIXL and Mooncake connectors, SGLang 0.5.23 observability/metrics_collector.py, TGI and
Triton metrics pages, llm-d router docs/metrics.md and the Gateway API inference extension before it, KEDA 2.20 integrations/prometheus.
"""

from __future__ import annotations

from cluster.promql import NARROW, POD, Form, Preset, gauge, mean, share, slowest


def _rate(name: str, matchers: str = "", called: str = "") -> Form:
    return Form(f"rate({name}{{{matchers}{NARROW}}}[5m])", called or f"{name.removesuffix('_total')}_rate")


def _failed(failed: str, all_of: str, called: str) -> Form:
    """The failed part of a pod's requests; one that failed none has no series of failures, which makes it 0."""
    whole = f"sum by ({POD}) (rate({all_of}[5m]))"
    return Form(f"(sum by ({POD}) ({failed}) or 0 * {whole}) / {whole}", called)


_ISTIO = f'istio_requests_total{{reporter="destination",{NARROW}}}'
_HTTP = f"http_requests_total{{{NARROW}}}"
_OTEL = f"http_server_request_duration_seconds_count{{{NARROW}}}"
_DECISIONS = "llm_d_epp_disagg_decision_total"
_OLD_DECISIONS = "llm_d_inference_scheduler_disagg_decision_total"


def _without_prefill(name: str) -> Form:
    part, whole = (f"sum by ({POD}) (rate({name}{{{matchers}{NARROW}}}[5m]))" for matchers in ('decision_type="decode-only",', ""))
    return Form(f"{part} / {whole}", "picker_decode_only_ratio")


# What a server said before stays beside what it says now; the value is the moment, so the highest is the present.
_ADAPTERS = "vllm:lora_requests_info{$narrow}"

SERVING: tuple[Preset, ...] = (
    Preset(
        "inference-running",
        "requests that model servers work on",
        tuple(map(gauge, ("vllm:num_requests_running", "sglang:num_running_reqs", "tgi_batch_current_size"))),
    ),
    Preset(
        "inference-waiting",
        "requests that wait at model servers",
        tuple(map(gauge, ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "tgi_queue_size", "nv_inference_pending_request_count"))),
    ),
    Preset(
        "inference-kv-cache",
        "share of the KV cache that is used",
        tuple(map(gauge, ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"))),
    ),
    Preset(
        "inference-preemptions",
        "requests a second that are computed again because the KV cache was full",
        (_rate("vllm:num_preemptions_total"), _rate("sglang:num_retracted_requests_total"), gauge("sglang:num_retracted_reqs")),
    ),
    Preset(
        "inference-prefix-hits",
        "share of prompt tokens that the prefix cache has",
        (
            share("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hit_ratio"),
            share("vllm:gpu_prefix_cache_hits_total", "vllm:gpu_prefix_cache_queries_total", "vllm:prefix_cache_hit_ratio"),
            gauge("sglang:cache_hit_rate"),
        ),
    ),
    Preset(
        "inference-seconds-per-token",
        "seconds between two tokens of an answer",
        (
            mean("vllm:inter_token_latency_seconds"),
            mean("vllm:time_per_output_token_seconds"),
            mean("sglang:inter_token_latency_seconds"),
            mean("tgi_request_mean_time_per_token_duration"),
        ),
    ),
    Preset(
        "inference-first-token",
        "seconds to the first token, 95th percentile",
        (
            slowest("vllm:time_to_first_token_seconds", POD, "vllm:time_to_first_token_seconds_p95"),
            slowest("sglang:time_to_first_token_seconds", POD, "sglang:time_to_first_token_seconds_p95"),
        ),
    ),
    Preset(
        "inference-queue-seconds",
        "seconds that a request waits at a model server",
        (
            mean("vllm:request_queue_time_seconds"),
            mean("sglang:queue_time_seconds"),
            mean("tgi_request_queue_duration"),
            Form(
                f"rate(nv_inference_queue_duration_us{{{NARROW}}}[5m]) / rate(nv_inference_request_success{{{NARROW}}}[5m]) / 1e6",
                "nv_inference_queue_duration_seconds",
            ),
        ),
    ),
    Preset(
        "inference-prefill-seconds",
        "seconds that the prompt of a request takes",
        (
            mean("vllm:request_prefill_time_seconds"),
            Form(
                'rate(sglang:per_stage_req_latency_seconds_sum{stage="prefill_forward",' + NARROW + "}[5m]) / "
                'rate(sglang:per_stage_req_latency_seconds_count{stage="prefill_forward",' + NARROW + "}[5m])",
                "sglang:request_prefill_time_seconds",
            ),
        ),
    ),
    Preset("inference-decode-seconds", "seconds that the answer of a request takes", (mean("vllm:request_decode_time_seconds"),)),
    Preset(
        "inference-transfer-seconds",
        "seconds that moving the KV cache of a request takes",
        (
            mean("vllm:nixl_xfer_time_seconds"),
            Form(
                f"rate(sglang:kv_transfer_latency_ms_sum{{{NARROW}}}[5m]) / "
                f"rate(sglang:kv_transfer_latency_ms_count{{{NARROW}}}[5m]) / 1e3",
                "sglang:kv_transfer_latency_seconds",
            ),
        ),
    ),
    Preset(
        "inference-transfer-failures",
        "moves of a KV cache that fail a second, or come too late",
        (
            _rate("vllm:nixl_num_failed_transfers_total"),
            _rate("vllm:nixl_num_kv_expired_reqs_total"),
            _rate("vllm:mooncake_num_failed_transfers_total"),
            _rate("vllm:mooncake_num_failed_recvs_total"),
            _rate("sglang:num_transfer_failed_reqs_total"),
            _rate("sglang:num_bootstrap_failed_reqs_total"),
        ),
    ),
    Preset(
        "inference-rejections",
        "requests a second that model servers refuse because their queue is full",
        (_rate("vllm:admission_rejections_total"),),
    ),
    Preset("inference-corrupted", "answers a second that are no numbers", (_rate("vllm:corrupted_requests_total"),)),
    Preset(
        "inference-asleep",
        "whether a model server sleeps",
        (Form(f'1 - vllm:engine_sleep_state{{sleep_state="awake",{NARROW}}}', "vllm:engine_asleep"),),
    ),
    Preset(
        "inference-adapters",
        "adapters (LoRA) that model servers work with, and that wait",
        (Form(f"{_ADAPTERS} == on ({POD}) group_left () max by ({POD}) ({_ADAPTERS})"),),
        minutes=15,
    ),
    Preset(
        "request-failures",
        "share of requests that a pod answers with a server error",
        (
            _failed(
                f'rate(istio_requests_total{{reporter="destination",response_code=~"5..",{NARROW}}}[5m])', _ISTIO, "request_failures_ratio"
            ),
            _failed(
                f'rate(http_server_request_duration_seconds_count{{http_response_status_code=~"5..",{NARROW}}}[5m])',
                _OTEL,
                "request_failures_ratio",
            ),
            _failed(
                f'rate(http_requests_total{{status=~"5..",{NARROW}}}[5m]) or rate(http_requests_total{{code=~"5..",{NARROW}}}[5m])',
                _HTTP,
                "request_failures_ratio",
            ),
            _failed(f"rate(tgi_request_failure{{{NARROW}}}[5m])", f"tgi_request_count{{{NARROW}}}", "request_failures_ratio"),
            _failed(
                f"rate(nv_inference_request_failure{{{NARROW}}}[5m])",
                f"nv_inference_request_success{{{NARROW}}}",
                "request_failures_ratio",
            ),
        ),
    ),
    Preset(
        "picker-endpoints",
        "model servers that an endpoint picker may choose",
        tuple(map(gauge, ("llm_d_epp_ready_endpoints", "inference_pool_ready_pods"))),
    ),
    Preset(
        "picker-stale-endpoints",
        "model servers whose metrics an endpoint picker cannot read any more",
        (gauge("llm_d_epp_flow_control_stale_endpoints"),),
    ),
    Preset(
        "picker-errors",
        "requests a second that an endpoint picker turns away",
        (
            _rate("llm_d_epp_request_error_total"),
            _rate("inference_objective_request_error_total"),
            _rate("inference_model_request_error_total"),
        ),
    ),
    Preset(
        "picker-queue",
        "requests that wait at each model server, as an endpoint picker sees it",
        tuple(map(gauge, ("llm_d_epp_per_endpoint_queue_size", "inference_pool_per_pod_queue_size"))),
        swept=False,
    ),
    Preset(
        "picker-decode-only",
        "share of requests that an endpoint picker sends to no prefill server",
        (_without_prefill(_DECISIONS), _without_prefill(_OLD_DECISIONS)),
    ),
    Preset(
        "scaler-errors",
        "times a second that KEDA could not read what it scales by",
        (_rate("keda_scaler_detail_errors_total"), _rate("keda_scaler_errors_total")),
    ),
    Preset(
        "queue-pending",
        "workloads that wait in the queues of Kueue",
        (gauge("kueue_pending_workloads"),),
        of="cluster",
        swept=False,
    ),
    Preset(
        "queue-wait-seconds",
        "seconds that workloads wait for their admission by Kueue",
        (mean("kueue_admission_wait_time_seconds"),),
        of="cluster",
        swept=False,
    ),
)
