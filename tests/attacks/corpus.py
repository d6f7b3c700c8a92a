"""Reads the corpus and says which surfaces do not exist yet, and how the tree would show that one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tests.yamltext import document

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FILES = ("text", "arguments", "approvals", "sinks")
MISSING = "missing: "


class Order(BaseModel):
    """A call that an obedient client makes. `$last` stands for the proposal made last; `refused`: it must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool: str
    arguments: dict[str, Any]
    refused: bool = False


class Attack(BaseModel):
    """One entry. `never` must not leave, `shown` must be there in its place, `expect` is a pattern or a word of its runner."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int
    what: str
    surface: str
    input: Any = None
    orders: tuple[Order, ...] = ()
    expect: str = ""
    shown: str = ""
    never: tuple[str, ...] = ()

    @property
    def missing(self) -> str:
        """The surface that does not exist yet, "" when the attack runs."""
        return self.surface.removeprefix(MISSING) if self.surface.startswith(MISSING) else ""

    def __str__(self) -> str:
        return f"{self.id} {self.what}"


def read(file: str) -> tuple[Attack, ...]:
    """All attacks of one of FILES."""
    return tuple(Attack.model_validate(entry) for entry in document((HERE / f"{file}.yaml").read_text(encoding="utf-8")))


def everything() -> tuple[Attack, ...]:
    """The whole corpus."""
    return tuple(attack for file in FILES for attack in read(file))


def runnable(file: str, *surfaces: str) -> list[Attack]:
    """The attacks of a file whose surface exists, of these surfaces only when there are any."""
    return [attack for attack in read(file) if not attack.missing and (not surfaces or attack.surface in surfaces)]


# Where in the tree a missing surface would appear, and the word in it that tells.
SIGNS: dict[str, tuple[tuple[str, str], ...]] = {
    "slack": (("oncall/**/*.py", "slack_sdk"), ("oncall/**/*.py", "X-Slack-Signature"), ("oncall/slack*", "")),
    "approval page": (("oncall/**/*.py", "starlette"), ("oncall/**/*.py", "uvicorn"), ("oncall/web*", "")),
    "external tools": (("mcp_server/**/*.py", "ClientSession"), ("agent/**/*.py", "ClientSession"), ("agent/**/*.py", "mcp.client")),
}


def appeared(surface: str) -> list[str]:
    """The files that show that a surface exists by now."""
    files = ((path, word) for pattern, word in SIGNS[surface] for path in sorted(ROOT.glob(pattern)) if "__pycache__" not in path.parts)
    return [str(path.relative_to(ROOT)) for path, word in files if not word or (path.is_file() and word in path.read_text("utf-8"))]
