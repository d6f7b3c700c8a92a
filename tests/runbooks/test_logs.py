"""Lines as the named servers, drivers and runtimes write them, and what must be recognised in them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from runbooks import logs
from runbooks.logs import Mention

KINDS = [
    # Model servers, trainings, accelerators.
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB", "cuda-oom"),
    ("CUDA out of memory occurred when warming up sampler with 1024 dummy requests.", "cuda-oom"),
    (
        "ValueError: Free memory on device cuda:0 (10.1/79.6 GiB) on startup is less than desired GPU memory utilization (0.9, 71.7 GiB).",
        "gpu-memory-shared",
    ),
    (
        "ValueError: To serve at least one request with the model's max seq len (131072), (16.0 GiB KV cache is needed, which is larger "
        "than the available KV cache memory (7.2 GiB). Based on the available memory, the estimated maximum model length is 58912.",
        "kv-cache-small",
    ),
    ("ValueError: No available memory for the cache blocks. Try increasing gpu_memory_utilization", "kv-cache-small"),
    (
        "huggingface_hub.errors.GatedRepoError: 403 Client Error. Cannot access gated repo for url https://huggingface.co/x",
        "weights-denied",
    ),
    ("OSError: org/m is not a local folder and is not a valid model identifier listed on the hub", "weights-missing"),
    ("401 Client Error. Repository Not Found for url: https://huggingface.co/api/models/x", "weights-missing"),
    ("ValueError: Model architectures ['FooForCausalLM'] are not supported for now.", "model-unsupported"),
    (
        "ValueError: User-specified max_model_len (65536) is greater than the derived max_model_len (max_position_embeddings=32768)",
        "model-length",
    ),
    ("ValueError: Total number of attention heads (40) must be divisible by tensor parallel size (16).", "parallelism"),
    ("Error: failed to extend /dev/shm/nccl-abc to 33030528 bytes, error: No space left on device (28)", "shm-too-small"),
    (
        "RuntimeError: DataLoader worker (pid 77) is killed by signal: Bus error. It is possible that dataloader's workers are out",
        "dataloader-shm",
    ),
    ("[Rank 3] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1580, OpType=ALLREDUCE) ran for 600060 milliseconds", "nccl"),
    ("torch.distributed.elastic.rendezvous.api.RendezvousTimeoutError", "rendezvous"),
    ("RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory", "checkpoint"),
    ("NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus.", "gpu-xid"),
    ("RuntimeError: Found no NVIDIA driver on your system.", "gpu-absent"),
    ("CUDA driver version is insufficient for CUDA runtime version", "gpu-driver"),
    ("RuntimeError: No HIP GPUs are available", "gpu-absent"),
    ("2021-Nov-11 15:33:20.0161  7912:7912  ERROR  TDRV:tdrv_init_mla_phase1  Could not open the nd0", "gpu-absent"),
    ("hipErrorNoBinaryForGpu: Unable to find code object for all current devices!", "gpu-architecture"),
    ("torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB.", "cuda-oom"),
    ("RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 49.34G of 32.00G hbm.", "cuda-oom"),
    ("RESOURCE_EXHAUSTED: TPU TensorCore Hbm usage: 34.82G, SparseCore Hbm usage 1.10G, exceeding available bytes: 95.74G", "cuda-oom"),
    (
        "RESOURCE_EXHAUSTED: Error loading program 'jit_step': Attempting to reserve 29.49G at the bottom of memory. That was not possible."
        " There are 147.64M free, 0B reserved, and 147.64M reservable.",
        "cuda-oom",
    ),
    ("RESOURCE_EXHAUSTED: Error allocating device buffer: Attempting to allocate 50.00M. That was not possible.", "cuda-oom"),
    ("RuntimeError: [Rank:0] FATAL ERROR :: MODULE:PT_DEVMEM Allocation failed for size::939524096 (896)MB", "cuda-oom"),
    ("Failure: NRT_RESOURCE in nrt_tensor_allocate", "cuda-oom"),
    ("Error code 404: The model `llama-3` does not exist.", "model-name"),
    # Starting.
    ("exec /app/checkout: exec format error", "exec-format"),
    ("Error: listen EADDRINUSE: address already in use :::8080", "port-in-use"),
    ("listen tcp :8080: bind: address already in use", "port-in-use"),
    ("nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address in use)", "port-in-use"),
    ("OSError: [Errno 98] Address already in use", "port-in-use"),
    ("/bin/sh: 1: serve: not found", "command-missing"),
    ("sh: line 1: servee: command not found", "command-missing"),
    ("python: can't open file '/app/mian.py': [Errno 2] No such file or directory", "program-missing"),
    ("Error: Unable to access jarfile /app/app.jar", "program-missing"),
    ("Error: unknown flag: --listn", "usage"),
    ("app.py: error: unrecognized arguments: --foo", "usage"),
    # Configuration.
    ("panic: environment variable BASKET_ADDR not set", "missing-env"),
    ('panic: environment variable "PRICES_ADDR" not set', "missing-env"),
    ("KeyError: 'DATABASE_URL'", "missing-env"),
    ("Error: Missing required environment variable: API_TOKEN", "missing-env"),
    ("./start.sh: line 3: DB_HOST: unbound variable", "missing-env"),
    ("Could not resolve placeholder 'DB_URL' in value \"${DB_URL}\"", "missing-env"),
    ("Error: getaddrinfo ENOTFOUND undefined", "missing-env"),
    ("Error: 14 UNAVAILABLE: Name resolution failed for target dns:undefined", "missing-env"),
    ("Error: Database is uninitialized and superuser password is not specified.", "missing-env"),
    ("json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)", "config-invalid"),
    ('nginx: [emerg] unknown directive "servr" in /etc/nginx/nginx.conf:3', "config-invalid"),
    ("Error: failed to load config: yaml: line 4: mapping values are not allowed in this context", "config-invalid"),
    # Certificates and protocols.
    (
        "x509: certificate has expired or is not yet valid: current time 2026-01-15T12:00:00Z is after 2025-12-31T00:00:00Z",
        "certificate-expired",
    ),
    ("ssl.SSLCertVerificationError: certificate verify failed: certificate has expired (_ssl.c:1006)", "certificate-expired"),
    ("x509: certificate signed by unknown authority", "certificate-untrusted"),
    ("javax.net.ssl.SSLHandshakeException: PKIX path building failed", "certificate-untrusted"),
    ('Get "https://api:8080/": http: server gave HTTP response to HTTPS client', "wrong-protocol"),
    ("ssl.SSLError: [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1131)", "wrong-protocol"),
    # Databases and brokers.
    ('FATAL: database "shop" does not exist', "database-missing"),
    ('FATAL:  password authentication failed for user "shop"', "database-auth"),
    ("ERROR 1045 (28000): Access denied for user 'shop'@'10.0.0.7' (using password: YES)", "database-auth"),
    ("MongoServerError: Authentication failed.", "database-auth"),
    ('(Unauthorized) not authorized on ledger-db to execute command { find: "geo" }', "database-auth"),
    ("panic: server returned error on SASL authentication step: Authentication failed.", "database-auth"),
    ("NOAUTH Authentication required.", "database-auth"),
    ("WRONGPASS invalid username-password pair or user is disabled.", "database-auth"),
    ("org.apache.kafka.common.errors.SaslAuthenticationException: Authentication failed", "database-auth"),
    ("ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.", "database-auth"),
    ("ERROR: cannot execute INSERT in a read-only transaction", "database-readonly"),
    ("READONLY You can't write against a read only replica.", "database-readonly"),
    (
        "ERROR 1290 (HY000): The MySQL server is running with the --read-only option so it cannot execute this statement",
        "database-readonly",
    ),
    ("MongoServerError: not primary", "database-readonly"),
    ("OOM command not allowed when used memory > 'maxmemory'.", "store-memory-full"),
    ("HikariPool-1 - Connection is not available, request timed out after 30000ms.", "connections-exhausted"),
    ("sqlalchemy.exc.TimeoutError: QueuePool limit of size 5 overflow 10 reached, connection timed out", "connections-exhausted"),
    ("FATAL: sorry, too many clients already", "connections-exhausted"),
    ("FATAL: remaining connection slots are reserved for roles with the SUPERUSER attribute", "connections-exhausted"),
    ("ERROR: deadlock detected", "lock-contention"),
    ("ERROR:  canceling statement due to statement timeout", "query-timeout"),
    ("MongoServerError: operation exceeded time limit", "query-timeout"),
    ("OSError: [Errno 28] No space left on device", "disk-full"),
    ("OSError: [Errno 30] Read-only file system: '/data/x'", "read-only-filesystem"),
    # Limits.
    ("java.lang.OutOfMemoryError: Java heap space", "runtime-memory"),
    ("FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory", "runtime-memory"),
    ("fatal error: runtime: out of memory", "runtime-memory"),
    ("RuntimeError: can't start new thread", "resource-limit"),
    ("accept4: too many open files", "resource-limit"),
    # Peers and requests.
    ("HTTP 429 error: Too Many Requests", "rate-limited"),
    ("AxiosError: Request failed with status code 429", "rate-limited"),
    ("ERROR sync failed: the forecast API answered 429: daily quota of 1000 calls used up", "rate-limited"),
    ("upstream connect error or disconnect/reset before headers. reset reason: connection failure", "upstream-error"),
    ("rpc error: code = Unauthenticated desc = token has expired", "token-refused"),
    ("AxiosError: Request failed with status code 401", "token-refused"),
    ("Signed JWT rejected: Another algorithm expected, or no matching key(s) found", "token-refused"),
    ("ERROR no configured signing key matches kid 7f3a", "token-refused"),
    ("failed to verify id token signature: no matching key", "token-refused"),
    ("login failed for u7: LDAP bind failed: invalid credentials (49)", "token-refused"),
    ("[nixl_connector.py:1180] nixlRemoteDisconnectError: NIXL_ERR_REMOTE_DISCONNECT", "kv-transfer"),
    ('pods is forbidden: User "system:serviceaccount:shop:web" cannot list resource "pods" in API group ""', "kubernetes-forbidden"),
    ("Error: Price List Fail Feature Flag Enabled", "feature-flag"),
    (
        "botocore.exceptions.ClientError: An error occurred (AccessDenied) when calling the PutObject operation: Access Denied",
        "object-store-denied",
    ),
    ("lance error: Retryable commit conflict for version 12: This Rewrite transaction was preempted", "commit-conflict"),
    ("FileNotFoundError: [Errno 2] No such file or directory: '/etc/app/settings.yaml'", "file-missing"),
    ("PermissionError: [Errno 13] Permission denied: '/data/cache'", "permission"),
    ('ERROR:  could not read block 3 in file "base/16384/16412": Input/output error', "storage-io"),
    ("flood stage disk watermark [95%] exceeded on [Xk2], all indices on this node will be marked read-only", "disk-full"),
    ("NimHubError: The NGC_API_KEY provided is not valid or lacks access to nim/x: 401 Unauthorized", "weights-denied"),
    ("openai.NotFoundError: Error code: 404 - model 'qwen:14b' not found, try pulling it first", "model-name"),
    ("RecordDeserializationException: Error deserializing VALUE for partition orders-0 at offset 10412", "message-unreadable"),
    # A message inside JSON comes with its quotation marks escaped.
    (r'{"level":"fatal","error":"pq: database \"inventory\" does not exist"}', "database-missing"),
]


@pytest.mark.parametrize(("line", "kind"), KINDS)
def test_a_known_failure_is_recognised(line: str, kind: str) -> None:
    report = logs.read_lines(["starting up", line])
    assert report.signs, report
    assert report.signs[0].kind == kind


ADDRESSED = [
    ("dial tcp 10.96.8.9:9999: connect: connection refused", "refused", "10.96.8.9", 9999),
    ("Error: connect ECONNREFUSED 10.96.1.1:6379", "refused", "10.96.1.1", 6379),
    (
        "requests.exceptions.ConnectionError: HTTPConnectionPool(host='api', port=8080): Max retries exceeded with url: / (Caused by "
        "NewConnectionError: Failed to establish a new connection: [Errno 111] Connection refused)",
        "refused",
        "api",
        8080,
    ),
    ('connection to server at "db" (10.0.0.4), port 5432 failed: Connection refused', "refused", "db", 5432),
    ("redis.exceptions.ConnectionError: Error 111 connecting to cache:6379. Connection refused.", "refused", "cache", 6379),
    ("All host(s) tried for db query failed (tried: prod-db:3333) - no available connection", "refused", "prod-db", 3333),
    ("14 UNAVAILABLE: No connection established. Last error: connect ECONNREFUSED 10.96.3.3:7070", "refused", "10.96.3.3", 7070),
    ("java.net.ConnectException: Connection to db:5432 refused", "refused", "db", 5432),
    ("dial tcp: lookup orders on 10.96.0.10:53: no such host", "unknown-host", "orders", None),
    ("Error: getaddrinfo ENOTFOUND orders", "unknown-host", "orders", None),
    ("java.net.UnknownHostException: orders", "unknown-host", "orders", None),
    ('could not translate host name "db" to address: Name or service not known', "unknown-host", "db", None),
    ("curl: (6) Could not resolve host: orders", "unknown-host", "orders", None),
    ("nc: bad address 'mysql'", "unknown-host", "mysql", None),
    ("Error: 14 UNAVAILABLE: Name resolution failed for target dns:catalog:8080", "unknown-host", "catalog", 8080),
    ('[emerg] host not found in upstream "api" in /etc/nginx/conf.d/default.conf:5', "config-invalid", None, None),
    ("dial tcp 10.96.8.9:5432: i/o timeout", "timeout", "10.96.8.9", 5432),
    ("Error: connect ETIMEDOUT 10.96.8.9:5432", "timeout", "10.96.8.9", 5432),
    (
        'connect() failed (111: Connection refused) while connecting to upstream, upstream: "http://10.1.1.1:8080/x"',
        "refused",
        "10.1.1.1",
        8080,
    ),
]


@pytest.mark.parametrize(("line", "kind", "host", "port"), ADDRESSED)
def test_the_peer_is_read_off_the_line(line: str, kind: str, host: str | None, port: int | None) -> None:
    sign = logs.read_lines([line]).signs[0]
    assert (sign.kind, sign.host, sign.port) == (kind, host, port)


def test_a_client_without_a_name_is_no_failure_of_the_server() -> None:
    line = "91 [Warning] [MY-010055] [Server] IP address '10.20.0.8' could not be resolved: Name or service not known"
    assert logs.read_lines([line] * 9).quiet


@pytest.mark.parametrize(
    "line",
    [
        "ERROR Unable to negotiate with 10.0.0.1 port 22: no matching key exchange method found. Their offer: ssh-rsa",
        "WARN no matching key found in the index, error ignored",
        "ERROR the signing key matches, and the audience failed",
        "ERROR batch of 429 exceeds limit 400",
        "ERROR 3 of 429 writes failed, limit 10",
    ],
)
def test_keys_and_numbers_of_other_things_are_no_refusals_of_a_peer(line: str) -> None:
    assert logs.read_lines([line] * 5).signs == ()


def test_queries_that_a_program_calls_slow_are_timed() -> None:
    lines = [f"WARN slow query ({4000 + 10 * number}ms): SELECT * FROM line_items WHERE invoice_ref = $1" for number in range(9)]
    (slow,) = logs.read_lines(lines).slow
    assert slow.database
    assert slow.median_seconds > 4


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("KeyError: 'DATABASE_URL'", "DATABASE_URL"),
        ("panic: environment variable BASKET_ADDR not set", "BASKET_ADDR"),
        ("/bin/sh: 1: serve: not found", "serve"),
        ('FATAL: database "shop" does not exist', "shop"),
        ("PermissionError: [Errno 13] Permission denied: '/data/cache'", "/data/cache"),
    ],
)
def test_what_the_line_names_is_kept(line: str, name: str) -> None:
    assert logs.read_lines([line]).signs[0].name == name


def test_the_user_is_kept() -> None:
    assert logs.read_lines(["Access denied for user 'shop'@'10.0.0.7' (using password: YES)"]).signs[0].user == "shop"


@pytest.mark.parametrize(
    "line",
    [
        "INFO: Application startup complete.",
        '10.0.0.1 - - [15/Jan/2026:12:00:00 +0000] "GET /api HTTP/1.1" 200 612',
        '{"level":"info","msg":"processed 500 records","rate_limit":"100/second"}',
        "INFO retry policy: maxRetries=3, timeout=500ms",
        "Successfully connected to database",
        "KV cache usage: 12.0%, Prefix cache hit rate: 40.1%",
        "INFO registered deserializer for partition orders-0 at offset 10412",
        "INFO compiled jit_step: Hbm usage 12.10G, available bytes: 95.74G, failed attempts: 0",
        "INFO memory planner: attempting to allocate 5.94M, retry 1 of 3",
    ],
)
def test_ordinary_lines_are_no_signs(line: str) -> None:
    report = logs.read_lines([line] * 5)
    assert report.quiet, report


def test_lines_of_one_shape_are_counted_and_the_newest_is_kept() -> None:
    lines = [f"2026-01-15T11:00:{i:02d}Z dial tcp 10.0.0.9:80: connect: connection refused (attempt {i})" for i in range(40)]
    (sign,) = logs.read_lines([*lines, "giving up"]).signs
    assert (sign.times, sign.from_end) == (40, 1)
    assert "attempt 39" in sign.text


def test_templates_fold_what_differs_only_in_numbers() -> None:
    assert logs.templates(["took 1 ms", "took 22 ms", "other"]) == (("took 22 ms", 2), ("other", 1))


def test_a_more_specific_sign_precedes() -> None:
    report = logs.read_lines(["connection refused by 10.0.0.1:80", "exec /app: exec format error"])
    assert report.principal is not None
    assert report.principal.kind == "exec-format"


def test_calls_that_time_themselves() -> None:
    fast_and_slow = [f"GET /health took {i} ms" for i in range(9)] + [f"Database call completed in {i}.5 seconds." for i in range(5, 10)]
    (slow,) = logs.read_lines(fast_and_slow).slow
    assert (slow.times, slow.median_seconds, slow.database) == (5, 7.5, True)
    assert not logs.read_lines(["Database call completed in 0.05 seconds."] * 20).slow
    assert not logs.read_lines(["Database call completed in 9.0 seconds."] * 2).slow


def test_bare_durations_are_milliseconds() -> None:
    (slow,) = logs.read_lines(['{"responseTime":4644.29,"msg":"request completed"}'] * 4).slow
    assert slow.median_seconds == pytest.approx(4.64429)


def test_where_it_listens_and_what_it_waits_for_and_names() -> None:
    report = logs.read_lines(["Tax server listening on :8083", "Read database URL: ledger-db:27017", "still waiting on config-service"])
    assert report.listening == (8083,)
    assert report.waiting_for is not None
    assert report.waiting_for.host == "config-service"
    assert report.mentions == (Mention("ledger-db", 27017),)


def test_an_access_log_counts_its_answers() -> None:
    lines = [f'10.0.0.{i} - - [15/Jan/2026:12:00:00] "GET /x HTTP/1.1" {500 if i % 4 == 0 else 200} 12' for i in range(20)]
    assert logs.read_lines(lines).answers == ((200, 15), (500, 5))
    assert logs.read_lines(['{"path":"/x","status": 429}'] * 3).answers == ((429, 3),)
    assert logs.read_lines(['{"msg":"job done","status":"success"}'] * 3).answers == ()


def test_a_long_log_takes_little() -> None:
    line = '{{"timestamp":"2026-01-15T12:00:00.{0:06d}Z","level":"INFO","path":"/api/{0}","status":200,"response_time_ms":{0}}}'
    lines = [line.format(number) for number in range(20_000)]
    started = time.process_time()
    assert logs.read_lines(lines).quiet
    assert time.process_time() - started < 3


def test_a_hostile_line_is_bounded() -> None:
    started = time.process_time()
    logs.read_lines(["error: " + "a" * 1_000_000, "failed to connect to " + "x.-" * 100_000, "\x1b[31mERROR\x1b[0m boom"])
    assert time.process_time() - started < 2


def test_the_peer_that_an_old_libpq_asks_about_on_the_next_line() -> None:
    question = '\tIs the server running on host "database" (10.96.3.3) and accepting TCP/IP connections on port 5432?'
    (sign,) = logs.read_lines(["starting", "could not connect to server: Connection refused", question]).signs
    assert (sign.kind, sign.host, sign.port, sign.from_end) == ("refused", "database", 5432, 0)
    # Without an error before it, the question is a line like any other.
    assert logs.read_lines([question]).signs == ()


def test_the_time_in_a_json_line_does_not_take_its_level_with_it() -> None:
    line = '{"level":"error","ts":"2026-01-15T11:59:00.000Z","msg":"ledger 7 out of balance"}'
    assert logs.read_lines([line] * 3).errors[0].times == 3
    ordinary = '{"level":"info","ts":"2026-01-15T11:59:00.000Z","msg":"nothing failed"}'
    assert logs.read_lines([ordinary] * 3).errors == ()


def test_what_holds_the_data_is_told_from_a_lack_of_threads() -> None:
    held = "DBPathInUse: Unable to lock the lock file: /data/db/mongod.lock (Resource temporarily unavailable)"
    assert [sign.kind for sign in logs.read_lines([held]).signs] == ["data-locked"]
    threads = "java.lang.OutOfMemoryError: unable to create native thread: possibly out of memory"
    assert [sign.kind for sign in logs.read_lines([threads]).signs] == ["resource-limit"]
    assert [sign.kind for sign in logs.read_lines(["java.lang.OutOfMemoryError: Java heap space"]).signs] == ["runtime-memory"]


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("2026-01-15T11:00:00.5Z started", 0),
        ("2026-01-15 11:00:05,123 INFO started", 5),
        ("2026/01/15 11:01:00 [error] upstream", 60),
        ('{"level":30,"time":1768474800000,"msg":"x"}', 0),
    ],
)
def test_when_a_line_was_logged(line: str, seconds: int) -> None:
    assert logs.moment_in(line) == datetime(2026, 1, 15, 11, tzinfo=UTC) + timedelta(seconds=seconds)


@pytest.mark.parametrize("line", ["started", "9999-99-99 99:99:99 odd", f"{'x' * 90} 2026-01-15T11:00:00Z"])
def test_a_line_without_a_time_of_its_own(line: str) -> None:
    assert logs.moment_in(line) is None


def test_what_only_sounds_like_a_host_that_does_not_resolve() -> None:
    assert logs.read_lines(["Could not resolve Linux kernel version"]).signs == ()
    for line in (
        "curl: (6) Could not resolve host: cart",
        "Couldn't resolve server kafka:9092 from bootstrap.servers as DNS resolution failed",
    ):
        assert [sign.kind for sign in logs.read_lines([line]).signs] == ["unknown-host"]


@pytest.mark.parametrize(
    "line",
    [
        "Error: getaddrinfo EAI_AGAIN api.example.com",
        "dial tcp: lookup api.example.com on 10.96.0.10:53: server misbehaving",
        "dial tcp: lookup cart on 10.96.0.10:53: read udp 10.1.0.9:4712->10.96.0.10:53: i/o timeout",
        "failed to resolve host 'db': [Errno -3] Temporary failure in name resolution",
    ],
)
def test_a_name_server_that_does_not_answer(line: str) -> None:
    assert [sign.kind for sign in logs.read_lines([line]).signs] == ["dns-unanswered"]


def test_a_configuration_that_could_not_be_fetched_is_not_a_wrong_one() -> None:
    line = 'panic: unable to load configmap: Get "https://10.96.0.1:443/api": dial tcp 10.96.0.1:443: i/o timeout'
    assert [sign.kind for sign in logs.read_lines([line]).signs] == ["timeout"]
    assert [sign.kind for sign in logs.read_lines(["error: failed to load config: bad indent"]).signs] == ["config-invalid"]
