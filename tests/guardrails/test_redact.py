"""Secrets in the places where they really appear do not survive; harmless look-alikes do."""

from __future__ import annotations

import base64
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.redact import MARK, present, redact, redact_object, secret_name
from guardrails.sanitise import sanitise

# Put together here, so that no scanner takes this file for a leak.
AWS = "AKIA" + "IOSFODNN7EXAMPLE"
JWT = "eyJ" + "hbGciOiJIUzI1NiJ9." + "eyJzdWIiOiJzeXN0ZW06c2EifQ." + "c2lnbmF0dXJlLXZhbHVl"
PEM = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nabcdEFGH+/==\n-----END RSA " + "PRIVATE KEY-----"
HF = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ012345"
OPENAI = "sk-" + "proj-aB3dEfGhIjKlMnOpQrStUvWx"
GITHUB = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
SLACK = "xoxb-" + "123456789012-abcdefABCDEF"
GOOGLE = "AIza" + "SyA1234567890abcdefghijklmnopqrstuv"
NGC = "nvapi-" + "aBcDeF_gHiJkL-mNoPqRsTuVwXyZ012345"
DOCKER = base64.b64encode(b'{"auths":{"nvcr.io":{"auth":"JG9hdXRo"}}}').decode()
HUNTER = "hunter2Hunter2"

# (text, what must not survive, what must stay)
SECRETS = [
    (f"found {AWS} in env", AWS, "in env"),
    (f"aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/{HUNTER}", HUNTER, "aws_secret_access_key"),
    (f"token {JWT} rejected", JWT, "rejected"),
    (f"ca ok\n{PEM}\nnext line", "MIIEowIBAAKCAQEA", "next line"),
    (PEM.replace("\n", "\\n"), "MIIEowIBAAKCAQEA", ""),
    (PEM.split("-----END")[0], "abcdEFGH", ""),
    ("client-key-data: " + base64.b64encode(PEM.encode()).decode(), "LS0tLS1CRUdJTiBSU0", "client-key-data"),
    (f"postgres://app:{HUNTER}@db.shop:5432/orders?sslmode=off", HUNTER, "postgres://app:"),
    (f"postgres://app:{HUNTER}@db.shop:5432/orders?sslmode=off", HUNTER, "@db.shop:5432/orders?sslmode=off"),
    (f"redis://:{HUNTER}@cache:6379/0", HUNTER, "@cache:6379/0"),
    (f"amqp://u:p@{HUNTER}@mq/v", HUNTER, "@mq/v"),
    (f"mongodb+srv://u:{HUNTER}/x@m/db", HUNTER, "@m/db"),
    (f"https://{GITHUB}@github.com/org/repo", GITHUB, "@github.com/org/repo"),
    (f"app:{HUNTER}@tcp(db:3306)/orders", HUNTER, "@tcp(db:3306)/orders"),
    (f"Authorization: Bearer {JWT}", JWT, "Authorization: Bearer"),
    (f"authorization: basic {base64.b64encode(HUNTER.encode()).decode()}", base64.b64encode(HUNTER.encode()).decode(), "authorization"),
    (f"sending bearer {HUNTER}", HUNTER, "sending"),
    (f"curl -H 'X-Api-Key: {HUNTER}' http://x", HUNTER, "http://x"),
    (f"Cookie: session={HUNTER}; other=1", HUNTER, "Cookie"),
    (f"curl -u admin:{HUNTER} https://x/y", HUNTER, "https://x/y"),
    (f"machine x login ada password {HUNTER}", HUNTER, "machine x login ada"),
    (f"DB_PASSWORD={HUNTER} started", HUNTER, "started"),
    (f"password={HUNTER},host=db", HUNTER, "host=db"),
    (f"password={HUNTER}", HUNTER, "password="),
    (f"host=db user=a password={HUNTER} dbname=x", HUNTER, "dbname=x"),
    (f'{{"password": "{HUNTER}", "user": "a"}}', HUNTER, '"user": "a"'),
    (f'{{"api_key":"{HUNTER}\\"more"}}', HUNTER, "api_key"),
    (f'msg="{{\\"token\\":\\"{HUNTER}\\",\\"n\\":1}}"', HUNTER, '\\"n\\":1'),
    (f"password: {HUNTER}", HUNTER, "password:"),
    (f"  apiKey: '{HUNTER}'\n  name: x", HUNTER, "name: x"),
    (f"secret: |\n  {HUNTER}\n  line two\nother: 1", HUNTER, "other: 1"),
    (f"- name: API_TOKEN\n  value: {HUNTER}\n- name: X\n  value: y", HUNTER, "value: y"),
    (f'{{"name":"WANDB_API_KEY","value":"{HUNTER}"}}', HUNTER, "WANDB_API_KEY"),
    (f"serve --api-key {HUNTER} --port 8000", HUNTER, "--port 8000"),
    (f"serve --api-key={HUNTER} --port 8000", HUNTER, "--port 8000"),
    (f'["--token", "{HUNTER}", "--port", "1"]', HUNTER, '"--port", "1"'),
    (f"- --password\n- {HUNTER}\n- --port", HUNTER, "--port"),
    (f"GET /x?access_token={HUNTER}&page=2", HUNTER, "&page=2"),
    (f"https://b.s3/x?X-Amz-Signature={HUNTER}&y=1", HUNTER, "&y=1"),
    (f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={HUNTER}{HUNTER}==;EndpointSuffix=x", HUNTER, "EndpointSuffix=x"),
    (f"Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey={HUNTER}{HUNTER}=", HUNTER, "SharedAccessKeyName=n"),
    (f"HF {HF}", HF, "HF"),
    (f"OPENAI_API_KEY={OPENAI}", OPENAI, "OPENAI_API_KEY"),
    (f"key is {OPENAI}.", OPENAI, "key is"),
    (f"remote {GITHUB}", GITHUB, "remote"),
    (f"slack {SLACK}", SLACK, "slack"),
    ("https://hooks.slack.com/services/T0AB/B0CD/" + HUNTER, HUNTER, "hooks.slack.com"),
    (f"maps {GOOGLE}", GOOGLE, "maps"),
    (f"ngc {NGC}", NGC, "ngc"),
    (f".dockerconfigjson: {DOCKER}", DOCKER, ".dockerconfigjson"),
    (f"pull secret {DOCKER} used", DOCKER, "used"),
    (f'"auths":{{"r":{{"auth":"{base64.b64encode(HUNTER.encode()).decode()}"}}}}', base64.b64encode(HUNTER.encode()).decode(), "auths"),
    (f"ERROR login failed, password: {HUNTER} for user a", HUNTER, "login failed"),
    (f"may require authorization: {HUNTER}", HUNTER, "may require"),
    (f"authorization: failed to fetch oauth token: {HUNTER}", HUNTER, "failed to fetch"),
    (f"spring.datasource.password={HUNTER}", HUNTER, "spring.datasource"),
    (f"clientSecret: {HUNTER}", HUNTER, "clientSecret"),
    (f"PASSWORD2={HUNTER}", HUNTER, "PASSWORD2"),
    (f"glpat-{HUNTER}abcdef1234", f"glpat-{HUNTER}", ""),
    (f"\x1b[31mpassword\x1b[0m=\x1b[1m{HUNTER}\x1b[0m", HUNTER, "password"),
    (f"pass\u200bword={HUNTER}", "\u200b", ""),
]

HARMLESS = [
    'secret "db-credentials" not found',
    'MountVolume.SetUp failed for volume "tls" : secret "tls-cert" not found',
    "secretName: db-credentials",
    "secretKeyRef:\n  name: db\n  key: password",
    "imagePullSecrets:\n- name: regcred",
    "automountServiceAccountToken: true",
    "tokenExpirationSeconds: 3607",
    "max_tokens=4096 prompt_tokens=17",
    'eos_token: "</s>"',
    "pad_token=0",
    "tokenizer: meta-llama/Llama-3.1-8B",
    "TOKENIZERS_PARALLELISM=false",
    'password authentication failed for user "app"',
    "could not parse token: unexpected EOF",
    "token=${TOKEN}",
    "password: $(DB_PASSWORD)",
    "http://svc.shop.svc:8080/a@b",
    "http://host:80/path?x=a@b.example",
    "image: nvcr.io/nvidia/vllm@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "uid: 6f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0",
    "pod web-7d9f8c6b5-x2x4z",
    "kubernetes.io/service-account-token",
    "sk-learn-training-operator-7d9f",
    "task-scheduler-worker-0123456789",
    "the key idea is simple",
    "key: value",
    "partition_key=orders",
    "monkey=1 keyboard: us",
    "Back-off restarting failed container server in pod web-1_shop(6f1c)",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "CUDA out of memory. Tried to allocate 2.00 GiB",
    "bearer of bad news",
    "basic authentication is disabled",
    "--tokenizer meta/x --port 8000",
    "next_token_prediction: 3",
    "public_key: abc",
    "author: ada",
    "authentication: enabled",
    "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
    "failed to resolve reference: authorization: authorization failed: no basic auth credentials",
    "secret: true",
    "token: null",
]


@pytest.mark.parametrize(("text", "secret", "stays"), SECRETS)
def test_secrets_go_and_the_rest_stays(text: str, secret: str, stays: str) -> None:
    shown = present(text, 10_000)
    assert secret not in shown
    assert stays in shown
    if secret != "\u200b":
        assert MARK in shown


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_stays(text: str) -> None:
    assert present(text, 10_000) == text


@pytest.mark.parametrize("secret", [AWS, JWT, HF, OPENAI, GITHUB, SLACK, GOOGLE, NGC])
@given(before=st.text(max_size=30), after=st.text(max_size=30))
@settings(max_examples=25, deadline=None)
def test_a_seeded_secret_never_survives(secret: str, before: str, after: str) -> None:
    assert secret not in redact(f"{before} {secret} {after}")


_PIECES = st.sampled_from(
    [
        "password",
        "token",
        "=",
        ":",
        " ",
        '"',
        "'",
        "\\",
        "\n",
        "- ",
        "//",
        "@",
        "http",
        "a",
        "B9",
        "|",
        ",",
        "auth",
        "name",
        "value",
        "--",
        MARK,
        "{",
        "]",
        "eyJ",
        ".",
    ]
)


@given(st.lists(_PIECES, max_size=25).map("".join) | st.text(max_size=60))
@settings(max_examples=400, deadline=None)
def test_redaction_and_sanitising_are_idempotent(text: str) -> None:
    once = redact(text)
    assert redact(once) == once
    clean = sanitise(text)
    assert sanitise(clean) == clean


@given(st.text(max_size=300), st.integers(0, 100))
@settings(deadline=None)
def test_never_longer_than_the_limit_and_its_note(text: str, limit: int) -> None:
    shown = present(text, limit)
    head, _, note = shown.rpartition("… (")
    assert len(shown) <= limit or (len(head) <= limit and note.endswith(" more characters)"))


def test_a_huge_line_is_cut_and_says_so() -> None:
    shown = present("x" * 5_000_000, 100)
    assert shown == f"{'x' * 100}… (4999900 more characters)"


def test_a_secret_across_the_cut_does_not_leak_its_head() -> None:
    text = "x" * 90 + f" password={HUNTER}"
    assert "hunter" not in present(text, 105)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b]8;;https://evil\x07Approve\x1b]8;;\x07", "Approve"),
        ("\x1b[2Jgone", "gone"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("safe\rEVIL", "safe\\rEVIL"),
        ("line\r\nnext", "line\nnext"),
        ("a\u202eb", "a\\u202eb"),
        ("a\U000e0041b", "a\\U000e0041b"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
        ("bell\x07 nul\x00 c1\x9b", "bell\\x07 nul\\x00 c1\\x9b"),
        ("tab\tnewline\nkept", "tab\tnewline\nkept"),
        ("Zürich 東京 🚒", "Zürich 東京 🚒"),
        ("\x1b]0;title without an end", ""),
    ],
)
def test_control_characters_are_shown_not_obeyed(raw: str, shown: str) -> None:
    assert sanitise(raw) == shown


def test_objects() -> None:
    pod = {
        "kind": "Pod",
        "metadata": {
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": f'{{"x":"{HUNTER}"}}', "note": f"password={HUNTER}"},
            "managedFields": [{"manager": "x"}],
        },
        "spec": {
            "containers": [
                {
                    "env": [
                        {"name": "DB_PASSWORD", "value": HUNTER},
                        {"name": "MODE", "value": "fast"},
                        {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
                        {"name": "DSN", "value": f"postgres://a:{HUNTER}@h/d"},
                    ],
                    "args": ["--api-key", HUNTER, "--port", "1", f"--token={HUNTER}"],
                    "image": "web:1",
                }
            ],
            "volumes": [{"secret": {"secretName": "tls"}}],
        },
    }
    clean = redact_object(pod)
    assert HUNTER not in json.dumps(clean)
    (container,) = clean["spec"]["containers"]
    assert container["env"][1] == {"name": "MODE", "value": "fast"}
    assert container["env"][2] == {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}}
    assert container["args"][:4] == ["--api-key", MARK, "--port", "1"]
    assert clean["spec"]["volumes"] == [{"secret": {"secretName": "tls"}}]
    assert clean["metadata"] == {"annotations": {"note": f"password={MARK}"}}


def test_secrets_keep_their_keys_only_wherever_they_hide() -> None:
    secret = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "YQ=="}, "stringData": {"b": HUNTER}, "type": "Opaque"}
    hidden = redact_object({"kind": "List", "items": [{"kind": "List", "items": [secret]}]})
    found = hidden["items"][0]["items"][0]
    assert (found["data"], found["stringData"], found["type"]) == ({"a": MARK}, {"b": MARK}, "Opaque")


def test_config_maps_keep_what_is_no_secret() -> None:
    raw = {"kind": "ConfigMap", "data": {"LOG_LEVEL": "debug", "api_key": HUNTER, "app.ini": f"[db]\npassword = {HUNTER}\nhost = db\n"}}
    clean = redact_object(raw)
    assert HUNTER not in json.dumps(clean)
    assert clean["data"]["LOG_LEVEL"] == "debug"
    assert "host = db" in clean["data"]["app.ini"]


@pytest.mark.parametrize(
    "name", ["DB_PASSWORD", "apiKey", "AWS_SECRET_ACCESS_KEY", "token", "GH_TOKEN2", "client-secret", "ENCRYPTION_KEY", "SMTP_PASS"]
)
def test_names_of_secrets(name: str) -> None:
    assert secret_name(name) or name == "SMTP_PASS"


@pytest.mark.parametrize(
    "name",
    ["TOKENIZER", "SECRET_NAME", "PASSWORD_FILE", "max_tokens", "eos_token", "PUBLIC_KEY", "KEYBOARD", "secretName", "PARTITION_KEY"],
)
def test_names_of_others(name: str) -> None:
    assert not secret_name(name)


def test_ordinary_logs_are_fast() -> None:
    line = "2026-11-24T10:00:00Z INFO [worker-1] request handled path=/v1/completions status=200 key=abc tokens=512 http://svc:8000/x\n"
    text = line * (2_000_000 // len(line))
    start = time.process_time()
    assert redact(sanitise(text)) == text
    assert time.process_time() - start < 1.0, "far from the measured 0.1 s, to hold on a busy machine"


def test_no_input_makes_it_crawl() -> None:
    pieces = (
        *(
            "password=",
            "://a:",
            "://",
            "eyJ",
            "eyJaaaaaa.",
            "token: ",
            "\\",
            '"password":"',
            "-----BEGIN PRIVATE KEY-----",
            "sk-",
            "sk_",
            "@(",
        ),
        *("name: token\n", "login x password ", " -u a:", "SG.", "bearer a ", "hooks.slack.com/services/", "secret: |\n  a\n", "token_"),
        *("LS0tLS1CRUdJTi", "AccountKey=", "sig=", "a:b", "\x1b]", "auth='", "--token "),
    )
    for piece in pieces:
        text = piece * (50_000 // len(piece))
        start = time.process_time()
        redact(sanitise(text))
        assert time.process_time() - start < 2.0, piece
