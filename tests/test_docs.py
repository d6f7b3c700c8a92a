"""The documentation is a contract: commands, options, links, settings, tools, rules and dependencies in it exist, and none is left out."""

from __future__ import annotations

import dataclasses
import functools
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from guardrails.action import BY_NAME
from guardrails.bundle import SHIPPED, load
from guardrails.directory import DEFAULT_GROUPS
from mcp_server.tools.catalogue import toolset
from oncall.cli import app
from oncall.settings import ENVIRONMENT_PREFIX, Settings
from oncall.settings import load as load_settings
from tests.lab import scenario
from tests.lab.__main__ import _parser as lab_parser
from tests.runbooks.page_index import PAGES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *PAGES.glob("*.md")])
FENCED = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ASSIGNMENT = re.compile(r"[A-Z_]+=\S* ")


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def command_lines(text: str, program: str) -> Iterator[str]:
    """Command lines of a program, in fences and in code spans, without prompts, assignments before them, comments and redirections."""
    fences = FENCED.findall(text)
    lines = [line for fence in fences for line in re.sub(r"\s*\\\n\s*", " ", fence).splitlines()]
    for line in (*lines, *INLINE.findall(FENCED.sub("", text))):
        bare = line.strip().removeprefix("$ ")
        while assigned := ASSIGNMENT.match(bare):
            bare = bare[assigned.end() :]
        if bare.startswith(f"{program} "):
            yield bare


def leaves(command: Any, path: str = "smokejumper") -> Iterator[str]:
    """Every command of ours as it is typed."""
    for name, below in command.commands.items():
        if hasattr(below, "commands"):
            yield from leaves(below, f"{path} {name}")
        else:
            yield f"{path} {name}"


@functools.cache
def smokejumper() -> Any:
    """The tree of our commands, made once: that takes a tenth of a second."""
    return typer.main.get_command(app)


def problems(line: str) -> list[str]:
    """What is wrong with a command line of ours, as its parser would see it; placeholders may stand for values."""
    command = smokejumper()
    words = shlex.split(line, comments=True)[1:]
    positional: list[str] = []
    found = []
    while words:
        word = words.pop(0)
        if word in {"|", ">", "2>", "&&"}:
            break
        if word.startswith("-") and word != "-":
            name, equals, _ = word.partition("=")
            option = next((p for p in command.params if name in (*p.opts, *p.secondary_opts)), None)
            if option is None and name != "--help":
                found.append(f"{command.name} has no option {name}")
            elif option is not None and not option.is_flag and not equals:
                if not words:
                    found.append(f"{name} lacks its value")
                words = words[1:]
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return [*found, f"{command.name} has no command {word}"]
            command = command.commands[word]
        else:
            positional.append(word)
    places = [p for p in command.params if p.param_type_name == "argument"]
    if len(positional) > len(places):
        found.append(f"{command.name} takes {len(places)} arguments, not {positional}")
    if command.name == "propose" and positional and positional[0].replace("-", "_") not in BY_NAME:
        found.append(f"{positional[0]} is no action")
    return found


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the table's rows under a heading, without its head."""
    section = re.split(r"^#+ ", FENCED.sub("", text).partition(f"{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    return cells[2:]


def settings(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_our_commands_exist(document: Path) -> None:
    lines = command_lines(document.read_text("utf-8"), "smokejumper")
    assert {line: wrong for line in lines if (wrong := problems(line))} == {}


def test_every_command_is_documented() -> None:
    """In the README or in docs/: global options between the words are left out."""
    text = "\n".join(path.read_text("utf-8") for path in [ROOT / "README.md", *DOCS.glob("*.md")])
    said = [re.sub(r" --(state|config|kubeconfig|log-level) \S+", "", line) for line in command_lines(text, "smokejumper")]
    assert [leaf for leaf in leaves(smokejumper()) if not any(f"{line} ".startswith(f"{leaf} ") for line in said)] == []


def test_a_wrong_command_is_noticed() -> None:
    assert problems("smokejumper diagnose -A --exit-code  # comment") == []
    assert problems("smokejumper --state /tmp/x propose rollout-undo deploy/serve -n ml") == []
    assert problems("smokejumper diagnose --everything") == ["diagnose has no option --everything"]
    assert problems("smokejumper repair deploy/serve") == ["smokejumper has no command repair"]
    assert problems("smokejumper proposals show ID extra") == ["show takes 1 arguments, not ['ID', 'extra']"]
    assert problems("smokejumper propose exec pod/a") == ["exec is no action"]
    assert list(command_lines("x\n```sh\nA=b $ c\nT=… smokejumper approve ID \\\n  --digest D\n```\n", "smokejumper")) == [
        "smokejumper approve ID --digest D"
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for link in LINK.findall(INLINE.sub("", FENCED.sub("", document.read_text("utf-8")))):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        goal = (document.parent / path) if path else document
        if not goal.exists() or (anchor and anchor not in anchors(goal.read_text("utf-8"))):
            broken.append(link)
    assert broken == []


def test_every_setting_has_its_row() -> None:
    text = (DOCS / "configuration.md").read_text("utf-8")
    documented = {row[0].strip("`"): row[1].strip("`") for row in rows(text, "# Configuration")}
    assert documented == {name: ENVIRONMENT_PREFIX + name.replace(".", "__").upper() for name in settings()}


def test_the_example_configuration_loads(tmp_path: Path) -> None:
    [example] = re.findall(r"^```toml\n(.*?)^```", (DOCS / "configuration.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    file = tmp_path / "smokejumper.toml"
    file.write_text(example, "utf-8")
    loaded = load_settings({}, file)
    assert loaded.estate.environment("prod-1", "shop-staging") == "staging"
    assert loaded.model_dump(exclude_unset=True).keys() == tomllib.loads(example).keys()


def test_every_tool_has_its_row() -> None:
    text = (DOCS / "mcp-tools.md").read_text("utf-8")
    assert [row[0].strip("`") for row in rows(text, "# The tools, one by one")] == [tool.name for tool in toolset()]


def test_every_dependency_says_why_it_is_here() -> None:
    text = (DOCS / "dependencies.md").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    names = [re.split(r"[\[<>=~! ]", one, maxsplit=1)[0] for one in project["project"]["dependencies"]]
    assert [row[0] for row in rows(text, "# Dependencies, and why each is here")] == sorted(names)
    development = text.partition("Development only")[2]
    tools = [re.split(r"[<>=]", one, maxsplit=1)[0] for one in project["dependency-groups"]["dev"]]
    assert [tool for tool in tools if tool not in development and not tool.startswith("types-")] == []


def test_every_rule_of_the_policy_is_put_in_words() -> None:
    text = (DOCS / "guardrails.md").read_text("utf-8")
    policy = load(SHIPPED, DEFAULT_GROUPS)
    assert {row[0].strip("`"): row[1] for row in rows(text, "## The policy")} == {name: rule.effect for name, rule in policy.rules.items()}


def test_every_promise_names_tests_that_exist() -> None:
    promises = rows((DOCS / "guardrails.md").read_text("utf-8"), "## What is promised")
    assert len(promises) > 10
    for promise, _, limit, tests in promises:
        named = [name.partition("::") for name in INLINE.findall(tests)]
        assert named, promise
        assert limit, promise
        gone = [f"{file}::{test}" for file, _, test in named if f"def {test}(" not in (ROOT / file).read_text("utf-8")]
        assert gone == []


def test_every_action_says_what_its_executor_needs() -> None:
    text = (DOCS / "guardrails.md").read_text("utf-8")
    named = {name for row in rows(text, "## The vocabulary") for name in INLINE.findall(row[0])}
    assert named == set(BY_NAME)
    needs = {name: row[1] for row in rows(text, "## Separate accounts") for name in INLINE.findall(row[0])}
    for name, word in BY_NAME.items():
        assert word.traits.write_verb in needs[name]
        assert [resource.plural for resource in word.traits.reads if resource.plural not in needs[name]] == []


def test_the_lab_has_what_its_page_names() -> None:
    text = (DOCS / "lab.md").read_text("utf-8")
    for line in command_lines(text, "python -m tests.lab"):
        words = shlex.split(line, comments=True)[3:]
        chosen = vars(lab_parser().parse_args(words)).get("scenario")
        assert chosen in (None, "NAME", *scenario.names())
    stages = (ROOT / "tests" / "lab" / "stages" / "pod-faults.yaml").read_text("utf-8")
    kinds = {
        kind for values in re.findall(r'"@include fault.jq", operator: In, values: \[([^\]]+)\]', stages) for kind in values.split(", ")
    }
    faults = {row[0].strip("`"): row[1] for row in rows(text, "## Faults")}
    assert set(INLINE.findall(faults["kind"])) - {"tests/lab/stages/pod-faults.yaml"} == kinds
    fields = {"class" if field.name == "cause_class" else field.name for field in dataclasses.fields(scenario.Expectation)}
    assert fields <= set(INLINE.findall(FENCED.sub("", text)))


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    lines = command_lines(document.read_text("utf-8"), "make")
    assert [line for line in lines if shlex.split(line, comments=True)[1] not in targets] == []
