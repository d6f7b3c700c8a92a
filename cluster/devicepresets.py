"""What DCGM measures of GPUs: work, clocks, heat and power, memory and link errors, the last XID.

Sources: dcgm-exporter 4.8 default-counters.csv, its collectors of clock events and XIDs, DCGM dcgm_fields.h. Of these the memory errors,
link counters, violations and the collectors named EXP are off until the exporter's counters file names them.
"""

from __future__ import annotations

from cluster.promql import LONG_MINUTES, NARROW, Form, Preset, gauge


def _rate(name: str) -> Form:
    return Form(f"rate({name}{{{NARROW}}}[5m])", name)


DEVICES: tuple[Preset, ...] = (
    Preset(
        "gpu-utilisation",
        "how busy GPUs are",
        (
            Form(f"max_over_time(DCGM_FI_DEV_GPU_UTIL{{{NARROW}}}[2m])", "DCGM_FI_DEV_GPU_UTIL"),
            Form(f"max_over_time(DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{NARROW}}}[2m])", "DCGM_FI_PROF_GR_ENGINE_ACTIVE"),
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
        ),
    ),
    # `power_cap` is what a busy GPU does; a brake is the power supply's or the rack's.
    Preset(
        "gpu-power-events",
        "times that the power supply braked GPUs",
        (Form(f'DCGM_EXP_CLOCK_EVENTS_COUNT{{clock_event="hw_power_brake",{NARROW}}}'),),
    ),
    Preset(
        "gpu-memory-used",
        "share of the memory of GPUs that is used",
        (
            Form(
                f"DCGM_FI_DEV_FB_USED{{{NARROW}}} / (DCGM_FI_DEV_FB_USED{{{NARROW}}} + DCGM_FI_DEV_FB_FREE{{{NARROW}}})",
                "DCGM_FI_DEV_FB_USED_ratio",
            ),
        ),
        swept=False,
    ),
    Preset("gpu-xid", "the last XID error of GPUs", (gauge("DCGM_FI_DEV_XID_ERRORS"),)),
    Preset("gpu-xid-counts", "XID errors of GPUs within the exporter's window", (gauge("DCGM_EXP_XID_ERRORS_COUNT"),)),
    Preset("gpu-memory-errors", "uncorrectable memory errors of GPUs", (gauge("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"),)),
    Preset("gpu-row-remapping", "whether row remapping of GPUs failed", (gauge("DCGM_FI_DEV_ROW_REMAP_FAILURE"),)),
    Preset(
        "gpu-row-remapping-pending",
        "whether memory rows of GPUs wait for a reset to be replaced",
        tuple(map(gauge, ("DCGM_FI_DEV_ROW_REMAP_PENDING", "DCGM_FI_DEV_RETIRED_PENDING"))),
    ),
    Preset(
        "gpu-link-errors",
        "NVLink errors of GPUs a second that need a replay or recovery",
        tuple(map(_rate, ("DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL", "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL"))),
    ),
    Preset("gpu-link-checksums", "NVLink checksum errors of GPUs a second", (_rate("DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL"),)),
    Preset("gpu-bus-replays", "PCIe replays of GPUs a second", (_rate("DCGM_FI_DEV_PCIE_REPLAY_COUNTER"),)),
)
