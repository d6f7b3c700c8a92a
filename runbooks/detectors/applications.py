"""What programs say of themselves in their logs: crashes, missing variables, refused files, exhausted limits, expired certificates.

One finding per container that speaks, for its most telling sign; what names a peer is for `peers`, what a model server or a training says
is for `models`. A program that crashes without a known sign is reported with its innermost exception.
Limits: only the tail of a log that was read can tell, and a program that logs nothing says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cluster.facts.config import ConfigMap
from cluster.facts.container import VolumeMount
from cluster.facts.pod import Volume
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.dependencies import Dependencies, Dependency
from runbooks.detectors.addresses import changed_address
from runbooks.finding import Certainty, Detector, Finding, Source, cite
from runbooks.logs import Sign
from runbooks.testimony import GOING_ON_LINES, State, Testimony, is_over, peer_named, testimonies

# kind of sign -> (code, what is wrong, in words that follow "Container X of Y")
OWN_FAULTS: dict[str, tuple[str, str]] = {
    "exec-format": ("app.wrong-architecture", "cannot run: its program was built for another processor architecture"),
    "port-in-use": ("app.port-in-use", "cannot listen: its port is already in use"),
    "command-missing": ("app.command-missing", "runs a command that does not exist"),
    "program-missing": ("app.command-missing", "runs a program file that does not exist"),
    "usage": ("app.bad-arguments", "is started with an argument that it does not know"),
    "missing-env": ("app.missing-env", "lacks an environment variable"),
    "certificate-expired": ("app.certificate-expired", "fails because a certificate has expired"),
    "runtime-memory": ("app.memory-exhausted", "ran out of memory inside its runtime"),
    "resource-limit": ("app.limits-exhausted", "ran out of threads, processes or open files"),
    "data-locked": ("app.data-locked", "cannot open its data: another process holds the lock on it"),
    "disk-full": ("app.disk-full", "has no space left to write"),
    "read-only-filesystem": ("app.read-only-filesystem", "writes to a file system that is read-only"),
    "storage-io": ("app.storage-io", "gets input/output errors from the storage below its files"),
    "message-unreadable": ("app.message-unreadable", "cannot read a message of its queue, and does not get past it"),
    "query-timeout": ("app.slow-calls", "gives up database queries that take too long"),
    "lock-contention": ("app.lock-contention", "fails because database transactions block each other"),
    "feature-flag": ("app.feature-flag", "fails because of a feature flag"),
    "queue-backlog": ("app.queue-backlog", "reports a queue that fills faster than it is emptied"),
    "commit-conflict": ("app.commit-conflict", "loses its writes to conflicting commits"),
    "table-missing": ("app.table-missing", "does not find a table where it looks for it"),
    "table-version-missing": ("app.table-version-missing", "reads a version of a table that another process has cleaned up"),
    "object-store-denied": ("app.object-store-denied", "is refused by the object store"),
    "object-store-throttled": ("app.object-store-throttled", "is asked by the object store to slow down"),
    "broker-blocked": ("app.queue-backlog", "is blocked by a broker that has run into its memory or disk limit"),
    "retry-storm": ("app.retry-storm", "has used up its retries"),
    "circuit-open": ("app.retry-storm", "has opened a circuit breaker"),
}
# What a program that serves may say without being at fault itself: a bad request's arguments, a client's file.
ONLY_WHEN_FAILING = frozenset({"command-missing", "program-missing", "usage", "exec-format", "port-in-use", "config-invalid"})
# Of at least so many requests in an access log, this share must fail.
ANSWERS_LEAST = 10
ANSWERS_SHARE = 0.1
# A program that serves well reports some errors; only this share of its lines and more is a fault.
RECURRING_SHARE = 0.05
# A cluster's own root certificates are mounted into every pod and configure nothing.
ROOT_CERTIFICATES = "kube-root-ca.crt"
# How parsers of Python, Java, Go, Rust, .NET and Node say that a text is not what they want.
_PARSING = re.compile(
    r"invalid literal|could not convert|For input string|parsing|ParseInt|ParseFloat|ParseBool|invalid digit|not in a correct format|"
    r"[Ii]nvalid (?:value|duration|URL|boolean|integer|number|port|log level)|[Uu]nknown (?:log )?level|No enum constant"
)
_QUOTED = re.compile(r"['\"`]([^'\"`\n]{1,80})['\"`]")
PASSING_SIGNS = frozenset({"file-missing", "permission", "config-invalid"})


def own_faults(world: World) -> Iterator[Finding]:
    """Known failures that lie in the container itself or in what it was given."""
    for testimony in world.once(testimonies):
        sign = testimony.sign
        if sign is None or sign.kind not in OWN_FAULTS:
            continue
        if testimony.state is State.RUNNING and sign.kind in ONLY_WHEN_FAILING:
            continue
        code, says = OWN_FAULTS[sign.kind]
        named = f" ({sign.name})" if sign.name else (f" (port {sign.port})" if sign.kind == "port-in-use" and sign.port else "")
        yield _finding(testimony, sign, code, testimony.workload, f"{says}{named}")


def refused_configurations(world: World) -> Iterator[Finding]:
    """Configuration files that a program cannot use, blamed on the ConfigMap that holds them where that is clear."""
    for testimony in world.once(testimonies):
        sign = testimony.sign
        if sign is None or sign.kind != "config-invalid" or testimony.state is State.RUNNING:
            continue
        holder = _configmap_of(testimony, sign) or testimony.workload
        says = "cannot use its configuration" + (f", which comes from {holder}" if holder.kind == "ConfigMap" else "")
        yield _finding(testimony, sign, "app.invalid-configuration", holder, says, certainty=Certainty.LIKELY)


def _configmap_of(testimony: Testimony, sign: Sign) -> ObjectRef | None:
    """The ConfigMap mounted where the named file lies; without a name, the only one that the container mounts."""
    mounted = [(mount, volume) for mount, volume in _mounts(testimony) if volume.config_map and volume.config_map.name != ROOT_CERTIFICATES]
    named = [volume for mount, volume in mounted if sign.text and mount.mount_path.rstrip("/") and mount.mount_path in sign.text]
    chosen = named or [volume for _, volume in mounted]
    names = {volume.config_map.name for volume in chosen if volume.config_map}
    return ObjectRef("ConfigMap", testimony.pod.namespace, names.pop()) if len(names) == 1 else None


def _mounts(testimony: Testimony) -> Iterator[tuple[VolumeMount, Volume]]:
    volumes = {volume.name: volume for volume in testimony.pod.spec.volumes or ()}
    for mount in (testimony.spec.volume_mounts if testimony.spec else None) or ():
        if mount.name in volumes:
            yield mount, volumes[mount.name]


def _mount_at(testimony: Testimony, path: str | None) -> tuple[VolumeMount, Volume] | None:
    """The innermost mount that a path lies under."""
    under = [item for item in _mounts(testimony) if path and (path + "/").startswith(item[0].mount_path.rstrip("/") + "/")]
    return max(under, key=lambda item: len(item[0].mount_path), default=None)


def refused_files(world: World) -> Iterator[Finding]:
    """Files that are missing from, or may not be used in, a mounted volume."""
    for testimony in world.once(testimonies):
        sign = testimony.sign
        if sign is None or sign.kind not in ("file-missing", "permission") or testimony.state is State.RUNNING:
            continue
        found = _mount_at(testimony, sign.name)
        if found is None:
            continue
        volume = found[1]
        if sign.kind == "permission":
            if volume.persistent_volume_claim or volume.host_path or volume.nfs or volume.csi or volume.empty_dir:
                says = f"may not use {sign.name} in volume {volume.name}"
                yield _finding(testimony, sign, "app.file-permission", testimony.workload, says)
            continue
        if volume.config_map is not None:
            holder = ObjectRef("ConfigMap", testimony.pod.namespace, volume.config_map.name)
            known = world.get(ConfigMap, holder.namespace, holder.name)
            has = f" (it has {', '.join(sorted(known.keys)) or 'no keys'})" if known else ""
            yield _finding(testimony, sign, "app.missing-file", holder, f"does not find {sign.name}, which {holder} should hold{has}")
        elif volume.secret is not None:
            holder = ObjectRef("Secret", testimony.pod.namespace, volume.secret.secret_name)
            yield _finding(testimony, sign, "app.missing-file", holder, f"does not find {sign.name}, which {holder} should hold")


def crashes(world: World) -> Iterator[Finding]:
    """Programs that fail with an error that no other detector knows: the innermost exception, else the last error line."""
    for testimony in world.once(testimonies):
        if testimony.state is not State.FAILING or _ended_by_others(testimony):
            continue
        sign = testimony.sign
        if sign is not None and sign.kind not in PASSING_SIGNS:
            continue
        trace = testimony.report.trace
        if trace is not None:
            quote, certainty = trace.text, Certainty.PROVEN
            says = f"fails with {trace.exception}" + (f": {trace.message}" if trace.message else "")
        else:
            errors = sorted(testimony.report.errors, key=lambda item: item.from_end)
            last = sign or next((item for item in errors if item.from_end < GOING_ON_LINES), None)
            if last is None:
                continue
            quote, certainty, says = last.text.strip(), Certainty.LIKELY, f"fails, and its log ends with: {last.text.strip()[:200]}"
        refused = _refused_variable(testimony, quote)
        if refused is not None:
            says += f"; it is the value of its variable {refused}"
        yield Finding(
            code="config.wrong-value" if refused is not None else "app.crash",
            subject=testimony.workload,
            certainty=certainty,
            evidence=(cite(Source.LOG, testimony.pod.ref, testimony.where, quote),),
            explanation=f"Container {testimony.container} of {testimony.workload} {says}.",
            affects=(testimony.pod.ref,),
        )


def _refused_variable(testimony: Testimony, quote: str) -> str | None:
    """The variable whose value a parser quotes in its complaint; None unless exactly one has it."""
    if testimony.spec is None or not _PARSING.search(quote):
        return None
    quoted = set(_QUOTED.findall(quote))
    names = {item.name for item in testimony.spec.env or () if item.value and item.value in quoted}
    return names.pop() if len(names) == 1 else None


def _ended_by_others(testimony: Testimony) -> bool:
    """Whether the kernel or a node ended the container, whatever its log says."""
    status = testimony.pod.container_status(testimony.container)
    ended = (status.state.terminated or status.last_state.terminated) if status else None
    return ended is not None and ended.reason in ("OOMKilled", "StartError", "ContainerCannotRun", "Completed")


def recurring_errors(world: World) -> Iterator[Finding]:
    """Programs that run and serve but report one error again and again, up to now."""
    for testimony in world.once(testimonies):
        if testimony.state is not State.RUNNING or testimony.sign is not None:
            continue
        tail = max(GOING_ON_LINES, testimony.report.lines // 10)
        often = max(3, testimony.report.lines * RECURRING_SHARE)
        going_on = [item for item in testimony.report.errors if item.times >= often and item.from_end < tail and not is_over(item)]
        if not going_on:
            continue
        worst = going_on[0]
        called = peer_named(world, testimony, worst.text)
        if called is not None:
            declared, quote = _declared(world, testimony, called), testimony.quote(worst)
            changed = changed_address(world, "config.changed-address", testimony.workload, declared, quote)
            if changed is not None:
                yield changed
                continue
            says = f"complains of what it calls ({worst.times} of {testimony.report.lines} lines): {worst.text.strip()[:200]}"
            yield _finding(testimony, worst, "app.peer-errors", testimony.workload, says, certainty=Certainty.LIKELY)
            continue
        says = f"runs but reports an error again and again ({worst.times} of {testimony.report.lines} lines): {worst.text.strip()[:200]}"
        yield _finding(testimony, worst, "app.recurring-error", testimony.workload, says, certainty=Certainty.LIKELY)


def _declared(world: World, testimony: Testimony, called: tuple[str | None, str]) -> tuple[Dependency, ...]:
    """The addresses that a program is configured with and that mean one Service."""
    dependencies = world.once(Dependencies)
    found = ((item, dependencies.resolve(testimony.pod.namespace, item.address.host)) for item in dependencies.of(testimony.workload))
    return tuple(item for item, meant in found if (meant.namespace, meant.name) == called)


def failing_answers(world: World) -> Iterator[Finding]:
    """Servers whose access log says that they answer many requests with a server error, or refuse many for being too many."""
    for testimony in world.once(testimonies):
        total = sum(times for _, times in testimony.report.answers)
        if testimony.state is not State.RUNNING or testimony.sign is not None or total < ANSWERS_LEAST:
            continue
        failed = sum(times for status, times in testimony.report.answers if status >= 500)
        refused = dict(testimony.report.answers).get(429, 0)
        for code, count, says in (
            ("app.recurring-error", failed, "answers with a server error"),
            ("app.rate-limited", refused, "refuses because there are too many"),
        ):
            if count < total * ANSWERS_SHARE:
                continue
            quote = ", ".join(f"status {status}: {times}" for status, times in testimony.report.answers)
            yield Finding(
                code=code,
                subject=testimony.workload,
                certainty=Certainty.LIKELY,
                evidence=(cite(Source.LOG, testimony.pod.ref, testimony.where, quote),),
                explanation=f"Container {testimony.container} of {testimony.workload} {says}: {count} of {total} requests in its log.",
                affects=(testimony.pod.ref,),
            )


def slow_calls(world: World) -> Iterator[Finding]:
    """Programs whose own log says that their calls take seconds. A caller's time contains its callee's, so that of several slow programs
    of a namespace the least slow is the deepest; one that times its own database calls speaks for itself."""
    slow = [
        testimony
        for testimony in world.once(testimonies)
        if testimony.state is State.RUNNING and testimony.sign is None and testimony.report.slow
    ]
    deepest: dict[str | None, float] = {}
    for testimony in slow:
        seconds = testimony.report.slow[0].median_seconds
        deepest[testimony.pod.namespace] = min(seconds, deepest.get(testimony.pod.namespace, seconds))
    for testimony in slow:
        worst = testimony.report.slow[0]
        leading = worst.database or worst.median_seconds <= deepest[testimony.pod.namespace]
        what = "its database calls take" if worst.database else "its calls take"
        yield Finding(
            code="app.slow-calls",
            subject=testimony.workload,
            certainty=Certainty.LIKELY if leading else Certainty.POSSIBLE,
            evidence=(cite(Source.LOG, testimony.pod.ref, testimony.where, f"{worst.text.strip()} ({worst.times} such lines)"),),
            explanation=f"{testimony.workload} is slow: {what} {worst.median_seconds:.1f} s in the median of {worst.times} slow ones.",
            affects=(testimony.pod.ref,),
            lacks="" if leading else "a trace that tells whether it waits for another slow program",
        )


def growing_gauges(world: World) -> Iterator[Finding]:
    """Programs that print a backlog, a lag or their memory in use, and the number only grows."""
    for testimony in world.once(testimonies):
        if testimony.state is not State.RUNNING or testimony.sign is not None:
            continue
        for gauge in testimony.report.growing[:1]:
            yield Finding(
                code="memory.leak" if gauge.memory else "app.queue-backlog",
                subject=testimony.workload,
                certainty=Certainty.LIKELY,
                evidence=(cite(Source.LOG, testimony.pod.ref, testimony.where, gauge.text.strip()),),
                explanation=f"Container {testimony.container} of {testimony.workload} prints a {gauge.name} that only grows: "
                f"from about {gauge.first:g} to {gauge.last:g} in {gauge.samples} lines.",
                affects=(testimony.pod.ref,),
            )


def _finding(testimony: Testimony, sign: Sign, code: str, subject: ObjectRef, says: str, *, certainty: Certainty | None = None) -> Finding:
    return Finding(
        code=code,
        subject=subject,
        certainty=certainty or testimony.certainty,
        evidence=(testimony.quote(sign),),
        explanation=f"Container {testimony.container} of {testimony.workload} {says}.",
        affects=(testimony.pod.ref, testimony.workload),
    )


DETECTORS: tuple[Detector, ...] = (
    own_faults,
    refused_configurations,
    refused_files,
    crashes,
    recurring_errors,
    failing_answers,
    slow_calls,
    growing_gauges,
)
