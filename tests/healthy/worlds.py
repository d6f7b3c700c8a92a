"""One healthy world as one compressed file, and as the recording that a reader opens. Packing the same world twice gives the same bytes.

A file is gzip over YAML: `about` says how the world was made, `manifest` and `objects` are a recording's two files, `logs` its log files
by name. `python -m tests.healthy unpack SEED DIR` makes a folder of it that `smokejumper diagnose --recording DIR` reads.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cluster.manifest import MANIFEST_NAME, OBJECTS_NAMES

FOLDER = Path(__file__).parent / "worlds"
ENDING = ".yaml.gz"

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


@dataclass(frozen=True)
class HealthyWorld:
    """`about` has seed, namespace, parts and pasts; `manifest`, `objects` and `logs` are texts of a recording's files."""

    about: dict[str, Any]
    manifest: str
    objects: str
    logs: dict[str, str] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return str(self.about["namespace"])

    def unpack(self, folder: Path) -> Path:
        """Write it as a recording into `folder`, which must not exist."""
        folder.mkdir(parents=True)
        (folder / MANIFEST_NAME).write_text(self.manifest, "utf-8")
        (folder / OBJECTS_NAMES[0]).write_text(self.objects, "utf-8")
        for name, text in self.logs.items():
            (folder / "logs").mkdir(exist_ok=True)
            (folder / "logs" / name).write_text(text, "utf-8")
        return folder


def dump(document: Any) -> str:
    """YAML as these files have it."""
    return str(yaml.dump(document, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=140))


def path_of(seed: int, folder: Path = FOLDER) -> Path:
    return folder / f"{seed:04}{ENDING}"


def seeds(folder: Path = FOLDER) -> tuple[int, ...]:
    """The seeds whose worlds are kept."""
    return tuple(sorted(int(path.name.removesuffix(ENDING)) for path in folder.glob(f"*{ENDING}")))


def write(world: HealthyWorld, folder: Path = FOLDER) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(world.about["seed"], folder)
    document = {"about": world.about, "manifest": world.manifest, "objects": world.objects, "logs": world.logs}
    path.write_bytes(gzip.compress(dump(document).encode(), 9, mtime=0))
    return path


def read(seed: int, folder: Path = FOLDER) -> HealthyWorld:
    document = yaml.load(gzip.decompress(path_of(seed, folder).read_bytes()), Loader=_Loader)
    about = document["about"] | {"seed": seed}
    return HealthyWorld(about, document["manifest"], document["objects"], document["logs"] or {})
