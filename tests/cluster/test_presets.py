from __future__ import annotations

import pytest

from cluster.presets import ANY, BY_NAME, PRESETS, Form, Preset, render


def test_names_are_unique_and_every_form_says_what_it_needs() -> None:
    assert len(BY_NAME) == len(PRESETS)
    for preset in PRESETS:
        assert all(form.names for form in preset.forms), preset.name
        assert preset.of in ("pod", "node")


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
