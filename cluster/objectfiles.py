"""Which files of a recording hold its objects, and the objects in them, whoever wrote the recording.

Ours has one file of them, `kubectl cluster-info dump` one per kind and namespace, `kubectl get -o yaml` is a file alone. Files are bounded
before they are read. What an object means is `cluster.recorded`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cluster.errors import RecordingError
from cluster.logfiles import scan
from cluster.manifest import MANIFEST_NAME, OBJECTS_NAMES

FILE_BYTES_LIMIT = 256 * 1024 * 1024
TELEMETRY_NAMES = ("metrics.csv", "alerts.json", "node_services.json", "connectivity.json", "dependencies.json")


def object_files(folder: Path) -> list[Path]:
    """The files to read objects from, in order. RecordingError where a folder has none."""
    if folder.is_file():
        return [folder]
    own = next((folder / name for name in OBJECTS_NAMES if (folder / name).is_file()), None)
    if own is not None:
        return [own]
    dump = sorted(path for pattern in ("*.json", "*.yaml", "*/*.json", "*/*.yaml") for path in folder.glob(pattern))
    files = [path for path in dump if path.name != MANIFEST_NAME and path.parent.name != "logs"]
    if not files:
        raise RecordingError(f"{folder} is no recording: it has no {OBJECTS_NAMES[0]}. Make one with 'smokejumper record -o DIR'.")
    return files


def is_ours(folder: Path) -> bool:
    """Whether a folder looks like a recording even though no object is left in it."""
    names = (*OBJECTS_NAMES, MANIFEST_NAME, *TELEMETRY_NAMES)
    return folder.is_dir() and (any((folder / name).is_file() for name in names) or bool(scan(folder)))


def objects_in(documents: Iterable[Any]) -> Iterator[tuple[Any, str | None]]:
    """(object, kind that its list implies): `kubectl cluster-info dump` writes a PodList whose items have no kind."""
    for document in documents:
        if isinstance(document, dict) and str(document.get("kind", "")).endswith("List"):
            implied = str(document["kind"]).removesuffix("List") or None
            items = document.get("items")
            yield from ((item, implied) for item in (items if isinstance(items, list) else ()))
        elif isinstance(document, list):
            yield from ((item, None) for item in document)
        elif document is not None:
            yield document, None


def read_bytes(path: Path) -> bytes:
    """A whole file. RecordingError where it is too large or cannot be read."""
    try:
        if path.stat().st_size > FILE_BYTES_LIMIT:
            raise RecordingError(f"{path} is larger than {FILE_BYTES_LIMIT} bytes. Record fewer namespaces.")
        return path.read_bytes()
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror or error}. Check the path and its permissions.") from error
