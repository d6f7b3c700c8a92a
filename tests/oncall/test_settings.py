"""Settings: precedence, provenance, masking, clear errors."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from oncall.errors import SettingsError
from oncall.settings import MASK, configuration_file, load, origins

NOTHING: dict[str, object] = {}

TYPED = """
read_configmaps = false
loki = "http://loki.example.org:3100"
[budget]
probes = 7
[http]
allowed_hosts = ["a.example.org", "b.example.org"]
[prices.per_device_hour]
"NVIDIA H100*" = 2.5
[[estate.freezes]]
start = 2026-12-24T00:00:00Z
end = 2027-01-02T00:00:00Z
reason = 'say "no"'
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "smokejumper.toml"
    path.write_text('context = "lab"\n[model]\nname = "m"\napi_key = "sk-secret"\n[estate.cluster_environments]\nlab = "dev"\n')
    return path


def test_flags_beat_environment_beats_file_beats_defaults(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(NOTHING, file).context == "lab"
    monkeypatch.setenv("SMOKEJUMPER_CONTEXT", "from-environment")
    assert load(NOTHING, file).context == "from-environment"
    assert load({"context": "from-flag"}, file).context == "from-flag"
    assert load({"context": None}, None).context == "from-environment"


def test_nested_environment_joins_what_the_file_says(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOKEJUMPER_MODEL__BASE_URL", "http://127.0.0.1:1/v1")
    model = load(NOTHING, file).model
    assert (model.name, model.base_url) == ("m", "http://127.0.0.1:1/v1")


def test_an_unlisted_cluster_is_production(file: Path) -> None:
    settings = load(NOTHING, file)
    assert settings.estate.environment("lab", None) == "dev"
    assert settings.estate.environment("anything", "ml") == "prod"


def test_origins_name_the_source_and_mask_secrets(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOKEJUMPER_LOG_LEVEL", "error")
    flags = {"context": "from-flag"}
    rows = {row.path: row for row in origins(load(flags, file), flags, file)}
    assert (rows["context"].value, rows["context"].source) == ('"from-flag"', "flag")
    assert rows["log_level"].source == "environment"
    assert (rows["model.api_key"].value, rows["model.api_key"].source) == (MASK, str(file))
    assert rows["request_timeout_seconds"].source == "default"
    assert not any("sk-secret" in row.value for row in rows.values())


def test_values_are_shown_as_a_file_would_have_them(tmp_path: Path) -> None:
    file = tmp_path / "smokejumper.toml"
    file.write_text(TYPED)
    rows = {row.path: row.value for row in origins(load(NOTHING, file), NOTHING, file)}
    assert rows["read_configmaps"] == "false"
    assert rows["budget.probes"] == "7"
    assert rows["kubeconfig"] == "(not set)"
    assert rows["loki"] == '"http://loki.example.org:3100"'
    assert rows["http.allowed_hosts"] == '["a.example.org", "b.example.org"]'
    assert rows["prices.per_device_hour.NVIDIA H100*"] == "2.5"
    assert rows["estate.cluster_environments"] == "{}"
    assert rows["estate.freezes"] == (
        '[{start = 2026-12-24T00:00:00+00:00, end = 2027-01-02T00:00:00+00:00, environments = "*", reason = "say \\"no\\""}]'
    )
    # What can be set is read back as what it was.
    shown = tomllib.loads("\n".join(f"{name} = {rows[path]}" for name, path in (("a", "http.allowed_hosts"), ("b", "estate.freezes"))))
    assert (shown["a"], shown["b"][0]["reason"]) == (["a.example.org", "b.example.org"], 'say "no"')


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("contxt = 'x'\n", "contxt"),
        ("request_timeout_seconds = -1\n", "request_timeout_seconds"),
        ("[estate]\ntime_zone = 'Mars/Olympus'\n", "estate.time_zone"),
        ("this is not toml", "cannot read"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "smokejumper.toml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=says) as caught:
        load(NOTHING, path)
    assert "smokejumper.toml" in str(caught.value)


def test_an_explicit_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no configuration file .*nowhere\.toml"):
        configuration_file(tmp_path / "nowhere.toml", tmp_path)


def test_the_file_in_the_working_directory_is_found(file: Path) -> None:
    assert configuration_file(None, file.parent) == file


def test_a_group_in_the_environment_that_is_no_json_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOKEJUMPER_MODEL", "{hunter22")
    with pytest.raises(SettingsError, match="model") as caught:
        load(NOTHING, None)
    assert "hunter22" not in str(caught.value)


def test_the_password_in_an_address_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOKEJUMPER_MODEL__BASE_URL", "https://user:hunter22@models.example.com/v1")
    (row,) = [row for row in origins(load(NOTHING, None), NOTHING, None) if row.path == "model.base_url"]
    assert "hunter22" not in row.value
    assert "models.example.com" in row.value
