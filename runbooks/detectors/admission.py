"""Objects that the API server refuses to create: quota, limits, pod security, policies, webhooks, accounts.

The pods of these workloads do not exist, so pods tell nothing; the controllers' conditions and FailedCreate events do. It trusts a
condition over an event, and an event only while its workload is still short of pods.
Limits: a refusal that left neither a condition nor an event is not seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta

from msgspec import Struct

from cluster.facts.config import (
    LimitRange,
    MutatingWebhookConfiguration,
    ResourceQuota,
    ServiceAccount,
    ValidatingWebhookConfiguration,
)
from cluster.facts.event import Event
from cluster.facts.meta import condition
from cluster.facts.network import Endpoints, Service
from cluster.facts.pod import Pod
from cluster.facts.workload import DaemonSet, Deployment, Job, ReplicaSet, StatefulSet
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite

RECENT = timedelta(minutes=30)
# A pod that is not ready after this long is not about to be.
PATIENCE = timedelta(minutes=5)
_Controller = ReplicaSet | Deployment | StatefulSet | DaemonSet | Job
_Webhooks = ValidatingWebhookConfiguration | MutatingWebhookConfiguration
_EXCEEDED = re.compile(r"exceeded quota: (?P<quota>[^,\s]+), requested: (?P<asked>.+?), used: (?P<used>.+?), limited: (?P<limit>.+?)\.?$")
_UNSPECIFIED = re.compile(r"failed quota: (?P<quota>[^:\s]+): must specify (?P<what>.+?)(?: for: (?P<who>[^;]+))?$")
_ACCOUNT = re.compile(r'error looking up service account (?P<namespace>[^/\s]+)/(?P<name>[^:\s]+): serviceaccount "[^"]+" not found')
_WEBHOOK = re.compile(r'failed calling webhook "(?P<name>[^"]+)": (?P<why>.*)$', re.DOTALL)
_DENIED = re.compile(r'admission webhook "(?P<name>[^"]+)" denied the request(?:: (?P<why>.*))?$', re.DOTALL)
_POLICY = re.compile(r"ValidatingAdmissionPolicy '(?P<name>[^']+)' with binding '[^']+' denied request(?:: (?P<why>.*))?$", re.DOTALL)
_POD_SECURITY = re.compile(r'violates PodSecurity "(?P<level>[^"]+)": (?P<why>.*)$', re.DOTALL)
_LIMIT = re.compile(r"(?P<why>(?:maximum|minimum) \S+ usage per \w+ is .*|\S+ max limit to request ratio per \w+ is .*)$", re.DOTALL)
_PRIORITY_CLASS = re.compile(r"no PriorityClass with name (?P<name>\S+) was found")
_RUNTIME_CLASS = re.compile(r'RuntimeClass(?:\.node\.k8s\.io)? "?(?P<name>[\w.-]+)"? not found')


class Refusal(Struct, frozen=True):
    """One refused creation. `owner` is the workload to edit, `reporter` the object whose controller was refused."""

    owner: ObjectRef
    reporter: ObjectRef
    text: str
    evidence: Evidence
    since: datetime | None


def refusals(world: World) -> Iterator[Refusal]:
    """Every creation that is being refused now, once per reporting object and text."""
    seen: set[tuple[object, str]] = set()
    workloads: tuple[_Controller, ...] = (
        *world.all(ReplicaSet),
        *world.all(Deployment),
        *world.all(StatefulSet),
        *world.all(DaemonSet),
        *world.all(Job),
    )
    for workload in workloads:
        if isinstance(workload, ReplicaSet) and not _short_of_pods(workload):
            continue
        failed = condition(workload.status.conditions, "ReplicaFailure")
        if failed is not None and failed.status == "True" and failed.message:
            owner = world.top_owner(workload.ref)
            since = failed.last_transition_time
            cited = cite(Source.FIELD, workload.ref, "status.conditions[ReplicaFailure].message", failed.message, since)
            if (owner.key, _core(failed.message)) not in seen:
                seen.add((owner.key, _core(failed.message)))
                yield Refusal(owner, workload.ref, failed.message, cited, since or _first_event(world, workload.ref, failed.message))
    for event in world.all(Event):
        if event.reason not in ("FailedCreate", "ReplicaSetCreateError", "FailedCreatePod") or not event.text:
            continue
        subject = world.find(event.subject)
        if subject is None or (event.subject.uid and subject.metadata.uid and event.subject.uid != subject.metadata.uid):
            continue
        if not _short_of_pods(subject) or (event.last_seen and world.now - event.last_seen > RECENT):
            continue
        owner = world.top_owner(event.subject)
        if (owner.key, _core(event.text)) not in seen:
            seen.add((owner.key, _core(event.text)))
            cited = cite(Source.EVENT, event.subject, event.reason, event.text, event.last_seen)
            yield Refusal(owner, event.subject, event.text, cited, event.first_seen)


def _core(text: str) -> str:
    """The refusal without the names of objects, which differ from try to try."""
    return re.sub(r'(pods?|Pod|Claim) "?[\w.-]+"?', r"\1", text.removeprefix("Error creating: "))[-200:]


def _first_event(world: World, ref: ObjectRef, text: str) -> datetime | None:
    return next((event.first_seen for event in world.events(ref, "FailedCreate") if _core(text) == _core(event.text)), None)


def _short_of_pods(fact: object) -> bool:
    """Whether a controller still has fewer pods than it wants; what it could not create earlier does not matter once it has them."""
    match fact:
        case ReplicaSet() | StatefulSet():
            return fact.status.replicas < fact.spec.replicas
        case Deployment():
            return fact.status.available_replicas < fact.spec.replicas
        case DaemonSet():
            return fact.status.current_number_scheduled < fact.status.desired_number_scheduled
        case Job():
            return not fact.status.completion_time and fact.status.active + fact.status.succeeded < (fact.spec.parallelism or 1)
    return True


def refused_creation(world: World) -> Iterable[Finding]:
    """Every refusal, told apart by the API server's own words; what none of them fits is reported as it stands."""
    for refusal in refusals(world):
        for pattern, tell in _TELLERS:
            match = pattern.search(refusal.text)
            if match is not None:
                yield tell(world, refusal, match)
                break
        else:
            text = f"{refusal.owner} cannot create its pods: {_short(refusal.text)}"
            yield _made("admission.create-refused", refusal.owner, refusal, text, certainty=Certainty.LIKELY)


def _made(
    code: str,
    subject: ObjectRef,
    refusal: Refusal,
    text: str,
    *,
    evidence: tuple[Evidence, ...] = (),
    certainty: Certainty = Certainty.PROVEN,
) -> Finding:
    affects = (refusal.owner, refusal.reporter)
    return Finding(code, subject, certainty, (refusal.evidence, *evidence), text, affects=affects, since=refusal.since)


def _short(text: str) -> str:
    return text if len(text) <= 240 else f"{text[:240]}…"


def _exceeded(world: World, refusal: Refusal, match: re.Match[str]) -> Finding:
    quota = ObjectRef("ResourceQuota", refusal.owner.namespace, match["quota"])
    fact = world.get(ResourceQuota, quota.namespace, quota.name)
    by_priority = fact is not None and "PriorityClass" in str(fact.spec.scope_selector or "")
    used = (fact.status.used if fact else None) or {}
    evidence = tuple(
        cite(Source.FIELD, quota, f"status.used[{name}]", f"{used.get(name)} of {value}")
        for name, value in ((fact.spec.hard if fact else None) or {}).items()
        if name in match["asked"]
    )
    text = (
        f"ResourceQuota {quota.name} of namespace {quota.namespace} is used up: {refusal.owner} asks for {match['asked']} more, "
        f"{match['used']} is used of {match['limit']}."
    )
    return _made("quota.priority-exceeded" if by_priority else "quota.exceeded", quota, refusal, text, evidence=evidence)


def _unspecified(world: World, refusal: Refusal, match: re.Match[str]) -> Finding:
    quota = ObjectRef("ResourceQuota", refusal.owner.namespace, match["quota"])
    fact = world.get(ResourceQuota, quota.namespace, quota.name)
    subject = quota if _newer(world, fact.created if fact else None, refusal.reporter) else refusal.owner
    text = (
        f"ResourceQuota {quota.name} of namespace {quota.namespace} admits only pods that state {match['what']}; "
        f"{refusal.owner} does not state it{' for container ' + match['who'] if match['who'] else ''}."
    )
    return _made("quota.unspecified", subject, refusal, text)


def _newer(world: World, made: datetime | None, reporter: ObjectRef) -> bool:
    """Whether a rule was made after the template that it refuses: then the rule is what changed."""
    fact = world.find(reporter)
    return made is not None and fact is not None and fact.created is not None and made > fact.created


def _account(world: World, refusal: Refusal, match: re.Match[str]) -> Finding:
    account = ObjectRef("ServiceAccount", match["namespace"], match["name"])
    # Pods that run under the account prove that it existed and was deleted; otherwise the workload names one that never was.
    users = [pod for pod in world.pods_in(account.namespace) if pod.spec.service_account_name == account.name and not pod.finished]
    others = sorted(item.name for item in world.all(ServiceAccount) if item.namespace == account.namespace)
    there = f" Namespace {account.namespace} has {', '.join(others[:5])}." if others else ""
    text = f"{refusal.owner} runs as ServiceAccount {account.name}, which does not exist in namespace {account.namespace}.{there}"
    absent = cite(Source.ABSENCE, account, "", "the API server says: not found")
    return _made("admission.serviceaccount-missing", account if users else refusal.owner, refusal, text, evidence=(absent,))


def _pod_security(_: World, refusal: Refusal, match: re.Match[str]) -> Finding:
    where = f"Pod Security level {match['level']} of namespace {refusal.owner.namespace}"
    text = f"{where} refuses the pods of {refusal.owner}: {_short(match['why'])}"
    return _made("admission.pod-security", refusal.owner, refusal, text)


def _limit(world: World, refusal: Refusal, match: re.Match[str]) -> Finding:
    ranges = [item for item in world.all(LimitRange) if item.namespace == refusal.owner.namespace]
    newer = next((item for item in ranges if _newer(world, item.created, refusal.reporter)), None)
    named = f"LimitRange {ranges[0].name}" if ranges else "the LimitRange"
    text = f"{named} of namespace {refusal.owner.namespace} refuses the pods of {refusal.owner}: {_short(match['why'])}."
    return _made("admission.limitrange", newer.ref if newer else refusal.owner, refusal, text)


def _denied(_: World, refusal: Refusal, match: re.Match[str]) -> Finding:
    text = f"Policy {match['name']} refuses the pods of {refusal.owner}: {_short(match['why'] or 'no reason given')}"
    return _made("admission.policy-denied", refusal.owner, refusal, text)


def _webhook(world: World, refusal: Refusal, match: re.Match[str]) -> Finding:
    configuration = next((item for item in _webhooks(world) if any(hook.name == match["name"] for hook in item.webhooks or ())), None)
    down = re.search(r"no endpoints available|connection refused|deadline exceeded|no route to host|i/o timeout|EOF", match["why"])
    hooks = [hook for hook in (configuration.webhooks if configuration else None) or () if hook.name == match["name"]]
    backend = hooks[0].client_config.service if hooks else None
    subject = configuration.ref if configuration else ObjectRef("ValidatingWebhookConfiguration", None, match["name"])
    where = f" at Service {backend.namespace}/{backend.name}" if backend else ""
    stopped = f"its failurePolicy stops {refusal.owner} from creating pods"
    text = f"Webhook {match['name']}{where} cannot be called, and {stopped}: {_short(match['why'])}"
    code = "controlplane.webhook-down" if down else "admission.webhook-failing"
    return _made(code, subject, refusal, text)


def _priority_class(_: World, refusal: Refusal, match: re.Match[str]) -> Finding:
    text = f"{refusal.owner} asks for PriorityClass {match['name']}, which does not exist."
    return _made("admission.priorityclass-missing", refusal.owner, refusal, text)


def _runtime_class(_: World, refusal: Refusal, match: re.Match[str]) -> Finding:
    code = "gpu.runtimeclass-missing" if "nvidia" in match["name"] else "admission.runtimeclass-missing"
    return _made(code, refusal.owner, refusal, f"{refusal.owner} asks for RuntimeClass {match['name']}, which does not exist.")


def _scope_quota(_: World, refusal: Refusal, __: re.Match[str]) -> Finding:
    text = f"No ResourceQuota of namespace {refusal.owner.namespace} allows the priority class of {refusal.owner}: {_short(refusal.text)}"
    return _made("quota.priority-exceeded", refusal.owner, refusal, text)


def _terminating(_: World, refusal: Refusal, match: re.Match[str]) -> Finding:
    text = f"{refusal.owner} cannot create pods because its namespace is being deleted."
    return _made("admission.namespace-terminating", ObjectRef("Namespace", None, match["name"]), refusal, text)


def _etcd(world: World, refusal: Refusal, match: re.Match[str]) -> Finding:
    text = f"etcd refuses writes ({match[0]}); {refusal.owner} cannot create its pods."
    pods = [pod for pod in world.pods_in("kube-system") if pod.labels.get("component") == "etcd"]
    return _made("controlplane.etcd", pods[0].ref if pods else ObjectRef("Pod", "kube-system", "etcd"), refusal, text)


def _mounted_twice(_: World, refusal: Refusal, match: re.Match[str]) -> Finding:
    text = f"{refusal.owner} mounts two volumes at {match['path']}, so the API server refuses its pods."
    return _made("config.mounted-twice", refusal.owner, refusal, text)


_TELLERS: tuple[tuple[re.Pattern[str], Callable[[World, Refusal, re.Match[str]], Finding]], ...] = (
    (re.compile(r"insufficient quota to match these scopes"), _scope_quota),
    (re.compile(r'volumeMounts\[\d+\]\.mountPath: Invalid value: "(?P<path>[^"]+)": must be unique'), _mounted_twice),
    (_EXCEEDED, _exceeded),
    (_UNSPECIFIED, _unspecified),
    (_ACCOUNT, _account),
    (_WEBHOOK, _webhook),
    (_DENIED, _denied),
    (_POLICY, _denied),
    (_POD_SECURITY, _pod_security),
    (_LIMIT, _limit),
    (_PRIORITY_CLASS, _priority_class),
    (_RUNTIME_CLASS, _runtime_class),
    (re.compile(r"create new content in namespace (?P<name>\S+) because it is being terminated"), _terminating),
    (re.compile(r"etcdserver: [\w :]+"), _etcd),
)


def _webhooks(world: World) -> tuple[_Webhooks, ...]:
    return (*world.all(ValidatingWebhookConfiguration), *world.all(MutatingWebhookConfiguration))


def webhook_without_backend(world: World) -> Iterable[Finding]:
    """Webhook configurations whose Service does not exist or selects no working pod, before or while calls fail.

    Limits: no webhook is called, so one that answers wrongly or late is known only by the refusals.
    """
    for configuration in _webhooks(world):
        broken: list[tuple[str, Evidence]] = []
        blocking = False
        for hook in configuration.webhooks or ():
            service = hook.client_config.service
            problem = _backend_problem(world, service.namespace, service.name) if service else None
            if problem is not None:
                path = f"webhooks[{hook.name}].clientConfig.service"
                broken.append((f"{hook.name}: {problem}", cite(Source.FIELD, configuration.ref, path, problem)))
                blocking = blocking or hook.failure_policy != "Ignore"
        if not broken:
            continue
        named = "; ".join(words for words, _ in broken[:4])
        text = f"{configuration.ref} cannot be served ({named})" + ("; requests that it matches are refused." if blocking else ".")
        code = "admission.webhook-no-backend" if blocking else "admission.webhook-ignored"
        yield Finding(code, configuration.ref, Certainty.LIKELY, tuple(item for _, item in broken), text, since=configuration.created)


def _backend_problem(world: World, namespace: str, name: str) -> str | None:
    """Why a Service cannot answer, None where it can or where this world cannot tell."""
    presence = world.presence("Service", namespace, name)
    if presence is Presence.UNKNOWN:
        return None
    service = world.get(Service, namespace, name)
    if service is None:
        return f"Service {namespace}/{name} does not exist"
    endpoints = world.get(Endpoints, namespace, name)
    if endpoints is not None:
        return None if any(subset.addresses for subset in endpoints.subsets or ()) else f"Service {namespace}/{name} has no ready endpoints"
    if not service.spec.selector or "Pod" not in world.read_kinds or not world.scope.includes(namespace):
        return None
    pods = [pod for pod in world.pods_selected(namespace, service.spec.selector) if not pod.finished]
    if not pods:
        return f"Service {namespace}/{name} selects no pod"
    # A Service may publish pods that are not ready, and then sends to them.
    if not service.spec.publish_not_ready_addresses and all(_stays_unready(world, pod) for pod in pods):
        return f"Service {namespace}/{name} has no ready pod"
    return None


def _stays_unready(world: World, pod: Pod) -> bool:
    """Whether a pod is said not to be ready and had time to become so; one of unknown age had, one without conditions tells nothing."""
    return bool(pod.status.conditions) and not pod.ready and (pod.created is None or world.now - pod.created > PATIENCE)


def service_account_missing(world: World) -> Iterable[Finding]:
    """Templates that name a ServiceAccount that does not exist, where no controller has reported it yet."""
    told = {refusal.owner.key for refusal in refusals(world)}
    workloads: tuple[Deployment | StatefulSet | DaemonSet, ...] = (*world.all(Deployment), *world.all(StatefulSet), *world.all(DaemonSet))
    for workload in workloads:
        name = workload.template.spec.service_account_name
        if not name or workload.ref.key in told or world.presence("ServiceAccount", workload.namespace, name) is not Presence.ABSENT:
            continue
        if _short_of_pods(workload) and not world.pods_of(workload.ref):
            evidence = (
                cite(Source.FIELD, workload.ref, "spec.template.spec.serviceAccountName", name),
                cite(Source.ABSENCE, ObjectRef("ServiceAccount", workload.namespace, name), "", "no such ServiceAccount"),
            )
            text = f"{workload.ref} runs as ServiceAccount {name}, which does not exist, and has no pods."
            yield Finding("admission.serviceaccount-missing", workload.ref, Certainty.LIKELY, evidence, text, since=workload.created)


DETECTORS: tuple[Detector, ...] = (refused_creation, webhook_without_backend, service_account_missing)
