"""Keeps the names of public diagnosis suites, their fault injectors and their demo applications out of the product.

    python -m tests.suite_names

fails when a package names one: a detector that knows a suite's names has learned the examination instead of the trade. Words are
found however they are written (Social Network, social-network, socialNetwork). Names that are ordinary words (geo, rate, user) are not
listed: nothing general could be written without them. This file is the only one that has to name them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRODUCT = ("guardrails", "cluster", "runbooks", "mcp_server", "agent", "oncall")
SUITES = (
    "aiopslab",
    "sregym",
    "itbench",
    "k8sgpt",
    "holmesgpt",
    "k8s ai bench",
    "kubectl ai",
    "kubernetes mcp server",
    "openrca",
    "rcaeval",
)
INJECTORS = ("chaos mesh", "chaosmesh", "chaosblade", "chaos blade", "litmuschaos", "litmus chaos", "pumba", "powerfulseal", "flagd")
APPLICATIONS = (
    "astronomy shop",
    "bookinfo",
    "book info",
    "hotel reservation",
    "hotelreservation",
    "online boutique",
    "otel demo",
    "opentelemetry demo",
    "sock shop",
    "social network",
    "death star bench",
    "train ticket",
    "webshop",
    "compose post",
    "home timeline",
    "user timeline",
    "nginx thrift",
    "productpage",
    "product catalog",
    "checkoutservice",
    "frontend proxy",
)
NAMES = (*SUITES, *INJECTORS, *APPLICATIONS)
PATTERN = re.compile(r"(?<![a-z0-9])(?:" + "|".join(name.replace(" ", "[-_. ]?") for name in NAMES) + r")(?:s|service)?(?![a-z0-9])", re.I)


def named(text: str) -> list[str]:
    """The suites, injectors and applications that a text names, as written."""
    return [found.group() for found in PATTERN.finditer(text)]


def findings(root: Path, packages: tuple[str, ...] = PRODUCT) -> Iterator[str]:
    """One line for each place in the packages below `root`: in the text of a file or in its name."""
    for path in sorted(path for package in packages for path in (root / package).rglob("*") if path.is_file()):
        if path.suffix == ".pyc":
            continue
        where = path.relative_to(root)
        for name in named(str(where)):
            yield f"{where}: the file's name has {name!r}"
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
            for name in named(line):
                yield f"{where}:{number}: {name!r}"


def main(root: Path = ROOT) -> int:
    lines = list(findings(root))
    for line in lines:
        print(f"{line} is a name of a public suite; fix the cause in general", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
