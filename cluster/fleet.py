"""The clusters we know of, by the name of their context, and the one way to connect to one.

It decides which configuration holds (files that were named, `KUBECONFIG`, the default file, the pod's own account) and nothing
else. The Kubernetes client is imported when a connection is made, so that a command which needs no cluster starts fast.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from cluster.credentials import Impersonation, Target, in_cluster
from cluster.errors import UnknownContextError
from cluster.kubeconfig import Kubeconfig, read_kubeconfig

if TYPE_CHECKING:
    from cluster.connection import Connection

NAMES_SHOWN = 10


class Context(Struct, frozen=True):
    """One entry of the inventory. `current` is the one used when none is named."""

    name: str
    cluster: str
    user: str | None = None
    namespace: str | None = None
    current: bool = False


class Fleet:
    """An inventory of clusters. Made by `find`; several connections may be open at once."""

    def __init__(
        self, kubeconfig: Kubeconfig | None, pod: Target | None, environment: Mapping[str, str], clock: Callable[[], datetime]
    ) -> None:
        self._kubeconfig = kubeconfig
        self._pod = pod
        self._environment = environment
        self._clock = clock

    @classmethod
    def find(
        cls,
        environment: Mapping[str, str],
        home: Path,
        clock: Callable[[], datetime],
        kubeconfig: Path | None = None,
    ) -> Fleet:
        """The inventory as kubectl would see it: `kubeconfig` alone when given, else KUBECONFIG, else ~/.kube/config, else the pod.

        UnknownContextError says where was looked when there is nothing at all; CredentialError when a file is unreadable.
        """
        paths = _paths(environment, home, kubeconfig)
        files = read_kubeconfig(paths)
        if kubeconfig is not None and files is None:
            raise UnknownContextError(f"there is no kubeconfig at {kubeconfig}. Name another file.")
        pod = in_cluster(environment) if files is None or not files.contexts else None
        if pod is None and (files is None or not files.contexts):
            looked = ", ".join(str(path) for path in paths)
            raise UnknownContextError(
                f"no cluster is configured: no context in {looked}, and this process runs in no pod with a service account. "
                "Set KUBECONFIG or pass a kubeconfig; a recording needs none."
            )
        return cls(files, pod, environment, clock)

    def contexts(self) -> tuple[Context, ...]:
        """Every context, sorted by name, the current one marked."""
        if self._pod is not None:
            return (Context(self._pod.context, self._pod.context, "service account", self._pod.namespace, current=True),)
        assert self._kubeconfig is not None
        current = self._kubeconfig.current
        return tuple(
            Context(name, entry.cluster, entry.user, entry.namespace, name == current)
            for name, entry in sorted(self._kubeconfig.contexts.items())
        )

    def target(self, context: str | None = None) -> Target:
        """What a context means; the current one when None. UnknownContextError names the near ones."""
        if self._pod is not None and context in (None, self._pod.context):
            return self._pod
        names = [item.name for item in self.contexts()]
        if self._kubeconfig is None or (context is not None and context not in names):
            raise UnknownContextError(f"there is no context {context!r}. {_near(context or '', names)}")
        chosen = context or self._kubeconfig.current or (names[0] if len(names) == 1 else None)
        if chosen is None:
            raise UnknownContextError(f"no context was named and the kubeconfig sets no current one. {_near('', names)}")
        if chosen not in names:
            raise UnknownContextError(f"the kubeconfig's current context {chosen!r} does not exist. {_near(chosen, names)}")
        return self._kubeconfig.target(chosen)

    async def connect(self, context: str | None = None, impersonate: Impersonation | None = None) -> Connection:
        """An open connection, already logged in. `impersonate` overrides what the kubeconfig's `as:` says.

        Raises UnknownContextError and CredentialError; an unreachable server shows at the first request.
        """
        from cluster.connection import Connection

        target = self.target(context)
        configured = functools.partial(self._configured, target.context)
        return await Connection.open(target, self._environment, self._clock, impersonate, configured)

    def _configured(self, context: str) -> Target:
        """What a context means by now, in the same files. Raises UnknownContextError and CredentialError."""
        if self._kubeconfig is None:
            return self.target(context)
        files = read_kubeconfig(self._kubeconfig.paths)
        if files is None:
            raise UnknownContextError(
                f"{', '.join(str(path) for path in self._kubeconfig.paths)} is gone, and context {context!r} with it."
            )
        return Fleet(files, None, self._environment, self._clock).target(context)


def _paths(environment: Mapping[str, str], home: Path, kubeconfig: Path | None) -> Sequence[Path]:
    if kubeconfig is not None:
        return (kubeconfig,)
    listed = [part for part in environment.get("KUBECONFIG", "").split(_separator(environment)) if part]
    return tuple(Path(part).expanduser() for part in listed) or (home / ".kube" / "config",)


def _separator(environment: Mapping[str, str]) -> str:
    return ";" if environment.get("OS") == "Windows_NT" else ":"


def _near(name: str, names: Sequence[str]) -> str:
    """A hint for a person: the near names where there are some, else the first few."""
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or [other for other in names if name and name in other][:3]
    if near:
        return f"Did you mean {' or '.join(repr(item) for item in near)}?"
    shown = ", ".join(names[:NAMES_SHOWN]) or "none"
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"Known contexts: {shown}{more}."
