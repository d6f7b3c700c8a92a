"""The runbook pages: one for every code, in one form, and safe to follow at night."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mcp_server.runbooks import page_names, read_page
from runbooks.catalogue import catalogue
from tests.runbooks.page_index import PAGES, codes_by_page, front_matter, split

FILES = sorted(PAGES.glob("*.md"))
REFRESH = "run: python -m tests.runbooks.page_index"
SECTIONS = ("What it means", "Confirm by hand", "Usual causes", "Safe fix", "Do not", "Verify")
OPTIONAL = "If you are a data scientist"
# Pages about users' own pods, GPUs, queues or model servers.
FOR_DATA_SCIENTISTS = frozenset(
    {
        "applications", "crashes", "device-claims", "gpu", "gpu-node", "images", "inference", "init", "jobs", "memory", "pending-pods",
        "probes", "queues", "quota", "rollouts", "saturation", "storage", "training",
    }
)  # fmt: skip
KUBECTL = re.compile(r"^kubectl (.*)$", re.MULTILINE)
READING = frozenset({"get", "describe", "logs", "top", "api-resources", "auth can-i", "rollout status", "rollout history"})
VALUE_OPTIONS = frozenset({"-n", "--context"})


def _kubectl_verb(words: list[str]) -> str:
    """The verb of a kubectl command line, with its second word where that decides what it does."""
    rest = list(words)
    while rest and rest[0].startswith("-"):
        rest = rest[2:] if rest[0] in VALUE_OPTIONS else rest[1:]
    verb = rest[0] if rest else ""
    return " ".join(rest[:2]) if verb in {"auth", "rollout", "config"} else verb


def test_every_code_has_a_page_and_no_page_is_an_orphan() -> None:
    assert {file.stem for file in FILES} == set(codes_by_page())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_front_matter_lists_exactly_the_codes_that_name_the_page(file: Path) -> None:
    text = file.read_text("utf-8")
    front, body = split(text)
    assert set(front) == {"title", "codes"}
    assert isinstance(front["title"], str)
    assert isinstance(front["codes"], list)
    assert all(name in catalogue() for name in front["codes"])
    assert text.startswith(front_matter(front["title"], file.stem)), REFRESH
    assert body.startswith(f"# {front['title']}\n")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_form(file: Path) -> None:
    _, body = split(file.read_text("utf-8"))
    headings = re.findall(r"^## (.+)$", body, re.MULTILINE)
    assert headings in ([*SECTIONS], [*SECTIONS, OPTIONAL])
    assert OPTIONAL in headings or file.stem not in FOR_DATA_SCIENTISTS
    assert 40 <= body.count("\n") <= 95
    assert body.count("```") % 2 == 0
    for section in re.split(r"^## .+$", body, flags=re.MULTILINE)[1:]:
        assert section.strip()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_kubectl_only_reads(file: Path) -> None:
    """A page is followed by a tired person; what changes something goes through a proposal."""
    text = file.read_text("utf-8")
    commands = KUBECTL.findall(text) + re.findall(r"`kubectl ([^`]+)`", text)
    assert commands
    assert [command for command in commands if _kubectl_verb(command.split()) not in READING] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_secrets_are_never_printed(file: Path) -> None:
    """`describe` shows the names and sizes of a Secret's keys; `-o yaml` and `.data` would show its values."""
    for command in KUBECTL.findall(file.read_text("utf-8")):
        if re.search(r"\bsecrets?\b", command):
            assert "-o yaml" not in command
            assert "-o json " not in command
            assert "{.data" not in command


def test_the_verb_is_found_behind_options() -> None:
    assert _kubectl_verb(["-n", "NS", "delete", "pod", "POD"]) == "delete"
    assert _kubectl_verb(["rollout", "undo", "deploy/NAME"]) == "rollout undo"
    assert "rollout undo" not in READING


def test_the_tools_serve_them_by_their_slug() -> None:
    assert page_names() == sorted(file.stem for file in FILES)
    assert read_page("pending-pods") == (PAGES / "pending-pods.md").read_text("utf-8")
