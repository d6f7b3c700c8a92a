"""What a part of a healthy world is, and the choices of which it is made.

A part is pure: the same random generator gives the same manifests. It refuses anything that a real control plane with well-behaved
kubelets would not carry to rest, because a world that never settles is not healthy.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from tests.healthy.manifests import (
    Object,
    container,
    deployment,
    service,
    template,
)

WORDS = (
    "accounts", "archive", "audit", "basket", "billing", "booking", "catalogue", "chat", "console", "crawler", "delivery", "digest",
    "editor", "export", "feed", "gallery", "geo", "import", "index", "ledger", "loyalty", "mail", "maps", "media", "notify", "orders",
    "parser", "photos", "pricing", "profile", "quotes", "ranking", "relay", "reports", "review", "router", "search", "session",
    "settings", "stock", "tagger", "tickets", "tracker", "translate", "upload", "vault", "video", "wallet",
)  # fmt: skip
PORTS = (8080, 8000, 3000, 9090, 5000, 8443)


@dataclass(frozen=True)
class Part:
    """Objects to apply, in order: `manifests` at first, `changes` once those have come to rest.

    `moving` names workloads that are still on their way when the world is recorded, and rightly so. `cluster` are cluster-scoped.
    """

    manifests: tuple[Object, ...]
    changes: tuple[Object, ...] = ()
    moving: frozenset[str] = frozenset()
    cluster: tuple[Object, ...] = ()


class Draw:
    """The choices of one world: a random generator, its namespace, and names that are used only once."""

    def __init__(self, random: Random, namespace: str) -> None:
        self.random = random
        self.namespace = namespace
        self._words = list(WORDS)
        random.shuffle(self._words)

    def name(self, ending: str = "") -> str:
        """A fresh name."""
        return f"{self._words.pop()}{ending}"

    def replicas(self) -> int:
        return self.random.choice((1, 1, 2, 2, 3, 5))

    def port(self) -> int:
        return self.random.choice(PORTS)

    def image(self, name: str) -> str:
        random = self.random
        return f"{name}/{name}:{random.randint(0, 9)}.{random.randint(0, 30)}.{random.randint(0, 9)}"

    def web(self, name: str, replicas: int | None = None, **spec: Any) -> list[Object]:
        """A Deployment with its Service."""
        port = self.port()
        pod = template(name, [container("app", self.image(name), port)], **spec)
        count = self.replicas() if replicas is None else replicas
        return [service(self.namespace, name, 80, self.random.choice((port, "http"))), deployment(self.namespace, name, count, pod)]
