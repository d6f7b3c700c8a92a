"""The PromQL of one measurement: its forms under current and earlier names, and how a form is narrowed to objects.

Names change between releases (vLLM dropped `gpu_cache_usage_perc`), and one fleet runs several releases, so every form whose metrics
exist is asked and the first one counts where an object has both. Which measurements there are stands in `presets`; no thresholds do.
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
# What exporters call the pod that has a device, and its namespace, where not so: the Gaudi exporter, Intel's XPU Manager.
HOLDERS = (("pod_name", "pod_namespace"), ("kube_pod", "kube_namespace"))


class Form(Struct, frozen=True):
    """One way to ask. `called` is the metric that the result is, where the expression drops names; "" where it keeps them.

    `of` is what its series belong to where that differs from its preset's.
    """

    expression: str
    called: str = ""
    of: str = ""

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


def gauge(name: str) -> Form:
    return Form(f"{name}{{{NARROW}}}")


def mean(name: str, called: str = "") -> Form:
    """The mean of a histogram or summary over five minutes."""
    return Form(f"rate({name}_sum{{{NARROW}}}[5m]) / rate({name}_count{{{NARROW}}}[5m])", called or name)


def share(part: str, whole: str, called: str, matchers: str = "") -> Form:
    selector = f"{{{matchers}{NARROW}}}"
    return Form(f"rate({part}{selector}[5m]) / rate({whole}{selector}[5m])", called)


def slowest(name: str, by: str, called: str, unit: str = "", matchers: str = "") -> Form:
    """The 95th percentile of a histogram."""
    rates = f"rate({name}_bucket{{{matchers}{NARROW}}}[5m])"
    return Form(f"histogram_quantile(0.95, sum by ({by}, le) ({rates})){unit}", called)


# What a pod's series are summed by, so that the labels of a scraper and those that it moved aside both stay.
POD = "namespace, exported_namespace, pod, exported_pod"
# Every series; the metric's name is a label like others.
ANY = Form(f"{{{NARROW}}}")


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
