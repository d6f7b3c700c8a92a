"""One action as data: reading it, whether it fits its target, and the least an account needs to do it.

Parameters are bounded here, before anything else looks at them. The words themselves are in `guardrails.vocabulary`, the kinds in
`guardrails.target`; how a word becomes a request is `guardrails.change`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Struct
from pydantic import Field, TypeAdapter, ValidationError

from guardrails.errors import InvalidAction
from guardrails.target import (
    AUTOSCALER,
    CONTROLLER_REVISION,
    DAEMON_SET,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    JOB,
    NODE,
    POD,
    REPLICA_SET,
    STATEFUL_SET,
    TARGET_RESOURCES,
    NamespaceName,
    ObjectName,
    Resource,
    Target,
    TargetKind,
    first_complaint,
    target,
)
from guardrails.vocabulary import (
    Cordon,
    DeleteClaim,
    DeleteFailedPods,
    DeletePod,
    Drain,
    EditConfigMapKey,
    EvictPod,
    ExpandVolume,
    Resume,
    RolloutPause,
    RolloutRestart,
    RolloutResume,
    RolloutUndo,
    Scale,
    SetImage,
    SetMigProfile,
    SetReplicaBounds,
    SetResources,
    Suspend,
    Taint,
    Traits,
    Uncordon,
    Untaint,
    Word,
)

__all__ = [
    "AUTOSCALER", "BY_NAME", "CONTROLLER_REVISION", "DAEMON_SET", "DEPLOYMENT", "DISRUPTION_BUDGET", "JOB", "NODE", "POD", "REPLICA_SET",
    "STATEFUL_SET", "TARGET_RESOURCES", "WORDS", "AccessRule", "Action", "Cordon", "DeleteClaim", "DeleteFailedPods", "DeletePod",
    "Drain", "EditConfigMapKey", "EvictPod", "ExpandVolume", "NamespaceName", "ObjectName", "Resource", "Resume", "RolloutPause",
    "RolloutRestart", "RolloutResume", "RolloutUndo", "Scale", "SetImage", "SetMigProfile", "SetReplicaBounds", "SetResources", "Suspend",
    "Taint", "Target", "TargetKind", "Traits", "Uncordon", "Untaint", "Word", "access", "check_target", "example", "from_words",
    "parse_action", "schemas", "target",
]  # fmt: skip

Action = Annotated[
    RolloutUndo | RolloutRestart | RolloutPause | RolloutResume | Scale | SetReplicaBounds | SetImage | SetResources
    | Cordon | Uncordon | Drain | Taint | Untaint | SetMigProfile
    | DeletePod | EvictPod | DeleteFailedPods
    | Suspend | Resume | ExpandVolume | EditConfigMapKey | DeleteClaim,
    Field(discriminator="action"),
]  # fmt: skip
WORDS: tuple[type[Word], ...] = (
    RolloutUndo, RolloutRestart, RolloutPause, RolloutResume, Scale, SetReplicaBounds, SetImage, SetResources,
    Cordon, Uncordon, Drain, Taint, Untaint, SetMigProfile,
    DeletePod, EvictPod, DeleteFailedPods,
    Suspend, Resume, ExpandVolume, EditConfigMapKey, DeleteClaim,
)  # fmt: skip
LISTING = "'smokejumper proposals actions' lists what each action takes."
_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_ADAPTER: TypeAdapter[Action] = TypeAdapter(Action)
BY_NAME: dict[str, type[Word]] = {word.model_fields["action"].default: word for word in WORDS}


class AccessRule(Struct, frozen=True, order=True):
    """One thing an account must be allowed to do: the atoms of RBAC and of an access review."""

    verb: str
    group: str
    resource: str
    subresource: str = ""

    @property
    def writes(self) -> bool:
        return self.verb not in ("get", "list", "watch")

    def __str__(self) -> str:
        whole = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {whole}/{self.subresource}" if self.subresource else f"{self.verb} {whole}"


def parse_action(document: str | bytes | dict[str, Any]) -> Action:
    """One action from JSON text or an already parsed object. Raises InvalidAction, also for duplicate keys in text."""
    try:
        value = json.loads(document, object_pairs_hook=_no_duplicates) if isinstance(document, str | bytes) else document
        return _ADAPTER.validate_python(value)
    except ValidationError as error:
        raise InvalidAction(first_complaint(error), next_step=_legal(value)) from error
    except (ValueError, RecursionError) as error:
        raise InvalidAction(f"The action is no JSON object: {str(error)[:200]}.") from error


def from_words(name: str, parameters: Mapping[str, str]) -> Action:
    """An action from a command line, where everything is text: `replicas=3`, lists with commas. Raises InvalidAction."""
    word = BY_NAME.get(name)
    if word is None:
        raise InvalidAction(f"{name[:80]!r} is no action.", next_step=f"Actions: {', '.join(BY_NAME)}.")
    legal = [field for field in word.model_fields if field != "action"]
    for unknown in sorted(set(parameters) - set(legal)):
        raise InvalidAction(f"{name} has no parameter {unknown[:80]!r}.", next_step=f"It has: {', '.join(legal) or 'none'}.")
    lacking = [field for field in legal if word.model_fields[field].is_required() and field not in parameters]
    if lacking:
        like = " ".join(f"--set {field}={word.example.get(field, '…')}" for field in lacking)
        raise InvalidAction(f"{name} needs {' and '.join(lacking)}.", next_step=f"Add it, like {like}. {LISTING}")
    properties = word.model_json_schema()["properties"]
    return parse_action({"action": name, **{key: _typed(value, properties[key]) for key, value in parameters.items()}})


def _legal(value: Any) -> str:
    """What a document could have said: the parameters of the action that it names, else the actions."""
    name = value.get("action") if isinstance(value, dict) else None
    word = BY_NAME.get(name) if isinstance(name, str) else None
    if word is None:
        return f"Actions: {', '.join(BY_NAME)}."
    fields = [key if field.is_required() else f"[{key}]" for key, field in word.model_fields.items() if key != "action"]
    return f"{name} takes: {', '.join(fields) or 'no parameters'}. {LISTING}"


def example(name: str) -> Action:
    """A legal action of that name, with every parameter that widens what it needs."""
    return parse_action({"action": name, **BY_NAME[name].example})


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema of every action by name, for tools and documentation."""
    return {name: word.model_json_schema() for name, word in BY_NAME.items()}


def check_target(action: Action, on: Target) -> None:
    """Raise InvalidAction unless the action may be done to a target of this kind."""
    if on.kind not in action.traits.kinds:
        raise InvalidAction(
            f"{action.action} does not apply to a {on.kind}.", next_step=f"It applies to: {', '.join(action.traits.kinds)}."
        )
    resource = on.resource
    if (on.group, on.version) != (resource.group, resource.version):
        raise InvalidAction(f"{on.kind} is written as {resource.group or 'core'}/{' or '.join(resource.versions)} only.")
    if resource.namespaced != (on.namespace is not None):
        raise InvalidAction(f"A {on.kind} {'needs a' if resource.namespaced else 'has no'} namespace.")


def access(action: Action, on: Target) -> tuple[AccessRule, ...]:
    """The least an account needs to do and verify this action: its writes first, then the target's read. Planning's reads are
    `traits.reads`."""
    return (*_writes(action, on), AccessRule("get", on.resource.group, on.resource.plural))


def _writes(action: Action, on: Target) -> tuple[AccessRule, ...]:
    eviction = AccessRule("create", "", "pods", "eviction")
    if isinstance(action, EvictPod):
        return (eviction,)
    if isinstance(action, Drain):
        return (AccessRule("patch", "", "nodes"), eviction)
    if isinstance(action, DeleteFailedPods):
        return (AccessRule("delete", "", "pods"),)
    if isinstance(action, SetResources) and on.kind == "Pod":
        return (AccessRule("patch", "", "pods", "resize"),)
    own = AccessRule(action.traits.write_verb, on.resource.group, on.resource.plural)
    if isinstance(action, EditConfigMapKey):
        kinds = sorted({name.partition("/")[0] for name in action.restart})
        return (own, *(AccessRule("patch", TARGET_RESOURCES[kind].group, TARGET_RESOURCES[kind].plural) for kind in kinds))
    return (own,)


def _typed(text: str, schema: dict[str, Any]) -> Any:
    """The text as the type that the parameter's schema names; as it is when it does not look like one, for the schema to refuse."""
    kinds = {part.get("type") for part in (schema, *schema.get("anyOf", ()))}
    if "integer" in kinds and _INTEGER.fullmatch(text):
        return int(text)
    if "boolean" in kinds and text in ("true", "false"):
        return text == "true"
    return [part.strip() for part in text.split(",") if part.strip()] if "array" in kinds else text


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"key {name[:80]!r} appears twice")
    return dict(pairs)
