"""The one choke point that text passes before a model, the store or a screen sees it: secrets go out, length is bounded.

Secrets are known by their own shape (vendor prefixes, JWT, PEM), by their place (the password of a URL) or by the name they are
given (`password=`, `"token":`, `--api-key`, an environment variable). The name stays, the value becomes `REDACTED`. A bare random
string without a name is not recognised: entropy guesses would also blank digests, uids and image ids, which diagnosis needs.
"""

from __future__ import annotations

import re
from typing import Any

from guardrails.sanitise import sanitise

MARK = "REDACTED"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

# Text beyond the limit that is still redacted before the cut, so that no secret is cut into an unrecognisable half.
_MARGIN = 65_536
# Every pass replaces values by a constant; more than two passes have never been seen, the bound is against the unforeseen.
_PASSES = 4

_B64 = r"[A-Za-z0-9+/_-]"
# (literals of which one must be in the text, lower-case where `fold`; pattern; replacement)
_SHAPES: tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...] = tuple(
    (literals, re.compile(pattern, re.DOTALL), replacement)
    for literals, pattern, replacement in (
        (
            ("PRIVATE KEY-----", "PGP MESSAGE-----"),
            r"-----BEGIN (?:[A-Z0-9]+ )*(?:PRIVATE KEY(?: BLOCK)?|PGP MESSAGE)-----"
            r"(?:(?:(?!-----).){0,65536}-----END [A-Z0-9 ]{3,40}-----|[A-Za-z0-9+/=\s\\:,-]*)",
            MARK,
        ),
        # The rest of a key whose beginning was cut off.
        (
            ("PRIVATE KEY-----",),
            r"(?<![A-Za-z0-9+/=])(?:[A-Za-z0-9+/=]{16,80}\s{1,4}){1,100}-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----",
            MARK,
        ),
        (("LS0tLS1CRUdJTi",), r"LS0tLS1CRUdJTi(?!BDRVJU)[A-Za-z0-9+/]+={0,2}", MARK),
        (("eyJhdXRocyI6", "eyJhdXRoIjo"), r"eyJhdXRo(?:cyI6|Ijo)[A-Za-z0-9+/]*={0,2}", MARK),
        (("eyJ",), r"eyJ[A-Za-z0-9_-]{6,600}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?", MARK),
        (("AKIA", "ASIA"), r"\bA[KS]IA[A-Z0-9]{16}\b", MARK),
        (("hf_",), r"\bhf_[A-Za-z0-9]{16,}", MARK),
        (("sk-",), r"\bsk-(?=[A-Za-z0-9_-]{0,200}[0-9])(?=[A-Za-z0-9_-]{0,200}[A-Z]|ant-|proj-|or-|lf-)[A-Za-z0-9_-]{16,}", MARK),
        (("sk_", "rk_", "whsec_"), r"\b(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9]{16,}", MARK),
        (("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"\bgh[pousr]_[A-Za-z0-9]{20,}", MARK),
        (("github_pat_",), r"\bgithub_pat_[A-Za-z0-9_]{20,}", MARK),
        (("glpat-", "gldt-", "glrt-", "glcbt-"), r"\bgl(?:pat|dt|rt|cbt)-[A-Za-z0-9_-]{16,}", MARK),
        (("xox", "xapp-", "xwfp-"), r"\bx(?:ox[a-z]|app|wfp)-[A-Za-z0-9-]{10,}", MARK),
        (("hooks.slack.com/",), r"(hooks\.slack\.com/(?:services|workflows|triggers)/)[A-Za-z0-9/_-]+", rf"\1{MARK}"),
        (("AIza",), r"\bAIza[A-Za-z0-9_-]{30,}", MARK),
        (("ya29.",), r"\bya29\.[A-Za-z0-9_-]{16,}", MARK),
        (("GOCSPX-",), r"\bGOCSPX-[A-Za-z0-9_-]{16,}", MARK),
        (("nvapi-",), r"\bnvapi-[A-Za-z0-9_-]{16,}", MARK),
        (("npm_",), r"\bnpm_[A-Za-z0-9]{30,}", MARK),
        (("pypi-",), r"\bpypi-AgE[A-Za-z0-9_-]{16,}", MARK),
        (("dckr_pat_", "dckr_oat_"), r"\bdckr_[po]at_[A-Za-z0-9_-]{16,}", MARK),
        (("hvs.", "hvb."), r"\bhv[sb]\.[A-Za-z0-9_-]{20,}", MARK),
        (("SG.",), r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}", MARK),
        (("gsk_", "r8_", "lsv2_"), r"\b(?:gsk_|r8_|lsv2_(?:pt|sk)_)[A-Za-z0-9_-]{20,}", MARK),
        (("dop_v1_", "pcsk_", "tskey-"), r"\b(?:dop_v1_|pcsk_|tskey-)[A-Za-z0-9_-]{20,}", MARK),
        (("api_org_",), r"\bapi_org_[A-Za-z0-9]{16,}", MARK),
        (("dapi",), r"\bdapi[0-9a-f]{32}(?:-[0-9])?\b", MARK),
        (("glsa_", "glc_"), r"\bgl(?:sa|c)_[A-Za-z0-9_=]{20,}", MARK),
        (("NRAK-",), r"\bNRAK-[A-Z0-9]{20,}", MARK),
        (("ATATT3", "ATCTT3"), r"\bAT[AC]TT3[A-Za-z0-9_=-]{20,}", MARK),
        (("Q~",), r"(?<![A-Za-z0-9])[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}", MARK),
        ((".atlasv1.",), r"\b[A-Za-z0-9]{10,20}\.atlasv1\.[A-Za-z0-9_=-]{40,}", MARK),
        (("AKCp",), r"\bAKCp[A-Za-z0-9]{30,}", MARK),
        (("lin_api_",), r"\blin_api_[A-Za-z0-9]{20,}", MARK),
        (("AGE-SECRET-KEY-1",), r"AGE-SECRET-KEY-1[A-Z0-9]{20,}", MARK),
        (
            ("AccountKey=", "SharedAccessKey=", "SharedAccessSignature=", "sig="),
            r"(\b(?:AccountKey|SharedAccessKey|SharedAccessSignature|sig)=)[A-Za-z0-9+/%=_-]{16,}",
            rf"\1{MARK}",
        ),
    )
)
# The password of a URL: no slash in it, or a slash where what precedes cannot be a port; then a user that is a token itself.
_URLS = (
    (re.compile(r"(?<=[A-Za-z0-9])(://[^\s:/?#@\"'<>`]*:)[^\s/\"'<>`]+@(?=[\w\[(.-])"), rf"\1{MARK}@"),
    (re.compile(r"(?<=[A-Za-z0-9])(://[^\s:/?#@\"'<>`]*:)(?!\d+(?:[/?#]|$))[^\s\"'<>`@]+@(?=[\w\[(.-])"), rf"\1{MARK}@"),
    (re.compile(r"(?<=[A-Za-z0-9])(://)[A-Za-z0-9_-]{20,}@(?=[\w.-]+)"), rf"\1{MARK}@"),
)
_GO_DSN = re.compile(r"(\b[\w.-]+:)[^\s\"'<>`]+?(@(?:tcp|unix)?\()")
_BEARER = re.compile(r"(\b[Bb]earer\s+|\bBEARER\s+)(?=[A-Za-z._~+/=-]*[0-9])[A-Za-z0-9._~+/=-]{12,}")
_CURL_USER = re.compile(r"((?:^|[\s\"',])(?:-u|--user|--proxy-user)(?:[ =]|[\"'], ?[\"'])[^\s:\"']+:)[^\s\"']+")
_NETRC = re.compile(r"(\blogin\s+\S+\s+password\s+)\S+")

_STRONG = (
    r"pass(?:word|wd|phrase|code)|pwd|api[_-]?key|apikey|access[_-]?key(?:[_-]?id)?|accesskey|secret[_-]?access[_-]?key|secret[_-]?key"
    r"|private[_-]?key|signing[_-]?key|encryption[_-]?key|account[_-]?key|shared[_-]?key|master[_-]?key|license[_-]?key|client[_-]?secret"
    r"|client-key-data|(?:access|auth|refresh|id|identity|bearer|session|csrf|registration|bot|api)[_-]?token|_authtoken|\.dockerconfigjson"
    r"|\.dockercfg|set-cookie|cookie|authorization|x-amz-(?:signature|credential|security-token)|connection[_-]?string"
)
# The special tokens of a tokenizer are no secrets.
_WEAK = (
    "".join(f"(?<!{special}_)" for special in ("eos", "bos", "pad", "unk", "cls", "sep", "mask", "stop", "image"))
    + r"token|secret|credentials?|_auth|(?<=[\"'])auth"
)
_NAME = re.compile(rf"(?P<strong>{_STRONG})|(?P<weak>{_WEAK})")
# Cheap signs of a name: what must follow is checked before the pattern is tried. "key" counts after one of these only.
_SIGNS = ("pass", "pwd", "key", "secret", "token", "credential", "auth", "cookie", ".dockerc", "connection", "x-amz-")
_BEFORE_KEY = frozenset("_-ists")

_VALUE = r"""(?:
    (?P<q1>\\+["'])(?P<v1>.*?)(?=\\+["'])
  | "(?P<v2>(?:[^"\\\n]|\\.)*)
  | '(?P<v3>(?:[^'\n]|'')*)
  | (?P<v4>(?:[^\s,;&"'<>\\`]|,(?![\s"']|[\w.-]+["']?[=:])|\\(?!["'nrt]))+?(?=[\])}]*(?:[\s;&"'<>\\`]|,(?:[\s"']|[\w.-]+["']?[=:]|$)|$)))
)"""
_ASSIGNED = re.compile(
    rf"""(?P<close>\\*["'])?\]?[ \t]*(?P<separator>=>|:=|==?|:)[ \t]*
    (?P<scheme>(?:[Bb]earer|[Bb]asic|[Tt]oken|[Dd]igest|ApiKey)[ \t]+)?{_VALUE}""",
    re.VERBOSE,
)
_BLOCK = re.compile(r"[\"']?[ \t]*:[ \t]*[|>][+-]?[ \t]*\n(?P<indent>[ \t]+)\S[^\n]*(?:\n(?P=indent)[^\n]*)*")
_FLAGGED = re.compile(rf"""(?:[ \t]+|["'],[ \t\n]*|["']?[ \t]*\n[ \t]*-[ \t]+)(?![-\[{{|>])(?!\w+=){_VALUE}""", re.VERBOSE)
_FLAG_BEFORE = re.compile(r"(?:^|[\s\"'=,\[])--?[A-Za-z0-9_-]*$")
_VALUE_OF_NAME = re.compile(rf"""\\*["']?[ \t]*,?\s*\\*["']?(?:value|Value)\\*["']?[ \t]*:[ \t]*{_VALUE}""", re.VERBOSE)
_NAME_BEFORE = re.compile(r"(?:name|Name|key|Key)\\*[\"']?[ \t]*:[ \t]*\\*[\"']?[A-Za-z0-9_.-]*$")
# A Secret printed into a text: its keys are of no help, so all its values go. As JSON, also quoted within JSON, and as YAML.
_SECRET_JSON = re.compile(r"""["']kind\\*["'][ \t]*:\s*\\*["']Secret\\*["']""")
_SECRET_YAML = re.compile(r"""^[ \t-]*kind:[ \t]*["']?Secret["']?[ \t]*$""", re.MULTILINE)
_DATA_JSON = re.compile(r"""(["'](?:data|stringData)\\*["'][ \t]*:\s*\{)([^{}]*)(?=\})""")
_DATA_VALUE = re.compile(r"""(:\s*\\*["'])[^"'\\]*(?=\\*["'])""")
_DATA_YAML = re.compile(r"^(?P<indent>[ \t]*)(?:data|stringData):[ \t]*\n(?P<body>(?:(?P=indent)[ \t]+\S[^\n]*(?:\n|\Z))+)", re.MULTILINE)
_DATA_LINE = re.compile(r"""^([ \t]+(?:["']?[-._A-Za-z0-9]+["']?:[ \t]*)?)\S[^\n]*$""", re.MULTILINE)
_LINE_START = re.compile(r"^[\s\-{\[(|>*#+,]*[\"'\\]*[A-Za-z0-9_.\-]*$")
_TAIL = re.compile(r"[ \t][^\n\"',;{}\[\]]*")
_HARMLESS = re.compile(r"(?:true|false|null|none|nil|yes|no|undefined|REDACTED|\*+|\$\{?[A-Za-z_(].*|\{\{.*|)\Z", re.IGNORECASE)
_HEADER_VALUE = re.compile(r"[^\n\"'`]*")
_HEADERS = ("authorization", "cookie", "set-cookie")
# What registries and container runtimes say after "authorization:" (distribution/registry/api/errcode, containerd/remotes/docker).
_REFUSAL = re.compile(r"(?:server message: |insufficient_scope\b|authorization failed\b|no basic auth credentials\b|failed to )")

_SECRET_NAME = re.compile(rf"(?:{_STRONG}|{_WEAK}|[_-]key|creds?|dsn_?pass|salt|webhook[_-]?url)[0-9]*\Z", re.IGNORECASE)
_PLAIN_NAME = re.compile(
    r"(?:public|partition|sort|primary|foreign|routing|cache|label|annotation|topology|index|group)[_-]?key[0-9]*\Z", re.IGNORECASE
)


def present(text: str, limit: int) -> str:
    """Text from a cluster, fit to show: sanitised, redacted, at most `limit` characters, then a note of how much was cut."""
    cut = 0
    if len(text) > limit + _MARGIN:
        cut = len(text) - limit - _MARGIN
        text = text[: limit + _MARGIN]
    text = redact(sanitise(text))
    if len(text) <= limit and not cut:
        return text
    return f"{text[:limit]}… ({max(0, len(text) - limit) + cut} more characters)"


def redact(text: str) -> str:
    """The text with every recognised secret replaced by `REDACTED`; names, schemes, hosts and users stay. Idempotent."""
    for _ in range(_PASSES):
        once = _names(_shapes(_manifests(text)))
        if once == text:
            break
        text = once
    return text


def secret_name(name: str) -> bool:
    """Whether a variable, key or flag of this name holds a secret: `DB_PASSWORD` does, `TOKENIZER` and `SECRET_NAME` do not."""
    return bool(_SECRET_NAME.search(name.lower())) and not _PLAIN_NAME.search(name)


def redact_object(value: Any) -> Any:
    """A copy of a Kubernetes object, or of anything made of JSON types, that may be written to disk.

    Values of a Secret are replaced whatever they are; environment variables, keys and flags with a secret's name lose their value;
    managedFields and the last-applied annotation are dropped; every other string passes `redact`.
    """
    if isinstance(value, str):
        return redact(sanitise(value))
    if isinstance(value, dict):
        return _redact_mapping(value)
    if isinstance(value, list | tuple):
        return _redact_list(list(value))
    return value


def _redact_mapping(value: dict[str, Any]) -> dict[str, Any]:
    hidden = value.get("kind") == "Secret"
    named = isinstance(value.get("name"), str) and secret_name(value["name"])
    copy: dict[str, Any] = {}
    for key, item in value.items():
        if key in ("managedFields", LAST_APPLIED):
            continue
        if (hidden and key in ("data", "stringData", "binaryData") and isinstance(item, dict)) or key == "binaryData":
            copy[key] = dict.fromkeys(item, MARK) if isinstance(item, dict) else MARK
        elif isinstance(item, str) and ((named and key == "value") or (secret_name(key) and not _HARMLESS.match(item))):
            copy[key] = MARK
        else:
            copy[key] = redact_object(item)
    return copy


def _redact_list(values: list[Any]) -> list[Any]:
    copy: list[Any] = []
    for index, item in enumerate(values):
        before = values[index - 1] if index else None
        flag = isinstance(before, str) and before.startswith("-") and "=" not in before and secret_name(before.lstrip("-"))
        hide = flag and isinstance(item, str) and not item.startswith("-")
        copy.append(MARK if hide else redact_object(item))
    return copy


def _manifests(text: str) -> str:
    """The values of Secrets that were printed into a text."""
    if "Secret" not in text or "ata" not in text:
        return text
    if _SECRET_JSON.search(text):
        text = _DATA_JSON.sub(lambda found: found[1] + _DATA_VALUE.sub(rf"\1{MARK}", found[2]), text)
    if _SECRET_YAML.search(text):
        text = _DATA_YAML.sub(lambda found: found[0][: -len(found["body"])] + _DATA_LINE.sub(rf"\1{MARK}", found["body"]), text)
    return text


def _shapes(text: str) -> str:
    for literals, pattern, replacement in _SHAPES:
        for literal in literals:
            if literal in text:
                text = pattern.sub(replacement, text)
                break
    if "@" in text and "://" in text:
        for pattern, replacement in _URLS:
            text = pattern.sub(replacement, text)
    if "@tcp(" in text or "@unix(" in text or "@(" in text:
        text = _GO_DSN.sub(rf"\1{MARK}\2", text)
    if "earer" in text or "BEARER" in text:
        text = _BEARER.sub(rf"\1{MARK}", text)
    if "-u" in text:
        text = _CURL_USER.sub(rf"\1{MARK}", text)
    if "login" in text:
        text = _NETRC.sub(rf"\1{MARK}", text)
    return text


def _names(text: str) -> str:
    """Replace the values that stand behind a secret's name."""
    folded = text.lower()
    if len(folded) != len(text):
        # A few letters, such as U+0130, change length in lower case; positions must agree.
        folded = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    pieces: list[str] = []
    done = 0
    for start in _signs(folded):
        if start < done:
            continue
        for name in _NAME.finditer(folded, max(done, start - 20), start + 32):
            span = _value_span(text, name)
            if span is not None and span[0] >= done:
                pieces += (text[done : span[0]], MARK)
                done = span[1]
                break
    return "".join((*pieces, text[done:])) if pieces else text


def _signs(folded: str) -> list[int]:
    """Where a secret's name may stand, in order."""
    found: list[int] = []
    for sign in _SIGNS:
        length = len(sign)
        start = folded.find(sign)
        while start >= 0:
            if sign == "key":
                plausible = start > 0 and folded[start - 1] in _BEFORE_KEY
            elif sign == "token":
                plausible = not folded[start + 5 : start + 6].isalpha()
            else:
                plausible = True
            if plausible:
                found.append(start)
            start = folded.find(sign, start + length)
    found.sort()
    return found


def _value_span(text: str, name: re.Match[str]) -> tuple[int, int] | None:
    """Where the value of a secret's name stands in the text; None when it is no assignment or the value is harmless."""
    end = name.end()
    if text[end : end + 1].isalnum() and not text[end : end + 1].isdigit():
        return None
    while text[end : end + 1].isdigit():
        end += 1
    earliest = max(0, name.start() - 200)
    line = text[max(text.rfind("\n", earliest, name.start()) + 1, earliest) : name.start()]
    block = _BLOCK.match(text, end)
    if block:
        return block.start("indent") + len(block["indent"]), block.end()
    if _NAME_BEFORE.search(line) and (after := _VALUE_OF_NAME.match(text, end)):
        return _span(after)
    assigned = _ASSIGNED.match(text, end)
    if assigned:
        return _assigned_span(text, name, line, assigned)
    if _FLAG_BEFORE.search(line) and (flagged := _FLAGGED.match(text, end)):
        return _span(flagged)
    return None


def _assigned_span(text: str, name: re.Match[str], line: str, assigned: re.Match[str]) -> tuple[int, int] | None:
    span = _span(assigned)
    if span is None:
        return None
    value = text[span[0] : span[1]]
    bare = assigned["v4"] is not None
    if name.group() in _HEADERS and bare and assigned["separator"] == ":":
        if name.group() == "authorization" and _REFUSAL.match(text, span[0]):
            return None
        rest = _HEADER_VALUE.match(text, span[0])
        return (span[0], rest.end()) if rest and rest.end() > span[0] else span
    if name["weak"]:
        if value.isdigit() and len(value) < 6:
            return None
        prose = bare and assigned["separator"] == ":" and assigned["close"] is None and not _LINE_START.match(line)
        if prose and not (len(value) >= 8 and any(c.isdigit() for c in value)):
            return None
    whole_line = bare and assigned["separator"] == ":" and _LINE_START.match(line)
    tail = _TAIL.match(text, span[1]) if whole_line else None
    return (span[0], tail.end()) if tail and "=" not in tail.group() else span


def _span(match: re.Match[str]) -> tuple[int, int] | None:
    for group in ("v1", "v2", "v3", "v4"):
        if match[group] is not None:
            return None if _HARMLESS.match(match[group]) else match.span(group)
    return None
