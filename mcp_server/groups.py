"""The groups that tools are switched by. Words only, because settings read them at every start; `ownership` says whose kinds are whose."""

from __future__ import annotations

from typing import Literal, get_args

Group = Literal["core", "storage", "gpu", "inference", "queueing", "training", "investigation", "remediation"]
GROUPS: tuple[Group, ...] = get_args(Group)
DEFAULT_GROUPS: tuple[Group, ...] = ("core", "gpu", "inference", "remediation")
