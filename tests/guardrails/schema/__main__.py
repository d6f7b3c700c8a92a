"""Write the definitions of the present version where they are not written yet."""

from __future__ import annotations

import sys

from tests.guardrails.schema.definitions import DEFINITIONS, file_of

for name, define in DEFINITIONS.items():
    place = file_of(name)
    if place.exists():
        print(f"{place} is there already. Raise VERSION, or delete it while no release has that version.", file=sys.stderr)
    else:
        place.write_text(define(), "utf-8")
        print(f"{place} is written")
