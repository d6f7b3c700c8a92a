"""Under which names a model server answers: its base model and its adapters, read from its arguments.

vLLM and KServe's server built on it answer 404 to any other name; other engines take whatever name a request has and are not judged. A
server whose names can change while it runs, or stand where they cannot be read, is told apart from one that serves none.
Sources: vLLM entrypoints/openai/cli_args.py and serving (`_check_model`), its envs VLLM_ALLOW_RUNTIME_LORA_UPDATING, VLLM_PLUGINS and
VLLM_SKIP_MODEL_NAME_VALIDATION; KServe python/huggingfaceserver.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator

from msgspec import Struct

from cluster.facts.container import Container
from cluster.facts.pod import PodSpec
from runbooks.modelservers import engine_of, server_of, words_of

_NAMES = frozenset({"--served-model-name", "--served_model_name", "--model_name", "--model-name"})
_MODELS = frozenset({"--model", "--model_id"})
_ADAPTERS = frozenset({"--lora-modules", "--lora_modules"})
# A file that may say anything.
_ELSEWHERE = frozenset({"--config"})
_KSERVE = re.compile(r"huggingfaceserver", re.I)
_REFERENCE = re.compile(r"\$\(([A-Za-z_]\w*)\)|\$\{?[A-Za-z_]\w*\}?")
_TRUE = frozenset({"1", "true", "yes", "on"})


class Served(Struct, frozen=True):
    """`models` are the names of the base model, `adapters` those of LoRA modules. `known` is False where there may be others."""

    models: frozenset[str]
    adapters: frozenset[str] = frozenset()
    known: bool = True

    @property
    def names(self) -> frozenset[str]:
        return self.models | self.adapters


def served_by(spec: PodSpec) -> Served | None:
    """The names that a pod answers to; None for one that is no such server, or does not say."""
    container = server_of(spec)
    if container is None:
        return None
    kserve = _KSERVE.search(words_of(container)) is not None
    if engine_of(container) != "vLLM" and not kserve:
        return None
    values = _values(container)
    models = values.get("names") or values.get("models") or ()
    if not models:
        return None
    adapters = tuple(_adapters(values.get("adapters", ())))
    unresolved = any(not word or _REFERENCE.search(word) for word in (*models, *adapters))
    known = not unresolved and "elsewhere" not in values and not _changes(container)
    return Served(frozenset(models), frozenset(adapters) - {""}, known)


def _values(container: Container) -> dict[str, tuple[str, ...]]:
    """What its flags say, by what they are about."""
    about = {**dict.fromkeys(_NAMES, "names"), **dict.fromkeys(_MODELS, "models")}
    about |= {**dict.fromkeys(_ADAPTERS, "adapters"), **dict.fromkeys(_ELSEWHERE, "elsewhere")}
    found: dict[str, tuple[str, ...]] = {}
    flag, words = "", tuple(_words(container))
    for before, word in zip(("", *words), words, strict=False):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            flag = about.get(name, "")
            if flag and equals:
                found[flag] = (*found.get(flag, ()), value)
                # Only a flag that takes several goes on.
                flag = flag if flag in ("names", "adapters") else ""
            elif flag:
                found.setdefault(flag, ())
        elif before == "serve" or (not before and not container.command):
            # `vllm serve MODEL`, which is also what the image runs by itself.
            found["models"] = (word,)
        elif flag:
            found[flag] = (*found[flag], word)
            flag = flag if flag in ("names", "adapters") else ""
    return found


def _words(container: Container) -> Iterator[str]:
    """Command and arguments, a shell's script taken apart, references to plain variables put in."""
    plain = {item.name: item.value for item in container.env or () if item.value is not None}
    for part in (*(container.command or ()), *(container.args or ())):
        text = _REFERENCE.sub(lambda match: plain.get(match[1] or match[0].strip("${}"), match[0]), part)
        if any(space in text.strip() for space in " \n") and not text.lstrip().startswith("{"):
            try:
                yield from shlex.split(text, comments=True)
            except ValueError:
                yield from text.split()
        else:
            yield text


def _adapters(words: tuple[str, ...]) -> Iterator[str]:
    """`name=path`, or an object with a name, as vLLM takes both; "" for an object that cannot be read."""
    for word in words:
        if word.lstrip().startswith("{"):
            try:
                yield str(json.loads(word).get("name", ""))
            except (ValueError, RecursionError):
                yield ""
        elif "=" in word:
            yield word.partition("=")[0]


def _changes(container: Container) -> bool:
    """Whether its variables let it take other names while it runs."""
    plain = {item.name: (item.value or "").lower() for item in container.env or ()}
    loads = plain.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "") in _TRUE or "lora" in plain.get("VLLM_PLUGINS", "")
    return loads or plain.get("VLLM_SKIP_MODEL_NAME_VALIDATION", "") in _TRUE
