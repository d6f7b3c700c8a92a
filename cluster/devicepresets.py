"""What exporters measure of accelerators: work, clocks, heat and power, memory and link errors, the last XID.

Sources: dcgm-exporter 4.8 default-counters.csv, its collectors of clock events and XIDs, DCGM dcgm_fields.h. Of these the memory errors,
link counters, violations and the collectors named EXP are off until the exporter's counters file names them. Of other vendors: ROCm
device-metrics-exporter docs/configuration/metricslist.md (its configuration may put `amd_` before each name), Intel XPU Manager
prometheus_exporter.py, the Gaudi metric exporter, aws-neuron neuron-monitor-prometheus.py; the device plugins of GKE, for TPUs and for GPUs
without DCGM (GoogleCloudPlatform/container-engine-accelerators pkg/gpu/nvidia/metrics; the TPU plugin answers in the same words).
"""

from __future__ import annotations

from cluster.promql import LONG_MINUTES, NARROW, Form, Preset, gauge


def _rate(name: str) -> Form:
    return Form(f"rate({name}{{{NARROW}}}[5m])", name)


def _node(name: str, matchers: str = "") -> Form:
    """Of an exporter that names no pod, or calls it something that no namespace narrows."""
    return Form(f"{name}{{{matchers}{NARROW}}}", name, "node")


def _busiest(name: str, of: str = "") -> Form:
    return Form(f"max_over_time({name}{{{NARROW}}}[2m])", name, of)


def _amd(name: str) -> tuple[Form, Form]:
    return gauge(name), gauge(f"amd_{name}")


# Names as plain as these are other exporters' as well.
_GKE = 'make=~"cloud-tpu|nvidia",'

DEVICES: tuple[Preset, ...] = (
    Preset(
        "gpu-utilisation",
        "how busy GPUs are",
        (
            _busiest("DCGM_FI_DEV_GPU_UTIL"),
            _busiest("DCGM_FI_PROF_GR_ENGINE_ACTIVE"),
            _busiest("gpu_gfx_activity"),
            _busiest("amd_gpu_gfx_activity"),
            _busiest("habanalabs_utilization", "node"),
            _busiest("xpum_engine_ratio", "node"),
            _busiest("neuroncore_utilization_ratio", "node"),
            Form(f"max_over_time(duty_cycle{{{_GKE}{NARROW}}}[2m])", "duty_cycle"),
        ),
        minutes=LONG_MINUTES,
    ),
    Preset("gpu-clock", "clocks of GPUs in MHz", (gauge("DCGM_FI_DEV_SM_CLOCK"),)),
    Preset("gpu-temperature", "temperatures of GPUs in °C", (gauge("DCGM_FI_DEV_GPU_TEMP"),)),
    Preset(
        "gpu-thermal-events",
        "times that heat slowed GPUs",
        (
            Form(f'DCGM_EXP_CLOCK_EVENTS_COUNT{{clock_event=~"hw_thermal|sw_thermal|hw_slowdown",{NARROW}}}'),
            _rate("DCGM_FI_DEV_THERMAL_VIOLATION"),
            *_amd("gpu_violation_gfx_clock_below_host_limit_thermal_percentage"),
            *_amd("gpu_violation_socket_thermal_residency_percentage"),
            Form(
                f"habanalabs_temperature_onchip{{{NARROW}}} / habanalabs_temperature_threshold_slowdown{{{NARROW}}}",
                "habanalabs_temperature_slowdown_ratio",
                "node",
            ),
        ),
    ),
    # `power_cap` is what a busy GPU does; a brake is the power supply's or the rack's.
    Preset(
        "gpu-power-events",
        "times that the power supply braked GPUs",
        (Form(f'DCGM_EXP_CLOCK_EVENTS_COUNT{{clock_event="hw_power_brake",{NARROW}}}'),),
    ),
    Preset(
        "gpu-clock-reasons",
        "why clocks of GPUs are low, a bit for each reason",
        (gauge("DCGM_FI_DEV_CLOCKS_EVENT_REASONS"), gauge("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS")),
    ),
    Preset(
        "gpu-memory-used",
        "share of the memory of GPUs that is used",
        (
            Form(
                f"DCGM_FI_DEV_FB_USED{{{NARROW}}} / (DCGM_FI_DEV_FB_USED{{{NARROW}}} + DCGM_FI_DEV_FB_FREE{{{NARROW}}})",
                "DCGM_FI_DEV_FB_USED_ratio",
            ),
            Form(f"memory_used{{{_GKE}{NARROW}}} / memory_total{{{_GKE}{NARROW}}}", "accelerator_memory_used_ratio"),
        ),
        swept=False,
    ),
    Preset("gpu-xid", "the last XID error of GPUs", (gauge("DCGM_FI_DEV_XID_ERRORS"),)),
    Preset("gpu-xid-counts", "XID errors of GPUs within the exporter's window", (gauge("DCGM_EXP_XID_ERRORS_COUNT"),)),
    Preset(
        "gpu-health",
        "devices that their own exporter or runtime calls faulty",
        (*_amd("gpu_health"), _node("execution_errors_total", 'error_type="hardware",')),
    ),
    Preset(
        "gpu-memory-errors",
        "uncorrectable memory errors of GPUs",
        (
            gauge("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"),
            *_amd("gpu_ecc_uncorrect_total"),
            _node("xpum_cache_errors_total", 'type="uncorrectable",'),
            _node("hardware_ecc_events_total", 'event_type=~"mem_ecc_uncorrected|sram_ecc_uncorrected",'),
        ),
    ),
    Preset("gpu-row-remapping", "whether row remapping of GPUs failed", (gauge("DCGM_FI_DEV_ROW_REMAP_FAILURE"),)),
    Preset(
        "gpu-row-remapping-pending",
        "whether memory rows of GPUs wait for a reset to be replaced",
        (
            *map(gauge, ("DCGM_FI_DEV_ROW_REMAP_PENDING", "DCGM_FI_DEV_RETIRED_PENDING")),
            _node("habanalabs_pending_rows_with_double_bit_ecc_errors"),
        ),
    ),
    Preset(
        "gpu-link-errors",
        "NVLink errors of GPUs a second that need a replay or recovery",
        tuple(map(_rate, ("DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL", "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL"))),
    ),
    Preset("gpu-link-checksums", "NVLink checksum errors of GPUs a second", (_rate("DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL"),)),
    Preset("gpu-bus-replays", "PCIe replays of GPUs a second", (_rate("DCGM_FI_DEV_PCIE_REPLAY_COUNTER"),)),
)
