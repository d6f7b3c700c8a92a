"""What the owner of the platform says about clusters and namespaces: environments, teams, protection, freezes.

Everything is production until it is said to be something else, so a forgotten line makes the policy stricter, never laxer.
"""

from __future__ import annotations

from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"no time zone is called {value!r}") from error
    return value


class Freeze(BaseModel):
    """No changes from `start` to before `end` in the environments that match the pattern."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: AwareDatetime
    end: AwareDatetime
    environments: str = "*"
    reason: str = ""


class Estate(BaseModel):
    """Patterns are shell patterns; the first that matches counts, namespaces before clusters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str = "default"
    time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    default_environment: str = "prod"
    namespace_environments: dict[str, str] = {}
    cluster_environments: dict[str, str] = {}
    namespace_teams: dict[str, str] = {}
    protected_namespaces: tuple[str, ...] = ()
    freezes: tuple[Freeze, ...] = ()

    def environment(self, cluster: str, namespace: str | None) -> str:
        by_namespace = _first(self.namespace_environments, namespace) if namespace else None
        return by_namespace or _first(self.cluster_environments, cluster) or self.default_environment

    def team(self, namespace: str | None) -> str:
        return (_first(self.namespace_teams, namespace) if namespace else None) or ""

    def is_protected(self, namespace: str | None) -> bool:
        return namespace is not None and any(fnmatchcase(namespace, pattern) for pattern in self.protected_namespaces)

    def is_frozen(self, moment: datetime, environment: str) -> bool:
        return any(f.start <= moment < f.end and fnmatchcase(environment, f.environments) for f in self.freezes)

    def local(self, moment: datetime) -> tuple[int, int]:
        """(weekday 1 to 7, minute of the day) in the platform's time zone."""
        local = moment.astimezone(ZoneInfo(self.time_zone))
        return local.isoweekday(), local.hour * 60 + local.minute


def _first(patterns: dict[str, str], name: str) -> str | None:
    return next((value for pattern, value in patterns.items() if fnmatchcase(name, pattern)), None)
