"""`recording.yaml`: what a recording is a recording of. It makes absence provable: what was read and is not there did not exist."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from cluster.errors import RecordingError
from cluster.reading import Missing
from cluster.yamltext import load_documents

MANIFEST_NAME = "recording.yaml"
OBJECTS_NAMES = ("objects.yaml", "objects.yml", "objects.json")
FORMAT = 1
BYTES_LIMIT = 4 * 1024 * 1024


class Manifest(Struct, frozen=True):
    """`now` is when it was taken. `namespaces` empty means all. `kinds_read` were listed in full, save what `missing` names.

    `objects` is how many there are, so that a copy which lost some is noticed; None in recordings that do not say.
    """

    format: int = FORMAT
    cluster: str = ""
    now: datetime | None = None
    namespaces: tuple[str, ...] = ()
    kinds_read: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()
    objects: int | None = None


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder; an empty one where there is none. RecordingError when it is there and cannot be understood."""
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return Manifest()
    try:
        content = path.read_bytes()[:BYTES_LIMIT]
        documents: list[Any] = load_documents(content, str(path)) or [{}]
        manifest = msgspec.convert(documents[0], Manifest, strict=False)
    except (OSError, msgspec.ValidationError) as error:
        raise RecordingError(f"cannot understand {path}: {error}. Record it again, or delete that file.") from error
    if manifest.format > FORMAT:
        raise RecordingError(f"{path} has format {manifest.format}; this version reads up to {FORMAT}. Upgrade Smokejumper.")
    if manifest.now is not None and manifest.now.tzinfo is None:
        raise RecordingError(f"{path}: 'now' has no time zone. Write it as 2026-01-02T03:04:05Z.")
    return manifest
