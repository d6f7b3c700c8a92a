"""The forms in which runtimes, databases, brokers, model servers and HTTP stacks report known failures: one table, most specific first.

A line is given to the first form that matches. Forms of model servers and training come from failures.md E and F; the others are the
messages of the named servers and drivers. The table holds words only: which object is to blame is decided elsewhere.
It is longer than other modules because the order of its rows is its meaning.
"""

from __future__ import annotations

import re
from functools import cache

from msgspec import Struct


class Form(Struct, frozen=True):
    """One way to report a failure. `addressed` when the line usually names the peer, to be searched beyond the pattern's own groups."""

    kind: str
    wording: str
    addressed: bool = False

    @property
    def pattern(self) -> re.Pattern[str]:
        return _compiled(self.wording)


# At the first line of trouble: most commands read none, and compiling the table is a tenth of their start.
@cache
def _compiled(wording: str) -> re.Pattern[str]:
    return re.compile(wording, re.I)


def _form(kind: str, *patterns: str, addressed: bool = False) -> Form:
    return Form(kind, "|".join(patterns), addressed)


# A cheap test for lines worth matching against the table, in lower case. Access logs of good requests and progress lines do not pass.
# fmt: off
_TROUBLE: tuple[str, ...] = (
    "error", "fail", "fatal", "panic", "exception", "traceback", "critical", "severe", "refused", "denied", "unable", "cannot",
    "can't", "could not", "couldn't", "not found", "no such", "timeout", "timed out", "expired", "invalid", "missing", "required",
    "unbound", "undefined", "unavailable", "exhausted", "too many", "out of memory", "oom", "readonly", "read-only", "read only",
    "unreachable", "rejected", "unauthori", "forbidden", "not authorized", "no space", "quota", "throttl", "rate limit", " 429",
    ":429", "=429", "500", "502", "503", "504", "not set", "must be set", "need to specify", "in use", "unknown", "unsupported",
    "not supported", "mismatch", "corrupt", "deadlock", "noauth", "wrongpass", "enotfound", "econn", "reset by peer", "broken pipe",
    "bus error", "killed", "unhealthy", "misconf", "slots are reserved", "must be divisible", "must be equal", "exceeds",
    "less than desired", "circuit", "retry", "retries", " full", "lag ", "unrecognized", "xid", "nccl", "all host(s) tried",
    "slowdown", "larger than", "greater than", "has reached", "not valid", "doesn't match", "no route", "insufficient",
    "no reachable", "http response", "http request", "handshake", "wrong version", "bad address", "resolve", "feature flag",
    "featureflag", "overflow", "bad directive", "limit alarm", "blocked", "eai_again", "misbehaving", "try again", "deadline",
    "unexpectedly", "not yet initialized", "busy or", "retracting",
)
# fmt: on


def speaks_of_trouble(text: str) -> bool:
    """Whether a line has a word of trouble."""
    lowered = text.lower()
    return any(word in lowered for word in _TROUBLE)


_ERROR = re.compile(
    r"\b(?:ERROR|FATAL|CRITICAL|SEVERE|PANIC|EMERG)\b|(?i:[\"']?(?:level|severity|lvl)[\"']?\s*[:=]\s*[\"']?(?:error|fatal|"
    r"critical|panic))|"
    r"(?i:exception\b|traceback|\bfailed\b|\bfailure\b|\berror:|panic:|\bcrash(?:ed|ing)\b)"
)
_ORDINARY = re.compile(r"\b(?:INFO|DEBUG|TRACE|NOTICE)\b|(?i:[\"']?(?:level|severity|lvl)[\"']?\s*[:=]\s*[\"']?(?:info|debug|trace))")


def reports_error(text: str) -> bool:
    """Whether a line calls itself an error, or speaks of a failure without calling itself ordinary."""
    return bool(_ERROR.search(text)) and not _ORDINARY.search(text)


_VAR = r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+"

# The kind of lines that sound like a failure and are none.
HARMLESS = "harmless"

FAILURES: tuple[Form, ...] = (
    # MySQL looks up the names of its clients (MY-010055); most pods have none.
    _form(HARMLESS, r"IP address '[^']+' could not be resolved"),
    # Accelerators, model servers, training.
    _form("gpu-xid", r"NVRM: Xid|\bXid \("),
    _form("gpu-ecc", r"uncorrectable ECC error"),
    _form(
        "gpu-driver",
        r"CUDA driver version is insufficient|driver/library version mismatch|forward compatibility was attempted|"
        r"NVIDIA driver on your system is too old",
    ),
    # Fabric Manager joins the GPUs of an NVSwitch host; without it every CUDA program ends so (CUDA error 802).
    _form("gpu-fabric", r"Error 802: system not yet initialized|cudaErrorSystemNotReady|CUDA_ERROR_SYSTEM_NOT_READY"),
    # The container had its GPU and lost it, when the runtime wrote its device rules anew (nvidia-container-toolkit, troubleshooting).
    _form("gpu-lost", r"Failed to initialize NVML: Unknown Error"),
    _form("gpu-busy", r"CUDA-capable device\(s\) is/are busy or unavailable|GPU requires reset|CUDA_ERROR_DEVICE_UNAVAILABLE"),
    # libtpu, AWS Neuron's runtime (troubleshooting guides) and Habana's bridge: a process of the same host has opened the device already.
    _form("gpu-held", r"The TPU is already in use by|NeuronCore\(s\) not available - Requested|synStatus=\d+[^\n]*Device acquire failed"),
    # libtpu: before anything runs, and in the middle of a program (OpenXLA error codes, "Core Halted Unexpectedly").
    _form("tpu-workers", r"slice_builder_worker_addresses specified\. Expected \d+ worker addresses, got \d+"),
    _form("tpu-halted", r"Accelerator device halted prematurely|Core halted unexpectedly"),
    _form(
        "gpu-architecture",
        r"no kernel image is available for execution on the device|cudaErrorNoKernelImageForDevice|hipErrorNoBinaryForGpu",
    ),
    _form(
        "gpu-absent",
        r"no CUDA-capable device|Found no NVIDIA driver|libcuda\.so(?:\.1)?: cannot open|libnvidia-ml\.so(?:\.1)?: cannot open|"
        r"Failed to infer device type|No CUDA GPUs are available|Torch not compiled with CUDA enabled|No HIP GPUs are available|"
        r"no ROCm-capable device is detected|Could not open the nd\d+|TPU initialization failed: No \w+ device found",
    ),
    _form("dataloader-shm", r"DataLoader worker .*(?:Bus error|killed by signal)|out of shared memory|bus error encountered in worker"),
    _form(
        "shm-too-small",
        r"failed to extend /dev/shm|/dev/shm.*No space left|No space left on device:? '?/dev/shm|unable to (?:open|"
        r"allocate) shared memory",
    ),
    _form(
        "kv-cache-small",
        r"larger than the available KV cache memory|No available memory for the cache blocks|"
        r"larger than the maximum number of tokens that can be stored in (?:the )?KV cache|Please try to increase --mem-fraction-static|"
        r"Out of memory even after retracting all other requests",
    ),
    _form("gpu-memory-shared", r"Free memory on device .* less than desired GPU memory utilization"),
    _form(
        "cuda-oom",
        r"CUDA out of memory|OutOfMemoryError: CUDA|CUDA error: out of memory|hipErrorOutOfMemory|torch\.(?:cuda\.)?OutOfMemoryError|"
        r"CUBLAS_STATUS_ALLOC_FAILED|RESOURCE_EXHAUSTED: Out of memory while trying to allocate|HIP out of memory|"
        r"Ran out of memory in memory space hbm|Hbm usage[^\n]*exceeding available bytes|PT_DEVMEM Allocation failed|NRT_RESOURCE in nrt_|"
        # A buffer or a program that does not fit (OpenXLA error codes, 0101).
        r"RESOURCE_EXHAUSTED: [^\n]*Attempting to (?:allocate|reserve) \S+[^\n]*That was not possible",
    ),
    _form(
        "parallelism",
        r"must be divisible by tensor parallel size|world_size \(\d+\) must be equal to|Tensor parallel size \(\d+\) exceeds|"
        r"Cannot provide a placement group requiring|invalid device ordinal|number of attention heads .* divisible|"
        r"--num-shard .*GPU|sharded is .* but only \d+ GPU|World size \(\d+\) is larger than the number of available GPUs",
    ),
    _form(
        "weights-denied",
        r"GatedRepoError|Cannot access gated repo|access to (?:it|this|model \S+) is restricted|awaiting a review from the repo authors|"
        r"NGC_API_KEY[^\n]*(?:invalid|not valid|lacks access|not set|required)|40[13][^\n]*authn\.nvidia\.com|"
        r"HuggingFace authentication failed|40[13] Client Error(?![^\n]*Repository Not Found)[^\n]*huggingface\.co|HF_TOKEN",
    ),
    _form(
        "weights-missing",
        r"RepositoryNotFoundError|Repository Not Found for url|is not a local folder and is not a valid model identifier|"
        r"Cannot find any model weights|LocalEntryNotFoundError|EntryNotFoundError|does not appear to have a file named|"
        r"Failed to fetch model|No model found in|Cannot locate source uri|Invalid repository ID or local directory|"
        r"No such file or directory: '?[^'\s]*(?:\.safetensors|\.gguf|config\.json)|model path .* does not exist",
    ),
    _form(
        "model-unsupported",
        r"Model architectures \[.*\] (?:are not supported|failed to be inspected)|is not supported by (?:vLLM|SGLang|TGI)|"
        r"trust_remote_code|but Transformers does not recognize this architecture|Unknown quantization method|"
        r"is only supported on GPUs with compute capability|unsupported model type|unknown model architecture",
    ),
    _form("model-length", r"max_model_len \(\d+\) is greater than the derived max_model_len"),
    _form("adapter-missing", r"LoRA adapter \S+ (?:does not exist|not found)|No adapter found for"),
    _form(
        "model-name",
        r"The model [`'\"]?(?P<name>[^`'\"\s]+)[`'\"]? does not exist|"
        r"model [`'\"]?(?P<name2>[^`'\"\s]+)[`'\"]? not found, try pulling it first",
    ),
    _form(
        "kv-transfer",
        r"NIXL transfer (?:failure|setup failed)|NIXL_ERR_\w+|NIXL is not available|"
        r"Releasing expired KV blocks|No remote agents for engine|"
        r"Mooncake transfer engine returned -?\d|(?:Decode|Prefill) (?:transfer|bootstrap|handshake) failed for request rank",
    ),
    # vLLM v1/engine/core_client.py: the engine's own patience, which no probe knows of.
    _form("load-timeout", r"Timed out waiting for engine core processes to start"),
    # vLLM v1/executor/multiproc_executor.py: killed from outside, by the kernel for the container's memory as a rule.
    _form("worker-killed", r"Worker proc \S+ died unexpectedly \(exit code: -9\)"),
    _form(
        "nccl",
        r"Watchdog caught collective operation timeout|ProcessGroupNCCL's watchdog got stuck|Timeout at NCCL work|"
        r"Some NCCL operations have failed or timed out|nccl(?:Internal|System|Remote|UnhandledCuda)Error|NCCL error|"
        r"NCCL WARN (?:Bootstrap|Call to ibv|Mismatched)|unhandled system error \(run with NCCL_DEBUG",
    ),
    _form(
        "rendezvous",
        r"Rendezvous(?:Timeout|Connection|Closed)Error|timed out after \d+ seconds waiting for clients|\d+/\d+ clients joined|"
        r"client socket has (?:failed|timed out)[^\n]*connect|TCPStore[^\n]*timed? ?out",
    ),
    _form(
        "checkpoint",
        r"PytorchStreamReader failed|(?:failed|error) (?:to )?sav(?:e|ing) (?:the )?checkpoint|"
        r"checkpoint[^\n]*No space left|No space left on device:? '?/[^'\s]*(?:ckpt|checkpoint)|"
        r"checkpoint[^\n]*(?:Disk quota|Read-only file)",
    ),
    _form("training-data", r"DatasetGenerationError|DataLossError|Parquet magic bytes|ArrowInvalid|corrupt(?:ed)? (?:record|dataset|JPEG)"),
    # Object stores and tables.
    _form("commit-conflict", r"(?:Retryable )?commit conflict for version|CommitFailedException|ConcurrentAppendException"),
    # Lance: a version that another process cleaned up, and a table that is not where it is looked for.
    _form("table-version-missing", r"_versions/\d+\.manifest[^\n]*(?:not found|NoSuchKey|No such file)|Not found: \S+/_versions/"),
    _form("table-missing", r"Table '(?P<name>[^']+)' was not found|Dataset at path \S+ was not found|Unable to created? lance dataset at"),
    _form("object-store-throttled", r"SlowDown|RequestLimitExceeded|Please reduce your request rate"),
    _form(
        "object-store-denied",
        r"(?:S3|s3|GetObject|PutObject|ListObjects|HeadObject|bucket|object_store|gs://)[^\n]*(?:AccessDenied|Access Denied|"
        r"Forbidden|403)|"
        r"AccessDenied[^\n]*(?:S3|s3|Object|Bucket)|SignatureDoesNotMatch|InvalidAccessKeyId|NoSuchBucket|ExpiredToken\b|"
        r"RequestTimeTooSkewed|NoCredentialsError|Unable to locate credentials|CredentialsNotLoaded|S3 authentication failed",
    ),
    # The process cannot start.
    _form("exec-format", r"exec format error|cannot execute binary file"),
    _form(
        "port-in-use",
        r"(?:address|port)(?: \d+)? (?:is )?already in use|EADDRINUSE|bind\(\) to \S*:?(?P<port>\d+)? ?failed \(98|"
        r"Only one usage of each socket address|failed to bind to (?:port|address)|Port (?P<name>\d+) was already in use",
        addressed=True,
    ),
    _form(
        "command-missing",
        r"(?:^|/)(?:ba|da|a)?sh: (?:\d+: |line \d+: )?(?P<name>[\w./-]+): (?:command )?not found|"
        r"exec: \"?(?P<name2>[^\":]+)\"?: (?:executable file )?not found",
    ),
    _form(
        "program-missing",
        r"can't open file '?(?P<name>[^':]+)|Unable to access jarfile (?P<name2>\S+)|Could not find or load main class (?P<name3>\S+)|"
        r"Cannot find module '(?P<name4>/[^']+)'|No module named (?P<name5>\S+__main__\S*)|No such application",
    ),
    _form(
        "usage",
        r"unknown (?:flag|shorthand flag|option|command)|unrecognized (?:arguments?|option)|flag provided but not defined|"
        r"invalid option|illegal option|no such option|unexpected argument|Bad directive or wrong number of arguments|"
        r"unrecognized configuration parameter|unknown variable '",
    ),
    # Configuration.
    _form(
        "missing-env",
        rf"(?:environment variables?|env(?:ironment)? vars?|env)\s*:?\s*[\"'`]?(?P<name>{_VAR}|[A-Z]{{4,}})[\"'`]?\s+(?:is |"
        rf"was |are |must )?(?:not|required|missing|undefined|unset|empty|be set)",
        rf"(?:missing|required|undefined|unset|must set|need to (?:set|specify)|expected)\s+(?:a |the )?(?:required |"
        rf"mandatory )?(?:environment variables?|env(?:ironment)? vars?|setting|configuration)s?:?\s+[\"'`]?(?P<name2>{_VAR})",
        rf"KeyError: '(?P<name3>{_VAR})'",
        rf"\b(?P<name4>{_VAR})\b[\"'`]? (?:environment variable )?(?:is|was|must be|has) (?:not (?:been )?(?:set|defined|"
        rf"provided)|unset|undefined|required|set\b|missing)",
        rf"(?P<name5>{_VAR}): (?:unbound variable|parameter (?:null or )?not set)",
        r"Could not resolve placeholder '(?P<name6>[^']+)'",
        r"(?:You must specify|need to specify one of the following[^A-Z]*|must specify) (?P<name7>[A-Z]+_PASSWORD)|"
        r"superuser password is not specified|password option is not specified",
        r"(?:ENOTFOUND|EAI_AGAIN|lookup|resolve host:?|ECONNREFUSED) (?P<name8>undefined|null|None)\b",
        r"environment variable (?:not set|missing|is not set)",
    ),
    _form(
        "config-invalid",
        r"JSONDecodeError|Unexpected token .* in JSON|is not valid JSON|invalid character .* looking for beginning|"
        r"yaml: (?:line|unmarshal|did not find)|"
        # A configuration that could not be fetched is not a wrong one.
        r"yaml\.(?:scanner|parser)\.|(?:error|fail\w*|cannot|could not|unable to)[^\n]{0,20} (?:parse|parsing|load|loading|"
        r"read|reading|unmarshal\w*|decode|decoding)[^\n]{0,30}config(?![^\n]*(?:i/o timeout|connection refused|dial tcp|no such host))|"
        r"\[emerg\]|toml: |ConfigurationError|InvalidConfig|ConfigException|invalid config(?:uration)?\b|"
        r"config(?:uration)? (?:file )?[^\n]{0,40}(?:is invalid|not valid|test failed)|"
        r"unknown directive|Fatal error, can't open config file|BadConfig|Error in configuration",
    ),
    # Certificates and protocols.
    _form(
        "certificate-expired",
        r"certificate (?:has |is |was )?expired|CertificateExpired|CERT_HAS_EXPIRED|expired certificate|has expired or is not yet valid|"
        r"certificate verify failed: certificate has expired|ExpiredCert|SSL certificate expired|NotAfter: |"
        r"CertPath\w*Exception: validity check failed|notAfter[^\n]*(?:passed|past)",
    ),
    _form(
        "certificate-untrusted",
        r"unknown authority|self[- ]signed certificate|unable to (?:get local issuer|verify the first) certificate|PKIX path|"
        r"SSLHandshakeException|certificate is valid for .* not |hostname .* doesn'?t match|certificate verify failed|bad certificate|"
        r"CERT_ALTNAME_INVALID|UNABLE_TO_VERIFY_LEAF|handshake failure|x509: ",
        addressed=True,
    ),
    _form(
        "wrong-protocol",
        r"HTTP response to HTTPS client|first record does not look like a TLS handshake|wrong version number|"
        r"HTTP request to an HTTPS server|"
        r"malformed HTTP response|plain HTTP request was sent to HTTPS|Unsupported or unrecognized SSL message|not an SSL/TLS record|"
        r"invalid HTTP (?:version|method|request) |unexpected HTTP/1\.x|server preface|frame too large|Bad packet received|"
        r"Protocol error, got",
        addressed=True,
    ),
    # Databases, caches, brokers.
    _form(
        "database-missing",
        r"database \"?(?P<name>[\w-]+)\"? does not exist|Unknown database '(?P<name2>[^']+)'|no such database|"
        r"Cannot open database \"(?P<name3>[^\"]+)\"",
        addressed=True,
    ),
    _form(
        "database-auth",
        r"password authentication failed for user \"?(?P<user>[^\"\s]+)|role \"(?P<user2>[^\"]+)\" does not exist|no pg_hba\.conf entry|"
        r"Access denied for user '(?P<user3>[^']*)'|ER_ACCESS_DENIED|ER_NOT_SUPPORTED_AUTH_MODE|"
        r"SCRAM[^\n]*(?:failed|not found|mismatch)|UserNotFound|Could not find user|auth error|SASL authentication|AuthenticationFailed|"
        r"not authorized on \S+ to execute|command \w+ requires authentication|MongoServerError: Authentication|"
        r"NOAUTH|WRONGPASS|invalid username-password|NOPERM|AUTH, but no password is set|ERR AUTH|"
        r"SaslAuthenticationException|Authentication failed (?:during authentication )?due to|TopicAuthorizationException|"
        r"TOPIC_AUTHORIZATION_FAILED|"
        r"ACCESS_REFUSED|PLAIN login refused|Login was refused|Login failed for user|permission denied for (?:table|relation|"
        r"database|schema)|"
        r"command denied to user|(?:database|db|mongo\w*|postgres\w*|mysql|redis|valkey|kafka|"
        r"rabbit\w*)[^\n]*authentication fail\w*|^\W*Authentication failed",
        addressed=True,
    ),
    _form(
        "database-readonly",
        r"read-only transaction|READONLY You can't write|--(?:super-)?read-only option|NotWritablePrimary|not master|not primary|"
        r"attempt to write a readonly database|database is (?:in )?read-?only|ReadOnlyError|read-only replica",
        addressed=True,
    ),
    _form("store-memory-full", r"OOM command not allowed|maxmemory", addressed=True),
    _form(
        "connections-exhausted",
        r"Connection is not available, request timed out|QueuePool limit of size|connection pool (?:is )?(?:exhausted|full|timeout)|"
        r"too many (?:clients|connections)|remaining connection slots are reserved|max(?:imum)? number of (?:clients|"
        r"connections) reached|"
        r"Timeout waiting for (?:idle object|connection from pool)|pool (?:is )?exhausted|PoolExhausted|no (?:free|"
        r"available) connections? (?:in|left|from)|"
        r"timeout exceeded when trying to connect|unable to (?:obtain|acquire|get) (?:a )?(?:JDBC )?connection|"
        r"could not (?:obtain|acquire|get) (?:a )?connection (?:from|within)|acquir\w+ connection[^\n]*timed? ?out|ER_CON_COUNT|"
        r"connection limit exceeded",
        addressed=True,
    ),
    # PostgreSQL 57014, MySQL 3024, SQL Server -2, MongoDB 50.
    _form(
        "query-timeout",
        r"canceling statement due to statement timeout|maximum statement execution time exceeded|Execution Timeout Expired|"
        r"MaxTimeMSExpired|operation exceeded time limit|QueryTimeoutException",
    ),
    _form("lock-contention", r"deadlock detected|Lock wait timeout exceeded|lock timeout|could not obtain lock|database is locked"),
    _form(
        "disk-full",
        r"No space left on device|ENOSPC|disk quota exceeded|could not extend file|table .* is full|MISCONF Redis|not enough space|"
        r"insufficient disk space|disk is full|database space exceeded|flood[ -]stage (?:disk )?watermark|index has read-only-allow-delete",
    ),
    _form("read-only-filesystem", r"read-only file ?system|EROFS"),
    # errno EIO: the device below answers with an error. "I/O error" alone is Spring's word for a failed request.
    _form("storage-io", r"(?<!/)Input/output error|\bEIO\b|Buffer I/O error on|blk_update_request: I/O error"),
    # A data directory that another process holds (mongod, Elasticsearch, PostgreSQL, MySQL, LevelDB and others say it so).
    _form(
        "data-locked",
        r"DBPathInUse|Unable to lock the lock file|LockObtainFailedException|lock file \"?postmaster\.pid\"? already exists|"
        r"Unable to lock \S*ibdata|Unable to lock \./|another (?:mongod|instance|process|server) (?:\S+ )?is already (?:running|using)|"
        r"(?:could not|failed to|cannot|unable to) (?:acquire|obtain|get|take) "
        r"(?:the )?(?:exclusive )?(?:file )?lock on (?:file |directory )?/|"
        r"lock (?:file )?/\S+: Resource temporarily unavailable|OverlappingFileLockException",
    ),
    # The machine's limits.
    _form(
        "runtime-memory",
        r"java\.lang\.OutOfMemoryError(?!: unable to create)|"
        r"JavaScript heap out of memory|\bMemoryError\b|runtime: out of memory|System\.OutOfMemoryException|"
        r"(?<!fork: )Cannot allocate memory|std::bad_alloc|memory allocation of \d+ bytes failed|Allowed memory size of|"
        r"ray\.exceptions\.OutOfMemoryError|cannot allocate memory",
    ),
    _form(
        "resource-limit",
        r"can't start new thread|unable to create (?:new )?native thread|pthread_create|too many open files|EMFILE|fork: retry|"
        r"fork: Cannot allocate memory|"
        r"Resource temporarily unavailable|RLIMIT|no more processes|cannot assign requested address|EADDRNOTAVAIL",
    ),
    # The Kubernetes API.
    _form(
        "kubernetes-forbidden",
        # klog puts the API's answer in quotes of its own, so that its quotes come with a backslash.
        r"User \\*\"system:serviceaccount:(?P<user>[^\\\"]+)\\*\" cannot (?P<name>\w+ resource \\*\"[^\"]+\")|"
        r"is forbidden: User \\*\"system:serviceaccount",
    ),
    # The API server turns requests away for load (apiserver/pkg/util/flowcontrol; apimachinery NewTooManyRequestsError).
    _form("api-overloaded", r"the server has received too many requests and has asked us to try again later"),
    # Peers. A name server that does not answer, or answers SERVFAIL, is not one that says that there is no such name.
    _form(
        "dns-unanswered",
        r"EAI_AGAIN|Temporary failure in name resolution|lookup [^\s:]+[^\n]*(?:server misbehaving|:53: (?:i/o timeout|connect: |read: ))|"
        r"lookup [^\s:]+ on [^\n]*->[^\n]*:53: (?:i/o timeout|read)|\bSERVFAIL\b|Try again \(os error|ETIMEOUT \S+|"
        r"DNS (?:lookup|query)[^\n]*timed out",
        addressed=True,
    ),
    _form(
        "unknown-host",
        r"no such host|getaddrinfo (?:ENOTFOUND|failed)|UnknownHostException|could not translate host name|"
        r"Could(?: not|n't) (?:be )?resolved? (?:host|the host|address|server|name|domain|['\"]|[\w-]+[.:])|"
        r"Name resolution failed|name or service not known|Name does not resolve|"
        r"nodename nor servname|"
        r"Unknown MySQL server host|unknown host|DNS resolution failed|NXDOMAIN|bad address|host not found|"
        r"dns lookup failed|"
        r"failed to resolve",
        addressed=True,
    ),
    _form(
        "refused",
        r"connection refused|ECONNREFUSED|actively refused|Can't connect to (?:MySQL|MariaDB|local)|Couldn't connect to server|"
        r"All host\(s\) tried|client has run out of available brokers|Broker may not be available|NoBrokersAvailable|"
        r"No servers available|no reachable servers|ServerSelectionTimeout|No server is available|"
        r"failed to connect to all addresses|Connection to \S+ refused|"
        r"could not connect to server|Failed to connect to (?!\w+ after)|unable to connect to|cannot connect to|"
        r"can't connect to|could not connect to|"
        r"Communications link failure|connection to server at|Failed to establish (?:a new )?connection|Error connecting to|"
        r"connect: no route",
        addressed=True,
    ),
    _form(
        "timeout",
        r"(?:connect\w*|dial\w*|read|request|i/o|socket|context|operation|query|database|redis|mongo\w*|upstream|http|rpc|"
        r"client)[^\n]{0,60}"
        r"(?:(?<!_)timeout(?!_)|timed out|deadline exceeded)|ETIMEDOUT|DEADLINE_EXCEEDED|TimeoutException|TimeoutError|"
        r"connection timeout|ReadTimeout|ConnectTimeout",
        addressed=True,
    ),
    _form("unreachable", r"no route to host|network is unreachable|EHOSTUNREACH|ENETUNREACH", addressed=True),
    _form("feature-flag", r"feature[ -]?flag[^\n]*(?:enabled|fail|error|on\b)|fail\w* feature ?flag"),
    _form(
        "rate-limited",
        r"too many requests|rate limit (?:exceeded|reached|hit)|rate[- ]limited|RateLimitExceeded|RateLimitError|TooManyRequests|"
        r"status(?:[ _]?code)?[\"']?[:= ]+429\b|HTTP/?\d?\.?\d? 429|quota exceeded|"
        # A number of this size is a status where a peer answers it.
        r"\b(?:answer|return|respon|got|receiv|repl)\w*(?: with)? 429\b[^\n]{0,20}\b(?:quota|limit)\b",
        addressed=True,
    ),
    _form("circuit-open", r"circuit ?breaker[^\n]*open|CircuitBreakerOpen|CallNotPermittedException|hystrix[^\n]*short-circuited"),
    _form("retry-storm", r"retry (?:budget|limit|attempts?) (?:exceeded|exhausted)|max(?:imum)? retries exceeded|retries exhausted"),
    _form(
        "upstream-error",
        r"50[234] (?:Bad Gateway|Service (?:Temporarily )?Unavailable|Gateway Time-?out)|no healthy upstream|upstream connect error|"
        r"upstream (?:prematurely closed|server error)|received HTTP (?:status )?50\d|(?:unexpected|bad) status(?: code)?:? 50[234]\b|"
        r"(?:upstream|backend|downstream|"
        r"dependency)[^\n]*\b50\d\b|"
        r"code = Unavailable|14 UNAVAILABLE|StatusCode\.UNAVAILABLE",
        addressed=True,
    ),
    _form(
        "token-refused",
        r"token (?:is |has )?expired|(?:invalid|bad) (?:api[ _-]?key|token|jwt)|jwt (?:expired|malformed)|"
        r"signature (?:is invalid|verification failed)|"
        r"401 Unauthorized|status(?:[ _]?code)?[\"']?[:= ]+401\b|StatusCode\.UNAUTHENTICATED|code = Unauthenticated|"
        r"InvalidTokenError|invalid_grant|Signed JWT rejected|no\b[^\n]{0,20}signing key[^\n]{0,30}matches|"
        r"signing key[^\n]{0,30}not found|(?:jwt|jwk|jws|kid|token|signature)[^\n]{0,80}no matching key|"
        # An LDAP directory's answer to a bind, code 49 of RFC 4511.
        r"LDAP[^\n]*invalid credentials",
        addressed=True,
    ),
    # RabbitMQ's resource alarms stop every publisher; clients are told by connection.blocked (rabbitmq.com/docs/alarms).
    _form("broker-blocked", r"resource limit alarm set|Publishers will be blocked|connection(?:\.| is | )blocked: low on (?:memory|disk)"),
    # A record that no consumer can read stays first in its partition: nothing behind it is read (org.apache.kafka.clients.consumer).
    _form(
        "message-unreadable",
        r"Error deserializing (?:key|value|key/value) for partition \S+ at offset|RecordDeserializationException|"
        r"can'?t process '?SerializationException'?|cannot process 'SerializationException's directly",
    ),
    _form(
        "queue-backlog",
        r"consumer lag|\blag\b[^\n]{0,40}\b(?:increasing|growing|behind)|CommitFailedError|"
        r"max\.poll\.interval\.ms|queue (?:is )?full|QueueFull|"
        r"backlog (?:is )?(?:full|growing|exceeded)|message queue overflow|RejectedExecution",
    ),
    _form(
        "file-missing",
        r"No such file or directory:? '?(?P<name>/[^'\s:]+)|no such file or directory, open '(?P<name2>[^']+)'|"
        r"open (?P<name3>/\S+): no such file|(?P<name4>/[\w./-]+): No such file or directory|FileNotFoundException: (?P<name5>/\S+)|"
        r"FileNotFoundError|could not open file \"(?P<name6>[^\"]+)\"",
    ),
    _form(
        "permission",
        r"Permission denied:? '?(?P<name>/[^'\s:]+)|EACCES: permission denied, \w+ '(?P<name2>[^']+)'|"
        r"(?P<name3>/[\w./-]+): permission denied|"
        r"AccessDeniedException: (?P<name4>/\S+)|PermissionError|Operation not permitted|mkdir: cannot create directory|"
        r"(?:permissions of|directory|file|open|access|create|mkdir|chown|chmod)[^\n]{0,30} ['\"](?P<name5>/[^'\"]+)['\"]?: "
        r"(?:Operation not permitted|Permission denied)|"
        r"\[Errno 13\]|permission denied",
    ),
)

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"
_ADDRESSES: tuple[re.Pattern[str], ...] = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        rf"host='(?P<host>{_HOST})', port='?(?P<port>\d+)",
        rf"dial (?:tcp|udp)4? (?P<host>{_HOST}):(?P<port>\d+)",
        rf"lookup (?P<host>{_HOST})(?: on|:)",
        rf"(?:ECONNREFUSED|ETIMEDOUT|EHOSTUNREACH|ECONNRESET|ENOTFOUND|EAI_AGAIN) (?P<host>{_HOST})(?::(?P<port>\d+))?",
        rf"(?:dns|ipv4|passthrough|ipv6):/{{0,3}}(?P<host>{_HOST})(?::(?P<port>\d+))?",
        rf"UnknownHostException:? (?P<host>{_HOST})",
        rf"(?:host name|resolve host:?|resolve|server host|server on|server at|unknown host|bad address|"
        rf"host not found in upstream) [\"'(]?(?P<host>{_HOST})[\"')]?(?:[^\n]{{0,20}}?(?:, port |:)(?P<port>\d+))?",
        rf"running on host \"(?P<host>{_HOST})\"[^\n]{{0,80}}?(?:on port (?P<port>\d+)|$)",
        rf"tried: (?P<host>{_HOST}):(?P<port>\d+)",
        rf"(?:upstream|target|endpoint|url|address|addr|broker|server)s?[\"']?[:= ]+\"?(?:\w+://)?(?P<host>{_HOST}):(?P<port>\d+)",
        rf"\b(?:\w+\+)?\w+://(?:[^@/\s\"']*@)?(?P<host>{_HOST})(?::(?P<port>\d+))?",
        rf"connect(?:ion|ing|ed)? to (?:server at )?[\"']?(?P<host>{_HOST})[\"']?(?: port |:)(?P<port>\d+)",
        rf"\((?P<host>{_HOST})/[\d.]+:(?P<port>\d+)\)",
        rf"\b(?P<host>{_HOST})(?:/[\d.]+)?:(?P<port>\d{{2,5}})\b(?!:\d)",
    )
)
# What looks like host:port and is a place in a source file or a time.
_NO_HOST = re.compile(
    r"^\d{1,2}$|\.(?:py|js|ts|go|java|rb|rs|cc|cpp|cs|kt|scala|mjs|php|c|h)$|^(?:line|port|code|errno|pid|status|lineno|exit)$", re.I
)


def address_in(text: str) -> tuple[str | None, str | None]:
    """The host and port that a line names as its peer; None for what it does not name."""
    for pattern in _ADDRESSES:
        for found in pattern.finditer(text):
            host = found["host"]
            if not _NO_HOST.search(host):
                return host.lower(), found.groupdict().get("port")
    return None, None
