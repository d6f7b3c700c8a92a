"""Secrets in the places where they really appear go, harmless look-alikes stay: a corpus that is made, not stored.

Nothing here is a real credential, and none stands here in one piece: each is put together from its prefix and characters of a seeded
generator, so that no scanner takes this file for a leak. `test_redact` has the hand-picked cases; this is the breadth.
"""

from __future__ import annotations

import base64
import json
import random
import string
import time
from collections.abc import Callable
from typing import Any

import pytest

from guardrails.redact import MARK, present, redact, redact_object

LETTERS = string.ascii_letters + string.digits
LOWER = string.ascii_lowercase + string.digits
UPPER = string.ascii_uppercase + string.digits
HEX = "0123456789abcdef"
SAFE = LETTERS + "-_"
BASE64 = LETTERS + "+/"
# Of these Kubernetes makes the ends of names (apimachinery util/rand).
POD_NAME = "bcdfghjklmnpqrstvwxz2456789"


def _made(seed: str, alphabet: str, length: int) -> str:
    """Characters that are the same in every run; always with a digit and a capital where the alphabet has them, as real ones have."""
    chance = random.Random(seed)
    value = "".join(chance.choice(alphabet) for _ in range(length))
    ends = "".join(next((c for c in group if c in alphabet), "") for group in ("7", "Q", "k"))
    return value[: length - len(ends)] + ends


def _pem(kind: str, *, lines: int = 4) -> str:
    body = "\n".join(_made(f"{kind}{number}", BASE64, 64) for number in range(lines))
    return f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----"


def _segment(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document, separators=(",", ":")).encode()).decode().rstrip("=")


def _jwt(claims: dict[str, Any], header: dict[str, Any] | None = None) -> str:
    return ".".join((_segment(header or {"alg": "RS256", "kid": "k1"}), _segment(claims), _made(str(claims), SAFE, 86)))


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# A shape tells these wherever they stand.
SHAPED: dict[str, str] = {
    "aws access key": "AK" + "IA" + _made("aws", UPPER, 16),
    "aws session key": "AS" + "IA" + _made("sts", UPPER, 16),
    "service account token": _jwt({"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:ml:default"}),
    "oidc id token": _jwt({"iss": "https://login.example", "email": "ada@example.com", "exp": 1}),
    "rsa key": _pem("RSA PRIV" + "ATE KEY"),
    "pkcs8 key": _pem("PRIV" + "ATE KEY"),
    "ec key": _pem("EC PRIV" + "ATE KEY", lines=2),
    "openssh key": _pem("OPENSSH PRIV" + "ATE KEY"),
    "encrypted key": _pem("ENCRYPTED PRIV" + "ATE KEY"),
    "hugging face": "h" + "f_" + _made("hf", LETTERS, 34),
    "hugging face organisation": "api_" + "org_" + _made("hforg", LETTERS, 34),
    "openai project": "s" + "k-proj-" + _made("oai", SAFE, 48),
    "openai service account": "s" + "k-svcacct-" + _made("oaisvc", SAFE, 48),
    "anthropic": "s" + "k-ant-api03-" + _made("ant", SAFE, 93),
    "openrouter": "s" + "k-or-v1-" + _made("or", HEX, 64),
    "ngc": "nv" + "api-" + _made("ngc", SAFE, 64),
    "github personal": "gh" + "p_" + _made("ghp", LETTERS, 36),
    "github oauth": "gh" + "o_" + _made("gho", LETTERS, 36),
    "github server": "gh" + "s_" + _made("ghs", LETTERS, 36),
    "github fine-grained": "github" + "_pat_" + _made("ghf", LETTERS, 22) + "_" + _made("ghf2", LETTERS, 59),
    "gitlab": "gl" + "pat-" + _made("gl", SAFE, 20),
    "slack bot": "xo" + "xb-" + "123456789012-1234567890123-" + _made("slack", LETTERS, 24),
    "slack app": "xa" + "pp-1-A0123456789-1234567890123-" + _made("slackapp", HEX, 64),
    "google api": "AI" + "za" + _made("gapi", SAFE, 35),
    "gcp oauth": "ya" + "29." + _made("gcp", SAFE, 60),
    "gcp client": "GOC" + "SPX-" + _made("gcpc", SAFE, 28),
    "npm": "np" + "m_" + _made("npm", LETTERS, 36),
    "pypi": "py" + "pi-AgEIcHlwaS5vcmc" + _made("pypi", SAFE, 60),
    "docker hub": "dckr" + "_pat_" + _made("dckr", SAFE, 27),
    "vault": "hv" + "s." + _made("vault", SAFE, 90),
    "sendgrid": "S" + "G." + _made("sg", SAFE, 22) + "." + _made("sg2", SAFE, 43),
    "stripe": "s" + "k_live_" + _made("stripe", LETTERS, 24),
    "groq": "gs" + "k_" + _made("groq", LETTERS, 52),
    "replicate": "r" + "8_" + _made("r8", LETTERS, 37),
    "langsmith": "lsv2" + "_pt_" + _made("ls", HEX, 32) + "_" + _made("ls2", HEX, 10),
    "pinecone": "pc" + "sk_" + _made("pc", SAFE, 60),
    "digitalocean": "do" + "p_v1_" + _made("do", HEX, 64),
    "tailscale": "ts" + "key-auth-" + _made("ts", LETTERS, 17) + "-" + _made("ts2", LETTERS, 32),
    "age": "AGE-SEC" + "RET-KEY-1" + _made("age", UPPER, 58),
    "databricks": "da" + "pi" + _made("dapi", HEX, 32),
    "grafana": "gl" + "sa_" + _made("glsa", LETTERS, 32) + "_" + _made("glsa2", HEX, 8),
    "new relic": "NR" + "AK-" + _made("nrak", UPPER, 27),
    "atlassian": "ATA" + "TT3" + _made("atl", SAFE, 186),
    "azure client": _made("azc", LETTERS, 3) + "8" + "Q~" + _made("azc2", SAFE, 34),
    "terraform cloud": _made("tfc", LETTERS, 14) + ".atlas" + "v1." + _made("tfc2", SAFE, 67),
    "artifactory": "AK" + "Cp" + _made("akc", LETTERS, 69),
    "linear": "lin" + "_api_" + _made("lin", LETTERS, 40),
    "kubeconfig key": _b64(_pem("RSA PRIV" + "ATE KEY")),
    "docker config": _b64(json.dumps({"auths": {"nvcr.io": {"auth": _b64("$oauthtoken:" + _made("ngcp", LETTERS, 40))}}})),
}


# Nothing but their name or place tells these.
NAMELESS: dict[str, str] = {
    "password": _made("pw", LETTERS, 20),
    "password with signs": "p@" + _made("pw2", LETTERS, 12) + "#9!",
    "aws secret": _made("awss", BASE64, 40),
    "hex key": _made("wandb", HEX, 40),
    "uuid key": "6f1c2d3e-4b5a-4978-8796-" + _made("uuid", HEX, 12),
    "base64": _b64(_made("b64", SAFE, 24)),
}


def _object(*, env: dict[str, str] | None = None, **container: Any) -> dict[str, Any]:
    listed = [{"name": name, "value": value} for name, value in (env or {}).items()]
    return {"kind": "Pod", "apiVersion": "v1", "spec": {"containers": [{"name": "main", "env": listed, **container}]}}


Place = Callable[[str], Any]

# Where a secret with a shape turns up. A place answers text, or an object that goes through `redact_object`.
ANYWHERE: dict[str, Place] = {
    "log line": lambda s: f"2026-11-24T10:00:00Z ERROR 401 from registry, used {s} to log in",
    "log line of json": lambda s: json.dumps({"level": "error", "msg": f"rejected {s}", "code": 401}),
    "json in json": lambda s: json.dumps({"log": json.dumps({"msg": f"rejected {s}"})}),
    "event": lambda s: f'Error: failed to start container "main": exec: "{s}": not found',
    "variable of a harmless name": lambda s: _object(env={"EXTRA": s}),
    "argument": lambda s: _object(args=["serve", f"--extra={s}", "--port=8000"]),
    "shell script": lambda s: _object(command=["sh", "-c", f"export X={s}; exec serve"]),
    "config map": lambda s: {"kind": "ConfigMap", "data": {"app.conf": f"[main]\nextra = {s}\nworkers = 2\n"}},
    "annotation": lambda s: {"kind": "Pod", "metadata": {"annotations": {"note": f"was {s}"}}},
    "termination message": lambda s: {"status": {"message": f"fatal: bad credentials ({s})"}},
    "query": lambda s: f"GET https://api.example.com/v1/models?user=ada&k={s} 403",
}

# Where a secret without a shape turns up: its name, or its place, gives it away.
NAMED: dict[str, Place] = {
    "variable": lambda s: _object(env={"MYSQL_ROOT_PASSWORD": s}),
    "variable in a listing": lambda s: f"PATH=/bin\nWANDB_API_KEY={s}\nHOME=/root",
    "variable in yaml": lambda s: f"env:\n- name: DB_PASSWORD\n  value: '{s}'\n- name: MODE\n  value: fast",
    "variable in json": lambda s: json.dumps({"env": [{"name": "AZURE_CLIENT_SECRET", "value": s}]}),
    "last-applied in text": lambda s: "last-applied: " + json.dumps(json.dumps({"env": [{"name": "API_TOKEN", "value": s}]})),
    "last-applied annotation": lambda s: {
        "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"stringData": {"anything": s}})}}
    },
    "argument": lambda s: _object(args=["--api-key", s, "--port", "8000"]),
    "argument with equals": lambda s: _object(args=[f"--db-password={s}"]),
    "assignment": lambda s: f"connecting with password={s} to db",
    "quoted assignment": lambda s: f'password="{s}" user="app"',
    "python repr": lambda s: f"Settings(host='db', password='{s}', port=5432)",
    "python dict": lambda s: f"{{'client_secret': '{s}', 'scope': 'read'}}",
    "go struct": lambda s: f"&{{Host:db Password:{s} Port:5432}}",
    "yaml": lambda s: f"database:\n  host: db\n  password: '{s}'\n",
    "yaml block": lambda s: f"secret_key: |\n  {s}\nother: 1",
    "properties": lambda s: f"spring.datasource.password={s}\nspring.datasource.user=app",
    "toml": lambda s: f'api_key = "{s}"\ntimeout = 3',
    "header": lambda s: f"> X-Api-Key: {s}\n> Accept: */*",
    "bearer header": lambda s: f"Authorization: Bearer {s}",
    "cookie": lambda s: f"Cookie: session={s}",
    "docker auth": lambda s: json.dumps({"auths": {"nvcr.io": {"username": "$oauthtoken", "password": s}}}),
    "kubeconfig": lambda s: f"users:\n- name: admin\n  user:\n    token: '{s}'\n",
    "secret object": lambda s: {"kind": "Secret", "apiVersion": "v1", "data": {"anything": s}},
    "secret in a list": lambda s: {"kind": "List", "items": [{"kind": "Secret", "stringData": {"x": s}}]},
    "secret as text": lambda s: json.dumps({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "x"}, "data": {"anything": s}}),
    "secret as yaml": lambda s: (
        f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: x\ndata:\n  anything: '{s}'\n  more: '{s}'\ntype: Opaque\n"
    ),
}
# A password in a URL cannot hold these characters unescaped.
_IN_URL = str.maketrans("", "", "/+=#@!-")
URLS: dict[str, Place] = {
    "postgres": lambda s: f"postgresql+asyncpg://app:{s}@db.shop.svc:5432/orders?sslmode=require",
    "redis": lambda s: f"dial redis://:{s}@cache:6379/0: timeout",
    "mongodb": lambda s: f"mongodb+srv://u:{s}@c0.example.net/?retryWrites=true",
    "amqp": lambda s: f"amqps://guest:{s}@mq:5671/vhost",
    "basic auth": lambda s: f"git clone https://robot:{s}@git.example.com/o/r.git",
    "index": lambda s: f"pip install --index-url https://__token__:{s}@pypi.example.com/simple x",
    "go mysql": lambda s: f"app:{s}@tcp(db:3306)/orders?parseTime=true",
    "s3 presigned": lambda s: f"https://b.s3.amazonaws.com/m.bin?X-Amz-Expires=60&X-Amz-Signature={s}&x-id=GetObject",
    "azure blob": lambda s: f"https://a.blob.core.windows.net/c/m.bin?sv=2024-01-01&sig={s}{s}&se=2026",
    "azure connection string": lambda s: f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={s}{s}==;EndpointSuffix=x",
    "slack webhook": lambda s: f"POST https://hooks.slack.com/services/T0AB/B0CD/{s} 200",
    "access token": lambda s: f"GET /callback?access_token={s}&state=1 302",
}

CORPUS: list[tuple[str, Any, str]] = [
    *(
        (f"{what}: {where}", place(secret), secret)
        for number, (what, secret) in enumerate(SHAPED.items())
        # Every shape in three of the places, every place with many shapes.
        for where, place in [list(ANYWHERE.items())[(number + step) % len(ANYWHERE)] for step in (0, 4, 7)]
    ),
    *((f"{what}: {where}", place(secret), secret) for where, place in NAMED.items() for what, secret in NAMELESS.items()),
    *(
        (f"url: {where}", place(NAMELESS["aws secret"].translate(_IN_URL)), NAMELESS["aws secret"].translate(_IN_URL))
        for where, place in URLS.items()
    ),
]

HARMLESS: list[str] = [
    *(f"commit {_made(f'sha{n}', HEX, 40)} (HEAD -> main)" for n in range(3)),
    *(f"registry.example.com/team/app@sha256:{_made(f'digest{n}', HEX, 64)}" for n in range(3)),
    *(f"containerd://{_made(f'cid{n}', HEX, 64)}" for n in range(2)),
    *(f"pod web-{_made(f'hash{n}', POD_NAME, 10)}-{_made(f'x{n}', POD_NAME, 5)} started" for n in range(5)),
    *(f'uid: "{_made(f"u{n}", HEX, 8)}-{_made(f"v{n}", HEX, 4)}-4978-8796-{_made(f"w{n}", HEX, 12)}"' for n in range(3)),
    *(f'"resourceVersion":"{number}"' for number in (1, 48193, 918273645)),
    *(f'etag: W/"{_made(f"etag{n}", LETTERS, 27)}"' for n in range(2)),
    f"trace_id={_made('trace', HEX, 32)} span_id={_made('span', HEX, 16)}",
    f"traceparent: 00-{_made('tp', HEX, 32)}-{_made('tp2', HEX, 16)}-01",
    f"pod-template-hash={_made('pth', 'bcdf2456789', 10)}",
    f"controller-revision-hash: serve-{_made('crh', 'bcdf2456789', 10)}",
    f"GPU-{_made('gpu', HEX, 8)}-4b5a-6978-8796-{_made('gpu2', HEX, 12)}",
    f"MIG-{_made('mig', HEX, 8)}-4b5a-6978-8796-{_made('mig2', HEX, 12)}",
    "k8s.io.api.core.v1.Pod",
    "k8s:enc:proto:v1:" + "runtime.Unknown",
    "type.googleapis.com/envoy.config.listener.v3.Listener",
    "application/vnd.kubernetes.protobuf;stream=watch",
    _b64("k8s\x00 apps/v1 Deployment web default"),
    "-----BEGIN CERTIFICATE-----\n" + _made("cert", BASE64, 64) + "\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\n" + _made("pub", BASE64, 64) + "\n-----END PUBLIC KEY-----",
    "certificate-authority-data: LS0tLS1CRUdJTiBDRVJU" + _made("ca", LETTERS, 60),
    "caBundle: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t" + _made("cab", LETTERS, 60),
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + _made("ssh", LETTERS, 43) + " ada@host",
    "SHA256:" + _made("fp", BASE64, 43),
    "2026-11-24T10:00:00.123456789Z",
    "I1124 10:00:00.123456       1 reconciler.go:224] operationExecutor.VerifyControllerAttachedVolume started",
    "E1124 10:00:00.1 1 token_manager.go:121] Couldn't update token \"ml\"/\"default\": context deadline exceeded",
    "1732442400000000000",
    "container_memory_working_set_bytes{pod=\"web-0\",container=\"main\"} 1.073741824e+09",
    "vllm:prompt_tokens_total{model_name=\"meta-llama/Llama-3.1-8B-Instruct\"} 183742",
    "vllm:time_to_first_token_seconds_bucket{le=\"0.25\"} 17",
    "apiserver_request_total{verb=\"LIST\",resource=\"secrets\",code=\"403\"} 12",
    "kubernetes_token_review_total 3",
    "serviceaccount_legacy_tokens_total 0",
    "workqueue_depth{name=\"token_cleaner\"} 0",
    "max_tokens: 4096",
    "max_completion_tokens=512",
    "num_tokens: 17 generated_tokens: 203",
    '{"usage":{"prompt_tokens":812,"completion_tokens":64,"total_tokens":876}}',
    "--max-num-batched-tokens 8192",
    "tokens per second: 153.2",
    "tokenizer_mode: auto",
    "--tokenizer=meta-llama/Llama-3.1-8B",
    'bos_token: "<|begin_of_text|>"',
    "eos_token_id: 128001",
    "stop_token_ids: [128001, 128009]",
    "token_type_ids shape (1, 512)",
    "tokens=512",
    "kv_cache key shape [32, 8, 128]",
    "key=value pairs",
    "primary key: id",
    "cache_key=models/llama",
    "sort_key: name",
    "topologyKey: kubernetes.io/hostname",
    "topology_key=zone",
    "label_key: app",
    "keyring not found",
    "keys: 3",
    "secretName: db-credentials",
    "secretRef:\n  name: db-credentials",
    "secretKeyRef:\n  name: db\n  key: password",
    'volumes:\n- name: tls\n  secret:\n    secretName: tls',
    'couldn\'t find key password in Secret ml/db',
    'secrets "regcred" is forbidden: User "system:serviceaccount:ml:default" cannot get resource "secrets"',
    'MountVolume.SetUp failed for volume "kube-api-access-x2x4z" : failed to fetch token: serviceaccount "x" not found',
    "imagePullSecrets: [{name: regcred}]",
    "Error: secret \"hf-token\" not found",
    "HUGGING_FACE_HUB_TOKEN is not set",
    "HF_TOKEN environment variable must be set",
    "Access to model meta-llama/Llama-3.1-8B is restricted. You must have access to it and be authenticated",
    "invalid username or password",
    "password authentication failed for user \"app\"",
    "FATAL: no password supplied",
    "passwordless sudo is required",
    "Passed: 12",
    "passthrough: true",
    "bypass=true",
    "compass: north",
    "/var/run/secrets/kubernetes.io/serviceaccount/token",
    "/etc/secrets/db/password: no such file or directory",
    "serviceAccountToken:\n  path: token\n  expirationSeconds: 3607",
    "automountServiceAccountToken: false",
    "type: kubernetes.io/dockerconfigjson",
    "type: kubernetes.io/service-account-token",
    "credentials: none",
    "credential helper not found",
    "author: Ada Lovelace",
    "authority: api.example.com",
    "authentication: required",
    "authorization mode: Node,RBAC",
    "auth: none",
    "oauth2-proxy started",
    "http://prometheus.monitoring.svc:9090/api/v1/query?query=up",
    "https://github.com/org/repo/commit/" + _made("gh", HEX, 40),
    "postgres://db.shop.svc:5432/orders",
    "git@github.com:org/repo.git",
    "ada@example.com",
    "s3://bucket/models/llama-3.1-8b/model-00001-of-00004.safetensors",
    "nvcr.io/nvidia/k8s/dcgm-exporter:4.4.1-4.6.0-ubuntu22.04",
    "sk-learn-0123456789abcdef",
    "task-runner-sk-eu-west-1-0123456789",
    "shf_weights_0123456789abcdef01",
    "disk-ghp-cache-0",
    "model hf_hub download finished",
    "npm_config_cache=/tmp/npm",
    "AKIAlike",
    "eyJ is how tokens begin",
    "Bearer authentication is not configured",
    "basic auth disabled",
    "cookie consent banner",
    "dapr-sidecar-injector-6f7d8c9b5-x2x4z",
    "aws_region=eu-west-1",
    "AWS_ROLE_ARN=arn:aws:iam::123456789012:role/reader",
    "AZURE_TENANT_ID=6f1c2d3e-4b5a-4978-8796-a5b4c3d2e1f0",
    "GOOGLE_CLOUD_PROJECT=ml-prod-418230",
    "password: ${DB_PASSWORD}",
    "token: {{ .Values.token }}",
    "PGPASSFILE=/run/pgpass",
    "sig=none",
    "kind: SecretProviderClass",
    "kind: Secret",
]  # fmt: skip


def shown(value: Any) -> str:
    """What leaves the house: text, or the JSON of an object as a recording writes it."""
    return present(value, 100_000) if isinstance(value, str) else json.dumps(redact_object(value), ensure_ascii=False)


def leaks(secret: str, text: str) -> bool:
    """Whether any half of the secret, or any of its lines, can still be read."""
    text = text.replace("\\n", "\n")
    parts = [line for line in secret.splitlines() if not line.startswith("-----")]
    return any(part[: max(8, len(part) // 2)] in text or part[-max(8, len(part) // 2) :] in text for part in parts)


@pytest.mark.parametrize(("value", "secret"), [pytest.param(value, secret, id=name) for name, value, secret in CORPUS])
def test_a_secret_goes(value: Any, secret: str) -> None:
    assert not leaks(secret, shown(value))


@pytest.mark.parametrize("text", HARMLESS)
def test_a_look_alike_stays(text: str) -> None:
    assert present(text, 100_000) == text


def test_the_corpus_is_as_large_as_promised_and_means_what_it_says() -> None:
    assert len({name for name, _, _ in CORPUS}) == len(CORPUS) >= 100
    assert len(set(HARMLESS)) == len(HARMLESS) >= 100
    for name, value, secret in CORPUS:
        raw = value if isinstance(value, str) else json.dumps(value)
        assert leaks(secret, raw), f"{name} does not hold its secret"
        assert MARK not in raw


def test_what_surrounds_a_secret_stays() -> None:
    for name in ("variable in a listing", "properties", "toml", "header"):
        text = NAMED[name](NAMELESS["password"])
        lines, left = text.splitlines(), shown(text).splitlines()
        assert len(lines) == len(left)
        assert [line for line in lines if NAMELESS["password"] not in line] == [line for line in left if MARK not in line]


def test_a_printed_secret_keeps_its_keys_and_its_neighbours() -> None:
    secret = NAMELESS["hex key"]
    printed = f"kind: Secret\ndata:\n  cert: |\n    {secret}\n    {secret}\n  other: {secret}\nmetadata:\n  name: x\ntype: Opaque\n"
    assert shown(printed) == (
        f"kind: Secret\ndata:\n  cert: {MARK}\n    {MARK}\n    {MARK}\n  other: {MARK}\nmetadata:\n  name: x\ntype: Opaque\n"
    )
    whole = json.dumps({"kind": "Secret", "metadata": {"name": "x"}, "data": {"cert": secret, "other": secret}, "type": "Opaque"})
    for text in (whole, json.dumps({"log": whole})):
        left = shown(text)
        assert secret not in left
        assert all(word in left for word in ("cert", "other", "Opaque", "metadata"))
    config = "kind: ConfigMap\ndata:\n  mode: fast\n"
    assert shown(config) == config


def test_a_key_whose_beginning_was_cut_off_goes() -> None:
    tail = SHAPED["rsa key"].split("\n", 2)[2]
    assert shown(f"{tail}\nready") == f"{MARK}\nready"


def test_printed_secrets_do_not_make_it_crawl() -> None:
    for piece in (
        '"kind":"Secret","data":{',
        "kind: Secret\ndata:\n  a: b\n",
        '"data":{"a":"b"',
        '\\\\"data\\\\":{',
        "glsa_",
        "aQ~",
        "Q~",
        ".atlasv1.",
        f"{'A' * 64}\n",
    ):
        text = ('"kind":"Secret"\nkind: Secret\n-----END PRIV' + "ATE KEY-----\n" + piece * (50_000 // len(piece)))[:50_000]
        start = time.process_time()
        once = redact(text)
        assert time.process_time() - start < 2.0, piece
        assert redact(once) == once
