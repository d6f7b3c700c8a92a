"""The taints that DeviceTaintRules add to published devices, as the scheduler's tracker adds them.

Ported from `applyPatches` (k8s.io/dynamic-resource-allocation/resourceslice/tracker, 1.33 to 1.37). What cannot be evaluated here taints
nothing, and its rule is named in `unclear`. It judges no request: that is `device_allocation`'s work.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from cluster.facts.dra import Device, DeviceClass, DeviceSelector, DeviceTaint, DeviceTaintRule, ResourceSlice
from cluster.world import Presence, World
from runbooks.device_selector import Answer, selection


class TaintRules:
    """The slices of a world, their devices with the taints of its rules too; use it through `world.once(TaintRules)`. `unclear` names the
    rules of which it cannot be told whether they taint a device that they may be about."""

    def __init__(self, world: World) -> None:
        self._selection = world.once(selection)
        # With what a device has to meet besides the names in the rule, None where that cannot be seen.
        self._rules = tuple((rule, asked) for rule in world.all(DeviceTaintRule) for asked in _expressions(world, rule))
        published = world.all(ResourceSlice)
        self._published = {item.name: item for item in published}
        unclear: set[str] = set()
        self.slices = tuple(self._tainted(item, unclear) for item in published) if self._rules else published
        self.unclear = tuple(sorted(unclear))

    def rule_of(self, taint: DeviceTaint, item: ResourceSlice, device: Device) -> DeviceTaintRule | None:
        """The rule that gave a device of a slice a taint, None where its driver did."""
        own = next((one for one in self._published[item.name].spec.devices or () if one.name == device.name), device)
        if taint in (own.taints or ()):
            return None
        mine = (rule for rule, asked in self._rules if rule.spec.taint == taint and self._answer(rule, asked, item, own) is Answer.YES)
        return next(mine, None)

    def _tainted(self, item: ResourceSlice, unclear: set[str]) -> ResourceSlice:
        devices, changed = [], False
        for device in item.spec.devices or ():
            answers = [(rule, self._answer(rule, asked, item, device)) for rule, asked in self._rules]
            more = tuple(rule.spec.taint for rule, answer in answers if answer is Answer.YES)
            unclear.update(rule.name for rule, answer in answers if answer is Answer.UNKNOWN)
            devices.append(replace(device, taints=(*(device.taints or ()), *more)) if more else device)
            changed = changed or bool(more)
        return replace(item, spec=replace(item.spec, devices=tuple(devices))) if changed else item

    def _answer(self, rule: DeviceTaintRule, asked: tuple[str, ...] | None, item: ResourceSlice, device: Device) -> Answer:
        """YES, NO or UNKNOWN. An expression that fails on a device does not select it; unlike a request's, it ends nothing."""
        if not rule.may_taint(item.spec.driver, item.spec.pool.name, device.name):
            return Answer.NO
        answers = {self._selection.answer(text, device, item.spec.driver) for text in asked or ()}
        if answers - {Answer.YES, Answer.UNKNOWN}:
            return Answer.NO
        return Answer.UNKNOWN if asked is None or Answer.UNKNOWN in answers else Answer.YES


def _expressions(world: World, rule: DeviceTaintRule) -> Iterator[tuple[str, ...] | None]:
    """The expressions of the rule and of its class; nothing at all where the class does not exist, for then the rule is about no device."""
    chosen = rule.spec.device_selector
    if chosen is None or chosen.device_class_name is None:
        yield _of(chosen.selectors if chosen is not None else None)
        return
    class_ = world.get(DeviceClass, None, chosen.device_class_name)
    if class_ is not None:
        yield (*_of(class_.spec.selectors), *_of(chosen.selectors))
    elif world.presence(DeviceClass.kind, None, chosen.device_class_name) is not Presence.ABSENT:
        yield None


def _of(selectors: tuple[DeviceSelector, ...] | None) -> tuple[str, ...]:
    return tuple(item.cel.expression for item in selectors or () if item.cel)


def fenced(device: Device) -> bool:
    """Whether a device is kept from whoever does not tolerate its taints; those of effect None only tell."""
    return any(taint.effect in ("NoSchedule", "NoExecute") for taint in device.taints or ())
