"""Errors that name a peer: who is to blame, the caller, its configuration, or the peer.

A port that the Service lacks, or a host that does not exist, is a wrong configuration (or a missing Service). A peer that is broken itself
explains its callers, which then are only symptoms. Credentials are blamed on the side that the server's words point to.
Limits: a peer outside the cluster, or one that looks well, leaves the caller as the place where it hurts, and no more is claimed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from cluster.facts.network import Service
from cluster.facts.pod import Pod
from cluster.reference import ContainerRef, ObjectRef
from cluster.world import World
from runbooks.dependencies import Dependencies, Dependency, Resolution, Stands, answers
from runbooks.detectors.addresses import absent_service, changed_address, wrong_host, wrong_port
from runbooks.finding import Certainty, Detector, Evidence, Finding, LogWant, Source, cite
from runbooks.logs import Sign
from runbooks.testimony import State, Testimony, testimonies

UNREACHABLE = frozenset({"refused", "timeout", "unreachable", "unknown-host", "upstream-error"})

# Signs that only a database, cache or broker gives, whether or not the line names it.
OF_DATABASES = frozenset({"database-auth", "database-missing", "database-readonly", "connections-exhausted", "store-memory-full"})

# What each sign's server calls itself, for the configuration key or Service that means it.
ENGINES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("postgres", re.compile(r"postgres|psql|pg_|psycopg|pgsql|pgx", re.I)),
    ("mysql", re.compile(r"mysql|mariadb", re.I)),
    ("mongo", re.compile(r"mongo|SCRAM", re.I)),
    ("redis", re.compile(r"redis|valkey|NOAUTH|WRONGPASS|NOPERM|READONLY You", re.I)),
    ("kafka", re.compile(r"kafka|broker", re.I)),
    ("rabbit", re.compile(r"rabbit|amqp|ACCESS_REFUSED", re.I)),
    ("memcached", re.compile(r"memcache", re.I)),
    ("elastic", re.compile(r"elastic|opensearch", re.I)),
    ("database", re.compile(r"database|\bdb\b|sql", re.I)),
)
ALIASES = {
    "redis": "redis|valkey|cache",
    "postgres": "postgres|pg|db|database",
    "mysql": "mysql|maria|db|database",
    "database": r"db|database|datasource|sql|mongo|postgres|(?:^|[-_])pg(?:[-_]|$)|mysql|maria",
    "mongo": "mongo|db",
}

# The server says that it does not know the user, or asks for credentials that the caller never had: its own accounts changed.
SERVER_SIDE = re.compile(
    r"UserNotFound|Could not find user|role \"[^\"]+\" does not exist|not authorized on|requires authentication|NOAUTH|"
    r"SASL authentication step|MongoServerError|no pg_hba|permission denied for|command denied|NOPERM|TopicAuthorization|"
    r"TOPIC_AUTHORIZATION|"
    r"AUTH, but no password",
    re.I,
)
CALLEE_PODS = 2
POOL = re.compile(r"pool|hikari|acquire|obtain", re.I)


class Peer(Struct, frozen=True):
    """Who a sign is about: the host and port it names (or that the configuration names for it), and what stands behind them."""

    host: str
    port: int | None
    found: Resolution
    declared: tuple[Dependency, ...]

    @property
    def label(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host


def peer_faults(world: World) -> Iterator[Finding]:
    """Every most telling sign that is about a peer, followed to whom it accuses."""
    for testimony in world.once(testimonies):
        sign = testimony.sign
        if sign is None:
            continue
        peer = _peer(world, testimony, sign)
        changed = _changed(world, testimony, sign, peer)
        if changed is not None:
            yield changed
        elif sign.kind in UNREACHABLE:
            yield from _unreachable(world, testimony, sign, peer)
        elif sign.kind == "database-auth":
            yield _refused_credentials(world, testimony, sign, peer)
        elif sign.kind in PEER_CODES:
            yield _plain(world, testimony, sign, peer)


def _changed(world: World, testimony: Testimony, sign: Sign, peer: Peer | None) -> Finding | None:
    """The revision that took the caller to a peer that fails it, where nothing else is known to be wrong with that peer."""
    if peer is None or sign.kind not in UNREACHABLE:
        return None
    service = peer.found.service
    if service is not None and (_broken_behind(world, service) is not None or (peer.port and answers(world, service, peer.port) is False)):
        return None
    return changed_address(world, "config.changed-address", testimony.workload, peer.declared, testimony.quote(sign))


# kind -> (code, what is wrong, whether the peer is the place to change things)
PEER_CODES: dict[str, tuple[str, str, bool]] = {
    "certificate-untrusted": ("app.certificate-untrusted", "does not trust the certificate of its peer", False),
    "wrong-protocol": ("app.wrong-protocol", "and its peer speak different protocols", False),
    "database-missing": ("app.database-absent", "asks for a database that does not exist", False),
    "database-readonly": ("app.database-readonly", "cannot write: its database takes no writes", True),
    "store-memory-full": ("app.store-full", "cannot write: its store has used up its memory", True),
    "connections-exhausted": ("app.connections-exhausted", "gets no database connection", True),
    "rate-limited": ("app.rate-limited", "refuses or is refused requests because there are too many", False),
    "token-refused": ("app.token-refused", "presents a token or key that is refused", False),
}
PEER_KINDS = frozenset({*UNREACHABLE, *PEER_CODES, "database-auth"})


def _peer(world: World, testimony: Testimony, sign: Sign) -> Peer | None:
    """The peer that a sign names, else the one declared address that its words can mean, else the one that the log mentions."""
    dependencies = world.once(Dependencies)
    namespace = testimony.pod.namespace
    declared = tuple(item for item in dependencies.of(testimony.workload) if item.container == testimony.container)
    if sign.host is not None:
        found = dependencies.resolve(namespace, sign.host)
        matching = tuple(item for item in declared if _means(dependencies, item, sign.host, found))
        same_port = tuple(item for item in matching if sign.port is None or item.address.port in (None, sign.port))
        return Peer(sign.host, sign.port, found, same_port or matching)
    engine = next((name for name, pattern in ENGINES if pattern.search(sign.text)), "database" if sign.kind in OF_DATABASES else None)
    if engine is None:
        return _only_mentioned(dependencies, testimony)
    wanted = re.compile(ALIASES.get(engine, engine), re.I)
    meant = [item for item in declared if wanted.search(item.key) or wanted.search(item.address.host)]
    hosts = {item.address.host for item in meant}
    if len(hosts) == 1:
        address = meant[0].address
        return Peer(address.host, address.port, dependencies.resolve(namespace, address.host), tuple(meant))
    mentioned = [item for item in testimony.report.mentions if wanted.search(item.host)]
    if len({item.host for item in mentioned}) == 1:
        return Peer(mentioned[0].host, mentioned[0].port, dependencies.resolve(namespace, mentioned[0].host), ())
    return None


def _only_mentioned(dependencies: Dependencies, testimony: Testimony) -> Peer | None:
    """The one Service that a log mentions with a port, when its error names no peer."""
    known = []
    for mention in testimony.report.mentions:
        found = dependencies.resolve(testimony.pod.namespace, mention.host)
        if found.service is not None:
            known.append(Peer(mention.host, mention.port, found, ()))
    return known[0] if len({peer.label for peer in known}) == 1 else None


def _means(dependencies: Dependencies, item: Dependency, host: str, found: Resolution) -> bool:
    """Whether a declared address is the one that an error names, by name or by what it resolves to."""
    if item.address.host == host:
        return True
    other = dependencies.resolve(item.workload.namespace, item.address.host)
    return found.service is not None and other.service is not None and other.service.ref.same(found.service.ref)


def _unreachable(world: World, testimony: Testimony, sign: Sign, peer: Peer | None) -> Iterator[Finding]:
    quote = testimony.quote(sign)
    if peer is None:
        yield _fails(testimony, sign, "a peer that its log does not name", quote)
        return
    found, service = peer.found, peer.found.service
    if service is not None and peer.port is not None and answers(world, service, peer.port) is False:
        if peer.declared:
            yield from (wrong_port(service, item, _at_least_likely(testimony), quote) for item in peer.declared)
        else:
            yield _wrong_port_inside(testimony, service, peer, quote)
        return
    if testimony.state is State.STARTING:
        yield _init_waits(testimony, peer, quote)
        return
    if service is not None:
        broken = _broken_behind(world, service)
        if broken is not None:
            yield _waits_for(testimony, service, broken, quote)
        else:
            label = f"{peer.label} (Service {service.namespace}/{service.name})"
            yield replace(_fails(testimony, sign, label, quote), wants=_logs_behind(world, service))
        return
    if found.stands is Stands.ABSENT and sign.kind in ("unknown-host", "refused", "timeout"):
        yield from _absent(world, testimony, peer, quote)
    elif found.stands is Stands.LOCAL:
        yield from _itself(testimony, sign, peer, quote)
    else:
        yield _fails(testimony, sign, peer.label, quote)


def _absent(world: World, testimony: Testimony, peer: Peer, quote: Evidence) -> Iterator[Finding]:
    dependencies = world.once(Dependencies)
    found = peer.found
    if (found.namespace, found.name) in dependencies.workload_names:
        yield absent_service(found.namespace, found.name, list(peer.declared), Certainty.PROVEN, quote)
    elif peer.declared and found.near:
        yield from (wrong_host(item, found.near, _at_least_likely(testimony), quote) for item in peer.declared)
    else:
        reference = ObjectRef("Service", found.namespace, found.name)
        yield Finding(
            code="app.name-not-resolved",
            subject=reference,
            certainty=Certainty.LIKELY,
            evidence=(cite(Source.ABSENCE, reference, "services", f"no Service {found.name} in namespace {found.namespace}"), quote),
            explanation=f"{testimony.workload} calls {peer.label}, but there is no Service {found.name} in namespace {found.namespace}.",
            affects=(testimony.workload, testimony.pod.ref),
        )


def _itself(testimony: Testimony, sign: Sign, peer: Peer, quote: Evidence) -> Iterator[Finding]:
    """Refused at its own address: a variable that names localhost where a peer was meant, or a sidecar that is down."""
    own = {port.container_port for container in testimony.pod.spec.all_containers for port in container.ports or ()}
    wrong = [item for item in peer.declared if item.address.port is not None and item.address.port not in own]
    if not wrong:
        yield _fails(testimony, sign, f"its own address {peer.label}", quote)
    for item in wrong:
        yield Finding(
            code="app.unreachable-itself",
            subject=item.holder,
            certainty=Certainty.LIKELY,
            evidence=(cite(Source.FIELD, item.holder, item.path, f"{item.key}={item.text}"), quote),
            explanation=f"{testimony.workload} is configured to call {item.address} ({item.key}), its own pod,"
            " where nothing listens on that port.",
            affects=(testimony.workload, testimony.pod.ref),
        )


def _wrong_port_inside(testimony: Testimony, service: Service, peer: Peer, quote: Evidence) -> Finding:
    """A port that the Service lacks and that no configuration names: it is built into the program."""
    served = ", ".join(str(port.port) for port in service.spec.ports or ())
    database = any(pattern.search(f"{service.name} {quote.quote}") for name, pattern in ENGINES if name != "kafka")
    return Finding(
        code="app.database-port" if database else "config.wrong-port",
        subject=testimony.workload,
        certainty=_at_least_likely(testimony),
        evidence=(quote, cite(Source.FIELD, service.ref, "spec.ports", served)),
        explanation=f"{testimony.workload} calls {peer.label}, but Service {service.namespace}/{service.name} serves only port {served};"
        " no configuration that was read names that port.",
        affects=(testimony.pod.ref,),
    )


def _broken_behind(world: World, service: Service) -> ObjectRef | None:
    """The workload behind a Service when none of its pods is ready, or the Service itself when it selects none."""
    if not service.spec.selector:
        return None
    pods = world.pods_selected(service.namespace, service.spec.selector)
    if not pods:
        return service.ref if world.all(Pod) else None
    return None if any(pod.ready for pod in pods) else world.top_owner(pods[0].ref)


def _logs_behind(world: World, service: Service) -> tuple[LogWant, ...]:
    """The logs of a pod or two that look well and are complained of: they may tell what keeps them from answering."""
    pods = [pod for pod in world.pods_selected(service.namespace, service.spec.selector or {}) if not pod.finished and not pod.deleting]
    return tuple(
        LogWant(ContainerRef(pod.namespace or "", pod.name, container.name), deep=True)
        for pod in sorted(pods, key=lambda pod: (pod.ready, pod.name))[:CALLEE_PODS]
        for container in pod.spec.containers
    )


def _waits_for(testimony: Testimony, service: Service, broken: ObjectRef, quote: Evidence) -> Finding:
    return Finding(
        code="app.dependency-broken",
        subject=testimony.workload,
        certainty=Certainty.LIKELY,
        evidence=(quote,),
        explanation=f"{testimony.workload} cannot reach Service {service.namespace}/{service.name}, behind which {broken} is not ready.",
        affects=(testimony.pod.ref,),
    )


def _init_waits(testimony: Testimony, peer: Peer, quote: Evidence) -> Finding:
    absent = peer.found.stands is Stands.ABSENT
    says = f"of which no Service exists in namespace {peer.found.namespace}" if absent else "which does not answer"
    return Finding(
        code="app.init-waits",
        subject=testimony.workload,
        certainty=Certainty.LIKELY,
        evidence=(quote,),
        explanation=f"Init container {testimony.container} of {testimony.workload} waits for {peer.label}, {says}.",
        affects=(testimony.pod.ref,),
    )


def _fails(testimony: Testimony, sign: Sign, label: str, quote: Evidence) -> Finding:
    verb = {"timeout": "gets no answer in time from", "unknown-host": "cannot resolve", "upstream-error": "gets server errors from"}
    code = "app.upstream-errors" if sign.kind == "upstream-error" else "app.dependency-fails"
    return Finding(
        code=code,
        subject=testimony.workload,
        certainty=min(testimony.certainty, Certainty.LIKELY) if sign.kind == "upstream-error" else testimony.certainty,
        evidence=(quote,),
        explanation=f"Container {testimony.container} of {testimony.workload} {verb.get(sign.kind, 'cannot connect to')} {label}.",
        affects=(testimony.pod.ref,),
    )


def _refused_credentials(world: World, testimony: Testimony, sign: Sign, peer: Peer | None) -> Finding:
    quote = testimony.quote(sign)
    user = f" of user {sign.user}" if sign.user else ""
    fresh = _newer_sibling(world, testimony)
    if fresh is not None:
        return Finding(
            code="app.stale-secret",
            subject=testimony.workload,
            certainty=Certainty.LIKELY,
            evidence=(quote, cite(Source.FIELD, fresh.ref, "metadata.creationTimestamp", fresh.created, fresh.created)),
            explanation=f"Pod {testimony.pod.name} of {testimony.workload} is refused with its credentials{user}, while {fresh.name},"
            " started later from the same template, is ready: the older pod still holds what was replaced.",
            affects=(testimony.pod.ref,),
        )
    server = _server(world, peer)
    at_server = server is not None and SERVER_SIDE.search(sign.text) is not None
    subject = server if at_server and server is not None else testimony.workload
    label = f" at {peer.label}" if peer else ""
    return Finding(
        code="app.credentials-refused",
        subject=subject,
        certainty=min(testimony.certainty, Certainty.LIKELY) if server is not None else testimony.certainty,
        evidence=(quote,),
        explanation=f"{testimony.workload} is refused with its credentials{user}{label}"
        + (f"; the words of the server point to the accounts of {server}." if at_server else "."),
        affects=(testimony.workload, testimony.pod.ref),
    )


def _newer_sibling(world: World, testimony: Testimony) -> Pod | None:
    """A ready pod of the same ReplicaSet that started later and is not refused: it read the Secret after it changed."""
    own, owner = testimony.pod, testimony.pod.controller
    if owner is None or own.created is None:
        return None
    siblings = world.owned_by(ObjectRef(owner.kind, own.namespace, owner.name))
    refused = {other.pod.ref.key for other in world.once(testimonies) if any(sign.kind == "database-auth" for sign in other.report.signs)}
    heard = {other.pod.ref.key for other in world.once(testimonies)}
    # A pod that is ready although it is refused itself says that readiness proves nothing here: then the sibling must have been heard.
    content = testimony.state is not State.RUNNING
    later = (
        item
        for item in siblings
        if isinstance(item, Pod) and item.ready and item.created and item.created > own.created
        if item.ref.key not in refused and (content or item.ref.key in heard)
    )
    return min(later, key=lambda pod: pod.name, default=None)


def _server(world: World, peer: Peer | None) -> ObjectRef | None:
    """The workload behind a peer, when it is one and runs in this cluster."""
    service = peer.found.service if peer else None
    if service is None or not service.spec.selector:
        return None
    owners = {
        world.top_owner(pod.ref).key: world.top_owner(pod.ref) for pod in world.pods_selected(service.namespace, service.spec.selector)
    }
    return next(iter(owners.values())) if len(owners) == 1 else None


def _plain(world: World, testimony: Testimony, sign: Sign, peer: Peer | None) -> Finding:
    code, says, at_peer = PEER_CODES[sign.kind]
    server = _server(world, peer) if at_peer and not (sign.kind == "connections-exhausted" and POOL.search(sign.text)) else None
    named = f" ({sign.name})" if sign.name else ""
    return Finding(
        code=code,
        subject=server or testimony.workload,
        certainty=min(testimony.certainty, Certainty.LIKELY) if server else testimony.certainty,
        evidence=(testimony.quote(sign),),
        explanation=f"Container {testimony.container} of {testimony.workload} {says}{named}" + (f" at {peer.label}." if peer else "."),
        affects=(testimony.workload, testimony.pod.ref),
    )


def waiting_inits(world: World) -> Iterator[Finding]:
    """Init containers that say what they wait for."""
    dependencies = world.once(Dependencies)
    for testimony in world.once(testimonies):
        waiting = testimony.report.waiting_for
        if testimony.state is not State.STARTING or testimony.sign is not None or waiting is None or waiting.host is None:
            continue
        found = dependencies.resolve(testimony.pod.namespace, waiting.host)
        peer = Peer(waiting.host, waiting.port, found, ())
        broken = _broken_behind(world, found.service) if found.service is not None else None
        if found.service is not None and broken is not None:
            yield _waits_for(testimony, found.service, broken, testimony.quote(waiting))
        else:
            yield _init_waits(testimony, peer, testimony.quote(waiting))


def _at_least_likely(testimony: Testimony) -> Certainty:
    return max(testimony.certainty, Certainty.LIKELY)


DETECTORS: tuple[Detector, ...] = (peer_faults, waiting_inits)
