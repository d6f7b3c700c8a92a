"""What could not be seen, told by reason: of twenty kinds that an account may not list, a person needs one line and not twenty.

It does not say what a gap means for a diagnosis, and drops no gap: how many there are stays in what is told.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from cluster.kinds import BY_NAME
from cluster.reading import Missing

NAMES_SHOWN = 6
# An API server's refusal names the resource (apiserver, pkg/endpoints/handlers/responsewriters/errors.go, ForbiddenMessage), and our
# advice does (`cluster.response`); account and reach, which follow, are the reason.
_REFUSED = re.compile(r'\S+(?: "[^"]*")? is forbidden: (User ".*" cannot \S+) resource "[^"]*" in API group "[^"]*"')
_GRANT = re.compile(r"(\bget,list on )\S+(?= in )")


def by_reason(missing: Iterable[Missing], names_shown: int = NAMES_SHOWN) -> list[Missing]:
    """A gap for each reason, in the order of the first of each. Several that share one are told as one: `nodes, leases and 9 more`."""
    groups: dict[tuple[object, ...], list[Missing]] = defaultdict(list)
    for item in missing:
        groups[item.why, *_reason(item)].append(item)
    return [group[0] if len(group) == 1 else _together(group, names_shown) for group in groups.values()]


def _reason(item: Missing) -> tuple[str, str]:
    """Detail and next step, without which resource they are about."""
    return _REFUSED.sub(r"\1 them", item.detail), _GRANT.sub(r"\1them", item.next_step)


def _together(group: Sequence[Missing], names_shown: int) -> Missing:
    namespaces = {item.namespace for item in group}
    namespace = group[0].namespace if len(namespaces) == 1 else None
    # Several gaps of one kind, such as the logs of several pods, or of several namespaces are told apart by what they are.
    by_kind = len({item.kind for item in group}) == len(group) and len(namespaces) == 1
    names = ", ".join((item.kind if by_kind and _is_listing(item) else None) or item.what for item in group[:names_shown])
    more = f" and {len(group) - names_shown} more" if len(group) > names_shown else ""
    detail, next_step = _reason(group[0])
    where = f" in {namespace}" if by_kind and namespace and f'"{namespace}"' not in detail else ""
    return replace(group[0], what=names + more + where, detail=detail, next_step=next_step, kind=None, namespace=namespace)


def _is_listing(item: Missing) -> bool:
    """Whether nothing of its kind was seen there. Where one log or the rest of a list is missing, the kind alone would say too much."""
    kind = BY_NAME.get(item.kind or "")
    return kind is not None and item.what.startswith(kind.plural) and " after the first " not in item.what
