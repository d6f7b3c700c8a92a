"""What a world could not see, and what therefore proves nothing.

`World.presence` tells absent from unknown. Unknown has two sorts: nobody recorded the kind, where an object that others refer to and that
nobody saw is still suspicious, and somebody was refused or cut off, where not seeing it means nothing at all.
"""

from __future__ import annotations

from cluster.reading import Why
from cluster.world import World

_REFUSED = frozenset({Why.FORBIDDEN, Why.OTHER_VERSION, Why.TIMEOUT, Why.UNREACHABLE, Why.UNAUTHENTICATED, Why.TRUNCATED, Why.MALFORMED})


def unreadable(world: World, kind: str) -> bool:
    """Whether a kind was asked for and refused or cut, so that not seeing an object of it means nothing."""
    return any(item.kind == kind and item.why in _REFUSED for item in world.missing)
