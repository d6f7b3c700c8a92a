"""Postpones what a library brings at its import and we hardly use, so that nobody waits for it and no server holds it: whole packages, and
the validators of Pydantic's models.

LangGraph brings the client of a tracing service and that of a hosted LangGraph, a third of what its import takes; the Kubernetes client
brings its models, watches, informers and a second transport. Within `postponed` the body of such a package (its `__init__`, which
imports the rest) does not run at its import but when a name of it is first asked for. It is the real package then, and its modules can
be imported one by one before: nothing is replaced, and a package that was imported already, or that is not there, is left alone. The
standard library's `importlib.util.LazyLoader` cannot do it, because it runs the body of a package when one of its modules is imported.

A body runs under the import system's own lock of its package. A lock of ours could end in a deadlock: one thread in the body would wait
for the import of a module, another one in that import for a name of the package. The import system sees such a circle among its own
locks, and lets one of the two go on with what is there, as in any import in a circle.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import _bootstrap
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_BODY = "_postponed_body"


@contextmanager
def postponed_validators() -> Iterator[None]:
    """While the block runs, Pydantic models that are defined build their validators later: each when it is first used.

    The MCP SDK defines some 300 models for the messages of two revisions, LangGraph brings a hundred of LangChain and of a tracing service,
    and a process uses a dozen. `defer_build` is Pydantic's own switch for it, which every model inherits from `BaseModel`
    (docs.pydantic.dev, "Configuration"); it changes no model and no check.
    """
    from pydantic import BaseModel

    before = BaseModel.model_config.get("defer_build", False)
    BaseModel.model_config["defer_build"] = True
    try:
        yield
    finally:
        BaseModel.model_config["defer_build"] = before


@contextmanager
def postponed(*packages: str) -> Iterator[None]:
    """While the block runs, imports of these packages run their bodies later: when somebody first asks for a name in them."""
    finder = _Finder(frozenset(packages))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    def __init__(self, packages: frozenset[str]) -> None:
        self._packages = packages

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self._packages:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None or spec.submodule_search_locations is None:
            return None
        spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, real: Loader) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._real
        if module.__spec__ is not None:
            module.__spec__.loader = self._real
        module.__dict__[_BODY] = self._real.exec_module
        module.__class__ = _Postponed


class _Postponed(ModuleType):
    """A package whose body has not run, or is running: other threads wait for its end."""

    def __getattr__(self, name: str) -> Any:
        try:
            with _bootstrap._ModuleLockManager(self.__name__):  # type: ignore[attr-defined]
                ready = type(self) is ModuleType or self._run()
        except _bootstrap._DeadlockError:  # type: ignore[attr-defined]
            ready = False
        if not ready:
            # What the body asks for before it defines it is not there, as in any import.
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self, name)

    def _run(self) -> bool:
        """Run the body; False where it runs already, which is what asks."""
        body = self.__dict__.pop(_BODY, None)
        if body is None:
            return False
        try:
            body(self)
        except BaseException:
            self.__dict__[_BODY] = body
            raise
        ModuleType.__setattr__(self, "__class__", ModuleType)
        return True
