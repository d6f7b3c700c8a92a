"""Runs a folder of recorded cases through the agent and writes one prediction line for each: how good is a diagnosis, how long is one?

    python -m benchmarks.diagnosis CASES -o predictions.jsonl [--only SUBSTRING] [--repeat-check]

The agent is given what an on-call engineer has: objects, logs, telemetry, namespace, question and clock. Neither the expected answer
(which may be absent) nor the name of the case's folder reaches it: the reader is opened here and handed over as a reader.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import yaml

from agent.investigation import investigate
from cluster.recorded import RecordedReader
from cluster.reference import Scope
from runbooks.finding import Diagnosis

# A recording of so few objects is a review of manifests rather than of a running cluster.
REVIEW_OBJECTS = 12
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Case:
    """What a diagnosis is given of one case, and the name under which its prediction is filed."""

    name: str
    folder: Path
    question: str | None
    namespace: str | None
    now: datetime | None


@dataclass(frozen=True)
class Run:
    """One case's diagnosis and the seconds from opening the recording to the diagnosis."""

    case: Case
    diagnosis: Diagnosis
    objects: int
    seconds: float


def cases(root: Path, only: str) -> list[Case]:
    """The cases below `root` whose folder name contains `only`, in the order of their names."""
    found = []
    for folder in sorted(path.parent for path in root.glob("*/case.yaml")):
        if only in folder.name:
            document = yaml.load((folder / "case.yaml").read_text(encoding="utf-8"), Loader=_LOADER)
            now = document.get("now")
            found.append(
                Case(
                    str(document.get("id") or folder.name),
                    folder,
                    document.get("question"),
                    document.get("namespace"),
                    datetime.fromisoformat(now) if isinstance(now, str) else now,
                )
            )
    return found


def run(case: Case) -> Run:
    started = time.perf_counter()
    reader = RecordedReader.open(case.folder, case.now)
    scope = Scope("recording", (case.namespace,) if case.namespace else ())
    diagnosis = asyncio.run(investigate(reader, scope, case.question))
    return Run(case, diagnosis, reader.size, time.perf_counter() - started)


def prediction(made: Run) -> dict[str, Any]:
    """The line that the scorer reads: ranked, root causes only; where a handful of objects is reviewed, advisories are the answer."""
    said = made.diagnosis.causes or (made.diagnosis.advisories if made.objects <= REVIEW_OBJECTS else ())
    return {
        "case": made.case.name,
        "healthy": made.diagnosis.healthy and not said,
        "seconds": round(made.seconds, 4),
        "tokens": 0,
        "predictions": [
            {
                "object": {"kind": cause.object.kind, "namespace": cause.object.namespace, "name": cause.object.name},
                "class": cause.class_,
                "text": cause.explanation,
            }
            for cause in said
        ],
    }


def table(made: Run) -> str:
    first = made.diagnosis.causes[0] if made.diagnosis.causes else None
    found = f"{first.class_:34} {first.object} ({first.certainty.word})" if first else ("healthy" if made.diagnosis.healthy else "nothing")
    return f"{made.case.name[:58]:58} {made.seconds:6.2f}s {len(made.diagnosis.causes):3} {found}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.diagnosis", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path, help="folder of case folders")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where to write the prediction lines")
    parser.add_argument("--only", default="", help="only the cases whose folder name contains this")
    parser.add_argument("--repeat-check", action="store_true", help="diagnose every case twice and compare the reports byte by byte")
    options = parser.parse_args(arguments)
    made: list[Run] = []
    differing: list[str] = []
    import agent.graph  # noqa: F401 (so that the first case is not charged for the import)

    gc.freeze()
    with options.output.open("w", encoding="utf-8") as output:
        for case in cases(options.cases, options.only):
            one = run(case)
            made.append(one)
            output.write(json.dumps(prediction(one), ensure_ascii=False) + "\n")
            if options.repeat_check and msgspec.json.encode(run(case).diagnosis) != msgspec.json.encode(one.diagnosis):
                differing.append(case.name)
            print(table(one), flush=True)
    if not made:
        print(f"no case.yaml in the folders of {options.cases}", file=sys.stderr)
        return 2
    seconds = sorted(one.seconds for one in made)
    figures: dict[str, Any] = {
        "cases": len(made),
        "seconds_p50": round(statistics.median(seconds), 3),
        "seconds_p95": round(seconds[min(len(seconds) - 1, int(len(seconds) * 0.95))], 3),
        "healthy": sum(one.diagnosis.healthy for one in made),
        "answered": sum(bool(one.diagnosis.causes) for one in made),
    }
    if options.repeat_check:
        figures["differing"] = differing
    print(json.dumps(figures))
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
