"""The keys that replicas of the MCP server share: from a file or from the settings, and never too short to hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from oncall.commands.server import state_keys
from oncall.errors import SettingsError
from oncall.settings import McpSettings

OLD, NEW = "o" * 32, "n" * 40


def test_without_any_each_process_has_its_own() -> None:
    assert state_keys(McpSettings()) == ()


def test_they_come_from_the_settings_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{NEW}\n{OLD}\n", encoding="utf-8")
    assert state_keys(McpSettings(state_keys=SecretStr(f"{NEW} {OLD}"))) == (NEW, OLD)
    assert state_keys(McpSettings(state_keys_file=file)) == (NEW, OLD)


@pytest.mark.parametrize("text", ["short", f"{OLD} short", f"{OLD} {OLD}"])
def test_weak_or_repeated_keys_are_refused_without_showing_them(text: str) -> None:
    with pytest.raises(SettingsError, match="openssl rand") as refused:
        state_keys(McpSettings(state_keys=SecretStr(text)))
    assert OLD not in str(refused.value)


def test_a_file_without_keys_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="is empty"):
        state_keys(McpSettings(state_keys_file=tmp_path / "empty"))
    with pytest.raises(SettingsError, match="cannot be read"):
        state_keys(McpSettings(state_keys_file=tmp_path / "missing"))
