"""Postponed packages: nothing of them runs at import, everything is there once asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError, create_model

from cluster.postponed import postponed, postponed_validators
from tests.patience import WAIT_SECONDS

BODY = """
from later_package.part import PART
import sys
sys.modules["later_record"].ran += 1
VALUE = PART + 1
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package whose body counts its runs in a module of its own."""
    folder = tmp_path / "later_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(BODY, encoding="utf-8")
    (folder / "part.py").write_text("PART = 1", encoding="utf-8")
    (tmp_path / "later_record.py").write_text("ran = 0", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in ("later_package", "later_package.part", "later_package.other", "later_record"):
        sys.modules.pop(name, None)


def runs() -> int:
    count: int = importlib.import_module("later_record").ran
    return count


@pytest.mark.usefixtures("package")
def test_a_module_is_imported_without_the_body_of_its_package() -> None:
    assert runs() == 0
    with postponed("later_package"):
        part = importlib.import_module("later_package.part")
    assert (part.PART, runs()) == (1, 0)
    whole = importlib.import_module("later_package")
    assert (whole.VALUE, runs()) == (2, 1)
    assert (whole.VALUE, whole.part, runs()) == (2, part, 1)
    assert type(whole) is type(sys)
    with pytest.raises(AttributeError, match="no attribute 'NOTHING'"):
        _ = whole.NOTHING


@pytest.mark.usefixtures("package")
def test_a_name_that_the_body_does_not_define_is_missing_as_ever() -> None:
    runs()
    with postponed("later_package"):
        whole = importlib.import_module("later_package")
    with pytest.raises(AttributeError, match="'later_package' has no attribute 'NOTHING'"):
        _ = whole.NOTHING
    assert (whole.VALUE, runs()) == (2, 1)


@pytest.mark.usefixtures("package")
def test_threads_that_ask_at_once_run_the_body_once() -> None:
    runs()
    with postponed("later_package"):
        whole = importlib.import_module("later_package")
    together, seen = threading.Barrier(8), []

    def ask() -> None:
        together.wait()
        seen.append(whole.VALUE)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (seen, runs()) == ([2] * 8, 1)


def test_a_body_and_an_import_that_wait_for_each_other_both_end(package: Path) -> None:
    """One thread is in the body and imports a module, which another thread is importing; that one asks for a name of the package."""
    meet = "import sys\nsys.modules['later_record'].meet.wait(sys.modules['later_record'].seconds)\n"
    (package / "__init__.py").write_text(f"{meet}import later_package.part\nVALUE = 2", encoding="utf-8")
    (package / "part.py").write_text(f"{meet}from later_package import other\nPART = 1", encoding="utf-8")
    (package / "other.py").write_text("", encoding="utf-8")
    importlib.import_module("later_record").__dict__.update(meet=threading.Barrier(2), seconds=WAIT_SECONDS)
    with postponed("later_package"):
        whole = importlib.import_module("later_package")
    seen: list[int] = []
    asking = threading.Thread(target=lambda: seen.append(whole.VALUE), daemon=True)
    importing = threading.Thread(target=lambda: seen.append(importlib.import_module("later_package.part").PART), daemon=True)
    for thread in (asking, importing):
        thread.start()
    for thread in (asking, importing):
        thread.join(WAIT_SECONDS)
    assert sorted(seen) == [1, 2]
    assert type(whole) is type(sys)


def test_a_body_that_fails_is_tried_again(package: Path) -> None:
    runs()
    (package / "__init__.py").write_text("import sys\nVALUE = 2 if sys.modules['later_record'].ran else 1 / 0", encoding="utf-8")
    with postponed("later_package"):
        whole = importlib.import_module("later_package")
    with pytest.raises(ZeroDivisionError):
        _ = whole.VALUE
    importlib.import_module("later_record").__dict__["ran"] = 1
    assert whole.VALUE == 2


@pytest.mark.usefixtures("package")
def test_what_was_not_named_and_what_is_no_package_import_as_ever() -> None:
    with postponed("later_record", "later_absent"):
        assert runs() == 0
        assert (importlib.import_module("later_package").VALUE, runs()) == (2, 1)
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("later_absent")


MESSAGES = """
from cluster.postponed import postponed_validators

with postponed_validators():
    import mcp.server.mcpserver
import mcp_types._v2026_07_28 as wire
from mcp_types.methods import validate_client_request
from pydantic import BaseModel, ValidationError

models = [model for model in vars(wire).values() if isinstance(model, type) and issubclass(model, BaseModel)]
print(len(models) > 100, [model.__name__ for model in models if model.__pydantic_complete__])
try:
    validate_client_request("tools/call", "2025-11-25", {"name": 1})
except ValidationError:
    print("refused")
validate_client_request("tools/call", "2025-11-25", {"name": "pods_list"})
print("accepted")
"""


def test_no_message_is_prepared_before_it_comes_and_each_is_checked_when_it_does() -> None:
    done = subprocess.run([sys.executable, "-c", MESSAGES], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "[]", "refused", "accepted"], done.stderr


def test_models_defined_afterwards_are_built_at_once() -> None:
    with postponed_validators():
        later = create_model("Later", number=(int, ...))
    assert not later.__pydantic_complete__
    assert create_model("AtOnce", number=(int, ...)).__pydantic_complete__
    with pytest.raises(ValidationError):
        later(number="a word")
    assert later.__pydantic_complete__
