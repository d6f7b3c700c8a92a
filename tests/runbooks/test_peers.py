from __future__ import annotations

import pytest

from runbooks.detectors.peers import peer_faults, waiting_inits
from runbooks.finding import Certainty, Finding, LogWant
from tests.runbooks.specimens import CRASHING, deployment, pod, replica_set, service
from tests.runbooks.worlds import LogKey, codes, world

APP = ("shop", "web-5d4f8-abcde", "app")
DB = service("db", port=5432, address="10.96.0.7")
DB_POD = pod("db-77777-abcde", ready=True)


def caller(**env: str) -> str:
    return pod(**CRASHING, container={"env": [{"name": key, "value": value} for key, value in env.items()]})


def one(text: str, line: str) -> Finding:
    (finding,) = peer_faults(world(text, logs={APP: f"starting\n{line}"}))
    return finding


def test_a_declared_port_that_the_service_lacks_is_proven_by_the_refusal() -> None:
    finding = one(DB + caller(DB_ADDR="db:5433"), "dial tcp 10.96.0.7:5433: connect: connection refused")
    assert (finding.code, finding.subject.name, finding.certainty) == ("app.database-port", "web", Certainty.PROVEN)


def test_a_port_that_no_configuration_names_is_built_in() -> None:
    for words in ("panic: database: no reachable servers", "panic: no reachable servers"):
        finding = one(DB + DB_POD + pod(**CRASHING), f"Read database URL: db:27777\n{words}")
        assert (finding.code, finding.subject.name) == ("app.database-port", "web")


def test_a_service_that_is_gone_while_its_workload_is_there() -> None:
    finding = one(service("other") + deployment("api") + caller(API_ADDR="api:80"), "getaddrinfo ENOTFOUND api")
    assert (finding.code, finding.subject.kind, finding.subject.name) == ("config.service-absent", "Service", "api")
    assert finding.certainty is Certainty.PROVEN


def test_a_host_that_is_nearly_a_service() -> None:
    finding = one(service("catalog") + caller(CATALOG_ADDR="catalgo:80"), "getaddrinfo ENOTFOUND catalgo")
    assert (finding.code, finding.subject.name) == ("config.wrong-host", "web")


def test_a_host_that_resembles_nothing() -> None:
    finding = one(service("catalog") + pod(**CRASHING), "getaddrinfo ENOTFOUND ledger")
    assert (finding.code, finding.subject.kind, finding.subject.name) == ("app.name-not-resolved", "Service", "ledger")


def test_localhost_where_a_peer_was_meant() -> None:
    finding = one(DB + caller(DB_ADDR="localhost:5432"), "connect ECONNREFUSED 127.0.0.1:5432".replace("127.0.0.1", "localhost"))
    assert (finding.code, finding.subject.name) == ("app.unreachable-itself", "web")


def test_a_peer_that_is_broken_itself_makes_the_caller_a_symptom() -> None:
    finding = one(DB + pod("db-77777-abcde") + pod(**CRASHING), "dial tcp 10.96.0.7:5432: connect: connection refused")
    assert (finding.code, finding.subject.name) == ("app.dependency-broken", "web")


@pytest.mark.parametrize(
    ("surroundings", "line"),
    [
        (DB + DB_POD, "dial tcp 10.96.0.7:5432: connect: connection refused"),
        ("", "All host(s) tried for db query failed (tried: prod-db:3333)"),
        ("", "ERROR: Failed to connect to database: connection timeout"),
        ("", "requests.exceptions.ConnectionError: Failed to establish connection to https://api.example.com - Connection timed out"),
    ],
)
def test_a_peer_that_looks_well_or_is_unknown_leaves_the_caller(surroundings: str, line: str) -> None:
    finding = one(surroundings + pod(**CRASHING), line)
    assert (finding.code, finding.subject.name) == ("app.dependency-fails", "web")


def test_server_errors_of_a_peer() -> None:
    assert one(pod(**CRASHING), "ERROR upstream returned 503 Service Unavailable").code == "app.upstream-errors"


@pytest.mark.parametrize(
    ("line", "subject"),
    [
        ("MongoServerError: Authentication failed. user not found in mongodb", "db"),
        ('FATAL: role "shop" does not exist', "db"),
        ('FATAL: password authentication failed for user "shop"', "web"),
    ],
)
def test_the_server_s_words_say_whose_credentials_are_wrong(line: str, subject: str) -> None:
    finding = one(DB + DB_POD + caller(DB_ADDR="db:5432"), line)
    assert (finding.code, finding.subject.name) == ("app.credentials-refused", subject)


def test_without_a_server_in_sight_the_caller_is_the_place() -> None:
    finding = one(pod(**CRASHING), "Access denied for user 'shop'@'10.0.0.7' (using password: YES)")
    assert (finding.code, finding.subject.name) == ("app.credentials-refused", "web")
    assert "shop" in finding.explanation


@pytest.mark.parametrize(("created", "code"), [("T11:40:00Z", "app.stale-secret"), ("T10:40:00Z", "app.credentials-refused")])
def test_a_later_sibling_that_is_ready_read_the_new_secret(created: str, code: str) -> None:
    sibling = pod("web-5d4f8-zzzzz", ready=True).replace("T11:00:00Z", created)
    made = replica_set("web-5d4f8", 1, {}) + sibling + pod(**CRASHING)
    assert one(made, 'FATAL: password authentication failed for user "shop"').code == code


@pytest.mark.parametrize(
    ("line", "code", "subject"),
    [
        ("x509: certificate signed by unknown authority", "app.certificate-untrusted", "web"),
        ('Get "https://db:5432/": http: server gave HTTP response to HTTPS client', "app.wrong-protocol", "web"),
        ('FATAL: database "shop" does not exist', "app.database-absent", "web"),
        ("ERROR: cannot execute INSERT in a read-only transaction on the database", "app.database-readonly", "db"),
        ("OOM command not allowed when used memory > 'maxmemory' at db:5432", "app.store-full", "db"),
        ("FATAL: sorry, too many clients already at db:5432", "app.connections-exhausted", "db"),
        ("HikariPool-1 - Connection is not available, request timed out after 30000ms.", "app.connections-exhausted", "web"),
        ("HTTP error: 429 Too Many Requests", "app.rate-limited", "web"),
        ("rpc error: code = Unauthenticated desc = token has expired", "app.token-refused", "web"),
    ],
)
def test_other_failures_with_a_peer(line: str, code: str, subject: str) -> None:
    finding = one(DB + DB_POD + caller(DB_ADDR="db:5432"), line)
    assert (finding.code, finding.subject.name) == (code, subject)


def test_a_running_program_that_got_over_it_accuses_nobody() -> None:
    log = "\n".join(["dial tcp 10.96.0.7:5432: connect: connection refused", *(f"request {number} served" for number in range(100))])
    assert not list(peer_faults(world(DB + pod(ready=True), logs={APP: log})))


def test_an_init_container_says_what_it_waits_for() -> None:
    waits = pod(init=True, phase="Pending")
    made = world(service("other") + waits, logs={APP: "still waiting on config-service\n" * 5})
    (finding,) = waiting_inits(made)
    assert (finding.code, finding.subject.name) == ("app.init-waits", "web")
    assert "config-service" in finding.explanation
    broken = world(service("db") + pod("db-77777-abcde") + waits, logs={APP: "waiting for db:5432\n" * 5})
    assert codes(waiting_inits(broken)) == {"app.dependency-broken"}
    assert not list(waiting_inits(world(pod(ready=True), logs={APP: "waiting for db:5432\n" * 5})))


def test_an_init_container_that_cannot_resolve_its_peer() -> None:
    (finding,) = peer_faults(world(service("other") + pod(init=True, phase="Pending"), logs={APP: "nc: bad address 'mysql'\n" * 5}))
    assert finding.code == "app.init-waits"


def test_a_pod_that_serves_while_it_is_refused_is_stale_only_beside_a_sibling_that_was_heard() -> None:
    made = replica_set("web-5d4f8", 1, {}) + pod("web-5d4f8-old", ready=True)
    made += pod("web-5d4f8-new", ready=True).replace("T11:00:00Z", "T11:40:00Z")
    refusals = "\n".join(['FATAL: password authentication failed for user "shop"'] * 5)
    old, new = (APP[0], "web-5d4f8-old", APP[2]), (APP[0], "web-5d4f8-new", APP[2])
    cases: tuple[tuple[dict[LogKey, str], str], ...] = (
        ({}, "app.credentials-refused"),
        ({new: "serving"}, "app.stale-secret"),
        ({new: refusals}, "app.credentials-refused"),
    )
    for heard, code in cases:
        findings = [item for item in peer_faults(world(made, logs={old: refusals, **heard})) if "web-5d4f8-old" in str(item.affects)]
        assert [item.code for item in findings] == [code]


def test_the_log_of_a_peer_that_looks_well_is_wanted() -> None:
    finding = one(DB + pod("db-77777-abcde", ready=True) + pod(**CRASHING), "dial tcp 10.96.0.7:5432: i/o timeout")
    assert [want.container.pod for want in finding.wants if isinstance(want, LogWant)] == ["db-77777-abcde"]


def moved(before: str, after: str, *, ready: bool = False) -> str:
    """A caller whose latest revision changed its address, beside the pod of the Deployment."""
    state = {"ready": True} if ready else CRASHING
    made = pod(**state, container={"env": [{"name": "STOCK_URL", "value": after}]})
    former, latest = ({"env": [{"name": "STOCK_URL", "value": value}]} for value in (before, after))
    return made + deployment() + replica_set("web-4c3e7", 1, former) + replica_set("web-5d4f8", 2, latest)


BOTH = service("stock", address="10.96.0.8") + service("offers", address="10.96.0.9")


def test_an_address_to_which_the_latest_revision_moved_the_caller() -> None:
    line = 'GET "http://offers/items": context deadline exceeded'
    finding = one(BOTH + pod("offers-77777-abcde", ready=True) + moved("http://stock", "http://offers"), line)
    assert (finding.code, finding.subject.name, finding.certainty) == ("config.changed-address", "web", Certainty.LIKELY)
    assert one(BOTH + pod("offers-77777-abcde", ready=True) + moved("http://offers", "http://offers"), line).code == "app.dependency-fails"
    # The new peer is broken itself: then the move is not what is wrong.
    assert one(BOTH + pod("offers-77777-abcde") + moved("http://stock", "http://offers"), line).code == "app.dependency-broken"


def test_a_namespace_out_of_sight_to_which_the_caller_was_moved() -> None:
    line = "getaddrinfo ENOTFOUND stock.elsewhere.svc.cluster.local"
    finding = one(BOTH + moved("http://stock", "http://stock.elsewhere.svc.cluster.local:80"), line)
    assert finding.code == "config.changed-address"


def test_a_database_is_meant_by_a_data_source_and_by_its_common_short_name() -> None:
    databases = service("pg-main", port=5432, address="10.96.0.7") + pod("pg-main-77777-abcde", ready=True).replace('"db"', '"pg-main"')
    finding = one(databases + caller(SPRING_DATASOURCE_URL="jdbc:postgresql://pg-main:5432/shop"), "FATAL: sorry, too many clients already")
    assert (finding.code, finding.subject.name) == ("app.connections-exhausted", "pg-main")
