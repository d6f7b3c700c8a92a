"""Prints the diagnosis documents of many worlds whose objects were shuffled: `python -m tests.runbooks.shuffled SEED`.

A process of its own for each seed, because the order of sets follows PYTHONHASHSEED, which only a new process can change. Seed 0 leaves
the objects as they are.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

from agent.budget import Limits
from agent.incident import Incident
from agent.investigation import in_process, run
from cluster.manifest import MANIFEST_NAME, OBJECTS_NAMES
from cluster.recorded import RecordedReader
from cluster.reference import Scope
from cluster.yamltext import load_documents
from runbooks.document import diagnosis_document
from tests.adversarial import worlds as adversarial
from tests.healthy import worlds as healthy

ROOT = Path(__file__).parent.parent.parent
# Of the healthy worlds a few, spread over the seeds: where nothing is said, order can hardly matter.
HEALTHY_EVERY = 40
# Of the lab's recordings so many that a run stays quick; every example is compared.
RECORDING_EVERY = 6
World = tuple[Callable[[Path], Path], str | None, str | None]


def worlds() -> Iterator[tuple[str, World]]:
    """(name, (what unpacks it into a new folder, namespace, question)) of every world that is compared."""
    for name in adversarial.names():
        adversary = adversarial.read(name)
        yield f"adversarial/{name}", (adversary.unpack, adversary.namespace, adversary.question)
    for seed in healthy.seeds()[::HEALTHY_EVERY]:
        world = healthy.read(seed)
        yield f"healthy/{seed}", (world.unpack, world.namespace, None)
    for folder in recordings():
        yield folder.relative_to(ROOT).as_posix(), (partial(_copied, folder), None, "What is broken?")


def recordings() -> tuple[Path, ...]:
    examples, recorded = (
        sorted(path.parent for path in (ROOT / where).glob("*/objects.yaml")) for where in ("examples", "tests/recordings")
    )
    return (*examples, *recorded[::RECORDING_EVERY])


def names() -> tuple[str, ...]:
    """The names that `worlds` yields, without reading them."""
    kept = [f"healthy/{seed}" for seed in healthy.seeds()[::HEALTHY_EVERY]]
    return (*(f"adversarial/{name}" for name in adversarial.names()), *kept, *(one.relative_to(ROOT).as_posix() for one in recordings()))


def main(seed: int) -> None:
    documents = {}
    with tempfile.TemporaryDirectory(prefix="smokejumper-order-") as name:
        for number, (world, (unpack, namespace, question)) in enumerate(worlds()):
            recording = unpack(Path(name) / str(number))
            if seed:
                _shuffle(recording, Random(seed))
            documents[world] = asyncio.run(said(recording, namespace, question))
    json.dump(documents, sys.stdout)


async def said(recording: Path, namespace: str | None, question: str | None) -> str:
    """The whole document, remedies with it, as text. It has no seconds in it."""
    reader = RecordedReader.open(recording)
    scope = Scope("recording", (namespace,) if namespace else ())
    concluded = await run(Incident("one-shot", scope, question), reader, in_process(reader, Limits()))
    return json.dumps(diagnosis_document(concluded.diagnosis, concluded.remedies), ensure_ascii=False)


def _shuffle(recording: Path, random: Random) -> None:
    (objects,) = (path for name in OBJECTS_NAMES if (path := recording / name).is_file())
    (listing,) = load_documents(objects.read_bytes(), objects.name)
    random.shuffle(listing["items"])
    objects.unlink()
    (recording / OBJECTS_NAMES[-1]).write_text(json.dumps(listing), "utf-8")


def _copied(recording: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in sorted(recording.rglob("*")):
        if path.is_file() and (path.parent.name == "logs" or path.name in (MANIFEST_NAME, OBJECTS_NAMES[0])):
            target = folder / path.relative_to(recording)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    return folder


if __name__ == "__main__":
    main(int(sys.argv[1]))
