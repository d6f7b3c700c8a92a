from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cluster.endpoint import Endpoint
from cluster.presets import BY_NAME, PRESETS
from cluster.prometheus import Prometheus as Source
from cluster.promql import ANY, Form, Preset, render
from cluster.reading import MetricQuery, Why
from cluster.reference import Window
from tests.lab.monitoring import Prometheus

PAGE = Path(__file__).parents[2] / "docs" / "monitoring.md"


@pytest.mark.anyio
async def test_the_real_server_takes_every_form(prometheus: Prometheus) -> None:
    """Nothing was written a hundred years ago: the answer is that there is nothing, not that the question is wrong."""
    end = datetime(1990, 1, 1, tzinfo=UTC)
    window = Window(end - timedelta(hours=1), end)
    async with Source(Endpoint(prometheus.url)) as source:
        for preset in PRESETS:
            for form in preset.forms:
                for namespaces, labels in (((), {}), (("ml", "we-b"), {"pod": 'x"y'})):
                    expression = render(form, preset.of, namespaces, labels)
                    [gap] = (await source.metric(MetricQuery("", expression=expression), window)).missing
                    assert gap.why is Why.NOT_FOUND, expression


def test_the_page_names_every_metric() -> None:
    """docs/monitoring.md is a contract; the parts of a histogram are named by the histogram."""
    rows = re.findall(r"^\| `([\w-]+)` \| ([^|]+) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    documented = {name: set(re.findall(r"`([^`]+)`", metrics)) for name, metrics in rows}
    parts, counted = re.compile(r"_(?:sum|count|bucket)$"), ("nv_inference_pending_request_count", "tgi_request_count")
    needed = {
        preset.name: {name if name in counted else parts.sub("", name) for form in preset.forms for name in form.names}
        for preset in PRESETS
    }
    assert documented == needed


def test_names_are_unique_and_every_form_says_what_it_needs() -> None:
    assert len(BY_NAME) == len(PRESETS)
    for preset in PRESETS:
        assert all(form.names for form in preset.forms), preset.name
        assert preset.of in ("pod", "node", "cluster")


def test_a_form_needs_all_its_metrics() -> None:
    assert Form('rate(a_sum{x="1",$narrow}[5m]) / rate(a:b_count{$narrow}[5m])').names == {"a_sum", "a:b_count"}


def test_everything_is_the_default() -> None:
    assert render(Form("m{$narrow}"), "pod") == "m{}"


def test_namespaces_and_objects_are_also_looked_for_where_a_scraper_moves_them() -> None:
    form = Form("m{$narrow}")
    assert render(form, "pod", ("ml",)) == '(m{exported_namespace=~"ml"}) or (m{namespace=~"ml"})'
    assert render(form, "pod", ("a", "b-c")) == '(m{exported_namespace=~"a|b\\\\-c"}) or (m{namespace=~"a|b\\\\-c"})'
    assert render(form, "pod", (), {"pod": "x", "gpu": "0"}) == '(m{exported_pod="x",gpu="0"}) or (m{gpu="0",pod="x"})'
    assert render(form, "pod", (), {"gpu": "0"}) == 'm{gpu="0"}'


def test_nodes_have_no_namespace() -> None:
    assert render(Form("m{$narrow}"), "node", ("ml",), {"instance": "n1"}) == 'm{instance="n1"}'


@pytest.mark.parametrize(
    ("value", "quoted"),
    [('"} or vector(1) #', '\\"} or vector(1) #'), ("back\\slash", "back\\\\slash"), ("two\nlines", "two\\nlines"), ("$narrow", "$narrow")],
)
def test_values_stay_values(value: str, quoted: str) -> None:
    assert render(Form("m{$narrow}"), "pod", (), {"model": value}) == f'm{{model="{quoted}"}}'
    assert render(ANY, "pod", (), {"__name__": value}) == f'{{__name__="{quoted}"}}'


def test_label_names_of_any_text() -> None:
    assert render(Form("m{$narrow}"), "pod", (), {"k8s.pod.name": "x"}) == 'm{"k8s.pod.name"="x"}'


def test_current_names_come_before_earlier_ones() -> None:
    preset: Preset = BY_NAME["inference-kv-cache"]
    names = [name for form in preset.forms for name in sorted(form.names)]
    assert names.index("vllm:kv_cache_usage_perc") < names.index("vllm:gpu_cache_usage_perc")
