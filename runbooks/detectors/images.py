"""Images that cannot be pulled, and why: what the registry answered decides, never the reason word alone.

The kubelet alternates `ErrImagePull` (with the error) and `ImagePullBackOff` (old versions without it), so the error is looked for in
the message first and in the pod's `Failed` events after.
Limits: a registry that answers 404 to strangers cannot be told from one that lacks the repository; such answers stay LIKELY.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from cluster.facts.config import ServiceAccount
from cluster.facts.event import Event
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.detectors.pods import (
    Trouble,
    cite_event,
    cite_status,
    current_events,
    earlier_container,
    onset,
    troubled_pods,
    troubles,
)
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite

PULL_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
# A pull of tens of gigabytes takes minutes (failures.md A13); below this nobody should be woken.
SLOW_PULL = timedelta(minutes=10)
# Registries that anyone may pull from. They refuse strangers who ask for a repository that does not exist, as for a private one.
PUBLIC_REGISTRIES = frozenset(
    {"docker.io", "index.docker.io", "quay.io", "ghcr.io", "gcr.io", "registry.k8s.io", "public.ecr.aws", "mcr.microsoft.com"}
)

# The first pattern that matches the registry's or runtime's words wins: a refused token request also says "failed to resolve reference".
ANSWERS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "image.wrong-architecture",
        re.compile(
            r"no match for platform|no matching manifest for|does not match the (?:specified|detected) platform|"
            r"no image found in (?:image index|manifest list) for architecture",
            re.I,
        ),
    ),
    ("image.no-disk-space", re.compile(r"no space left on device|disk quota exceeded", re.I)),
    ("image.registry-throttled", re.compile(r"toomanyrequests|429 too many requests|pull rate limit|rate exceeded", re.I)),
    (
        "image.signature-refused",
        re.compile(r"SignatureValidationFailed|signature (?:validation|verification) failed|no signatures found", re.I),
    ),
    (
        "image.invalid-name",
        re.compile(
            r"InvalidImageName|couldn't parse image|invalid reference format|failed to apply default image tag|"
            r"repository name must be lowercase",
            re.I,
        ),
    ),
    ("image.never-pulled", re.compile(r"ErrImageNeverPull|is not present with pull policy of never", re.I)),
    (
        "image.registry-unreachable",
        re.compile(
            r"no such host|server misbehaving|name resolution|i/o timeout|connection refused|connection reset|no route to host|"
            r"network is unreachable|x509:|tls: |certificate|context deadline exceeded|request canceled|RegistryUnavailable|"
            r"registry is unavailable|http response to https client|\b50[0234]\b (?:bad gateway|service unavailable|"
            r"gateway time-?out|internal server error)|"
            r"unexpected status code [^:]*: 50\d|unexpected status.*\b50\d\b|proxyconnect|TLS handshake timeout",
            re.I,
        ),
    ),
    (
        "image.pull-denied",
        re.compile(
            r"pull access denied|insufficient_scope|authorization failed|authentication required|no basic auth credentials|"
            r"\b401\b|\b403\b|unauthorized|forbidden|denied|may require (?:authorization|'docker login')|invalid username/password",
            re.I,
        ),
    ),
    (
        "image.not-found",
        re.compile(
            r"not found|manifest unknown|does not exist|name unknown|name_unknown|manifest for .* not found|notfound",
            re.I,
        ),
    ),
)

# What the answer leaves open.
UNSURE = frozenset({"image.pull-failed", "image.pull-denied", "image.not-found-or-private"})

WORDS = {
    "image.not-found-or-private": "the registry does not have it, or not for strangers",
    "image.wrong-architecture": "the registry has no variant of it for the node's processor",
    "image.no-disk-space": "the node's disk is full",
    "image.registry-throttled": "the registry limits how often this cluster may pull",
    "image.signature-refused": "its signature is not accepted",
    "image.invalid-name": "the name is not a valid image reference",
    "image.never-pulled": "it is not on the node and the pull policy is Never",
    "image.registry-unreachable": "the registry cannot be reached",
    "image.pull-denied": "the registry refuses access",
    "image.not-found": "the registry does not have it",
    "image.pull-failed": "the recorded messages do not say why",
}


def failed_pulls(world: World) -> Iterator[Finding]:
    """One finding per container whose image cannot be pulled, coded by what the registry answered."""
    for trouble in troubles(world):
        if trouble.reason not in PULL_REASONS:
            continue
        image = _image(trouble)
        events = _pull_events(world, trouble.pod, image)
        text = " ".join((trouble.reason, trouble.message, *(event.text for event in events)))
        code = _code(text, trouble, world)
        owner = world.top_owner(trouble.pod.ref)
        subject = owner
        if code == "image.no-disk-space" and trouble.pod.spec.node_name:
            subject = ObjectRef("Node", None, trouble.pod.spec.node_name)
        evidence = [cite_status(trouble, "state.waiting", f"{trouble.reason}: {trouble.message or 'no message'}")]
        evidence += [cite_event(event) for event in events[:2]]
        evidence.append(cite(Source.FIELD, owner, f"containers[{trouble.status.name}].image", image))
        yield Finding(
            code=code,
            subject=subject,
            certainty=Certainty.LIKELY if code in UNSURE else Certainty.PROVEN,
            evidence=(*evidence, *_before(world, owner, trouble, image)),
            explanation=f"Container {trouble.status.name} of {owner} cannot start: image {image} cannot be pulled, {WORDS[code]}."
            + _previous(world, owner, trouble, image),
            affects=(trouble.pod.ref,),
            since=onset(events, trouble.pod.created),
            lacks="the registry's answer in the pod's events" if code == "image.pull-failed" else "",
        )


def _image(trouble: Trouble) -> str:
    container = trouble.container
    return (container.image if container else "") or trouble.status.image or _quoted(trouble.message) or "(unknown)"


def _quoted(message: str) -> str:
    found = re.search(r'image "([^"]+)"', message)
    return found.group(1) if found else ""


def _pull_events(world: World, pod: Pod, image: str) -> tuple[Event, ...]:
    """The kubelet's complaints about this image, the ones with the registry's answer first."""
    events = [
        event
        for event in current_events(world, pod, "Failed", "InspectFailed", "ErrImageNeverPull", "FailedPullImage")
        if f'"{image}"' in event.text or "image" in event.text.lower()
    ]
    return tuple(sorted(events, key=lambda event: "Failed to pull" not in event.text))


def _code(text: str, trouble: Trouble, world: World) -> str:
    code = next((name for name, pattern in ANSWERS if pattern.search(text)), "image.pull-failed")
    if code != "image.pull-denied" or _has_credentials(trouble.pod, world):
        return code
    return "image.not-found-or-private" if _registry(_image(trouble)) in PUBLIC_REGISTRIES else code


def _has_credentials(pod: Pod, world: World) -> bool:
    account = world.get(ServiceAccount, pod.namespace, pod.spec.service_account_name or "default")
    return bool(pod.spec.image_pull_secrets or (account and account.image_pull_secrets))


def _registry(image: str) -> str:
    """The registry of an image; a first part without dot or port is a Docker Hub user (distribution/reference)."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"


def _before(world: World, owner: ObjectRef, trouble: Trouble, image: str) -> tuple[Evidence, ...]:
    earlier = earlier_container(world, owner, trouble.status.name)
    if earlier is None or earlier[1].image == image:
        return ()
    revision, container = earlier
    return (cite(Source.FIELD, owner, f"revision {revision} containers[{trouble.status.name}].image", container.image),)


def _previous(world: World, owner: ObjectRef, trouble: Trouble, image: str) -> str:
    earlier = earlier_container(world, owner, trouble.status.name)
    return f" Revision {earlier[0]} used {earlier[1].image}." if earlier and earlier[1].image != image else ""


def missing_pull_secrets(world: World) -> Iterator[Finding]:
    """A pull secret that the kubelet cannot find, of a pod whose pull then fails; a pod that pulled anyway is left alone."""
    for pod in troubled_pods(world):
        events = current_events(world, pod, "FailedToRetrieveImagePullSecret")
        if not events or not any(_pulling(status.state.waiting) for status in pod.all_statuses):
            continue
        named = [item.name for item in pod.spec.image_pull_secrets or ()]
        missing = re.search(r"image pull secrets \(([^)]*)\)", events[0].text)
        names = [name.strip() for name in missing.group(1).split(",") if name.strip()] if missing else named
        for name in names:
            yield Finding(
                code="image.pull-secret-missing",
                subject=ObjectRef("Secret", pod.namespace, name),
                certainty=Certainty.PROVEN if missing else Certainty.LIKELY,
                evidence=(cite_event(events[0]), cite(Source.FIELD, pod.ref, "spec.imagePullSecrets", ", ".join(named))),
                explanation=f"Secret {pod.namespace}/{name}, which {world.top_owner(pod.ref)} names as pull secret, does not exist,"
                " and the pull of its image fails.",
                affects=(pod.ref,),
                since=onset(events, pod.created),
            )


def _pulling(waiting: object) -> bool:
    return getattr(waiting, "reason", None) in PULL_REASONS


def slow_pulls(world: World) -> Iterator[Finding]:
    """A pull that started long ago and neither finished nor failed."""
    for pod in troubled_pods(world):
        if not any((status.state.waiting and status.state.waiting.reason) == "ContainerCreating" for status in pod.all_statuses):
            continue
        events = world.events(pod.ref, "Pulling", "Pulled", "Failed")
        if not events or events[-1].reason != "Pulling":
            continue
        started = events[-1].last_seen
        if started is None or world.now - started < SLOW_PULL:
            continue
        minutes = int((world.now - started).total_seconds() // 60)
        owner = world.top_owner(pod.ref)
        yield Finding(
            code="image.slow-pull",
            subject=owner,
            certainty=Certainty.LIKELY,
            evidence=(cite_event(events[-1]),),
            explanation=f"{owner} waits for its image: the pull began {minutes} minutes ago and has neither finished nor failed.",
            affects=(pod.ref,),
            since=started,
            lacks="the pull's progress on the node",
        )


DETECTORS: tuple[Detector, ...] = (failed_pulls, missing_pull_secrets, slow_pulls)
