"""Loading a policy bundle: all of it or nothing, and the last good one stays.

A bundle is a folder with `*.cedar` files and `policy_test.yaml`; `schema.cedarschema` is needed only where the shipped one does not do.
The engine's validator is strict about names but accepts duplicate ids, unknown annotations, unknown groups and invisible characters, and
deep nesting kills its process; all of that is refused here, the last in a process of its own. A bundle whose own tests fail is not loaded.
Nothing is asked without a schema: without one Cedar's action groups are empty and every kill switch silently matches nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import cedarpy
import yaml
from msgspec import Struct, convert
from msgspec import ValidationError as MsgspecError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guardrails.errors import BadBundle
from guardrails.facts import Circumstances, Facts, NodeFacts, Replicas, WorkloadFacts
from guardrails.policy import Effect, Policy, Rule, decide
from guardrails.sanitise import sanitise

SHIPPED = Path(__file__).parent / "policies"
SCHEMA = "schema.cedarschema"
TESTS = "policy_test.yaml"
BYTES_MAX = 1 << 20
# 500 nested parentheses are fine in cedarpy 4.12.2, 1,000 end the process with SIGSEGV.
NESTING_MAX = 64
PARSE_SECONDS = 60

# The C loader is four times as fast; a PyYAML built without libyaml has only the other.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

RuleEffect = Literal["deny", "escalate", "auto", "approve"]
_ANNOTATIONS = frozenset({"id", "effect", "approvals", "approvers", "ttl", "assurance", "description"})
_ID = re.compile(r"[a-z][a-z0-9-]{0,63}")
_TTL = re.compile(r"([1-9][0-9]{0,4})([smh])")
_PIECE = re.compile(r'//[^\n]*|"(?:[^"\\\n]|\\.)*"|[()\[\]{}]|"')

_PARSE = """
import sys
sys.path.insert(0, sys.argv[1])
import cedarpy
schema, rules = sys.stdin.read().split("\\0")
cedarpy.Schema.from_str(schema)
cedarpy.PolicySet.from_str(rules)
result = cedarpy.validate_policies(rules, schema)
if not result.validation_passed:
    sys.exit("; ".join(f"{result.id_annotations_by_policy_id.get(e.policy_id, e.policy_id)}: {e.error}" for e in result.errors)[:2000])
"""


class Source(Struct, frozen=True):
    """The texts of a bundle, before anything believes them."""

    rules: str
    schema: str
    tests: str


class _Case(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = ""
    do: str | None = None
    groups: list[str] | None = None
    tenants: list[str] | None = None
    resource: dict[str, Any] = {}
    context: dict[str, Any] = {}
    want: Effect | None = None
    rule: str | None = None
    escalated_by: str | None = None
    approvals: dict[str, int] | None = None


class _Tests(BaseModel):
    model_config = ConfigDict(extra="forbid")

    defaults: _Case = _Case()
    cases: list[_Case] = Field(min_length=1)


class Failure(Struct, frozen=True):
    """One case of a bundle's own tests that does not hold."""

    name: str
    detail: str


class Bundles:
    """The bundle in force. `reload` swaps it for a good one or keeps it."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @property
    def policy(self) -> Policy:
        return self._policy

    def put(self, policy: Policy) -> None:
        """Put a policy that was loaded in force, from the next decision on."""
        self._policy = policy

    def reload(self, folder: Path, groups: Iterable[str]) -> Policy:
        """Load a folder and put it in force. Raises BadBundle and changes nothing when it is refused."""
        self._policy = load(folder, groups)
        return self._policy


def load(folder: Path = SHIPPED, groups: Iterable[str] | None = None) -> Policy:
    """The policy of a folder. `groups` are those the directory knows; None skips that check. Raises BadBundle."""
    return _built(read(folder), None if groups is None else frozenset(groups), folder != SHIPPED)


@lru_cache(maxsize=8)
def _built(source: Source, groups: frozenset[str] | None, isolate: bool) -> Policy:
    """The same texts make the same policy: what a process has checked once it need not check again."""
    return build(source, groups, isolate=isolate)


def read(folder: Path) -> Source:
    """The texts of a folder, bounded. Raises BadBundle."""
    try:
        files = sorted(folder.glob("*.cedar"))
        own = folder / SCHEMA
        paths = (*files, own if own.exists() else SHIPPED / SCHEMA, folder / TESTS)
        if not files or sum(path.stat().st_size for path in paths) > BYTES_MAX:
            raise BadBundle(f"The policy bundle {folder} has {'over 1 MiB' if files else 'no *.cedar file'}.")
        texts = [path.read_text(encoding="utf-8") for path in paths]
    except (OSError, UnicodeError) as error:
        raise BadBundle(f"The policy bundle {folder} cannot be read: {error}.") from error
    return Source("\n".join(texts[: len(files)]), texts[-2], texts[-1])


def build(source: Source, groups: Iterable[str] | None, *, isolate: bool = True) -> Policy:
    """Check everything and make the policy. Without `isolate` the parser runs in this process: for text that ships with it."""
    _check_text(source.rules)
    _check_text(source.schema)
    if isolate:
        _parse_elsewhere(source)
    try:
        document: dict[str, Any] = json.loads(cedarpy.policies_to_json_str(source.rules))
    except ValueError as error:
        raise BadBundle(f"The policies cannot be parsed: {str(error)[:500]}.") from error
    if document.get("templates") or document.get("templateLinks"):
        raise BadBundle("The policies contain templates; write rules out.")
    policy = assemble(source, document["staticPolicies"], groups)
    failures = run_tests(policy, source.tests)
    if failures:
        first = failures[0]
        raise BadBundle(f"{len(failures)} of the bundle's own tests fail, first {first.name!r}: {first.detail}.")
    return policy


def assemble(source: Source, raw_rules: dict[str, dict[str, Any]], groups: Iterable[str] | None) -> Policy:
    """The policy of parsed rules, checked against the schema and ours; the bundle's own tests are not run. Raises BadBundle."""
    try:
        schema = cedarpy.Schema.from_str(source.schema)
        valid = cedarpy.validate_policies(_text(raw_rules), schema)
    except ValueError as error:
        raise BadBundle(f"The policies cannot be parsed: {str(error)[:500]}.") from error
    if not valid.validation_passed:
        raise BadBundle(f"The policies do not fit the schema: {'; '.join(str(e) for e in valid.errors)[:500]}.")
    known = None if groups is None else frozenset(groups)
    rules: dict[str, Rule] = {}
    named: dict[str, dict[str, Any]] = {}
    for raw in raw_rules.values():
        rule = _rule(raw, known)
        if rule.id in rules:
            raise BadBundle(f"Two rules have the id {rule.id}.")
        rules[rule.id], named[rule.id] = rule, raw
    return Policy(
        sha256=hashlib.sha256("\0".join((source.schema, source.rules)).encode()).hexdigest(),
        rules=rules,
        schema=schema,
        automatic=_subset(named, rules, ("deny", "escalate", "auto")),
        approvable=_subset(named, rules, ("deny", "approve")),
    )


def warnings(policy: Policy) -> tuple[str, ...]:
    """What is legal but probably not meant."""
    effects = {rule.effect for rule in policy.rules.values()}
    if "auto" in effects and "approve" not in effects:
        return ("There are auto rules but no approve rules: whatever is escalated is denied.",)
    return ()


def run_tests(policy: Policy, text: str) -> tuple[Failure, ...]:
    """Run a bundle's own test file. Raises BadBundle when the file itself is malformed."""
    tests = _tests(text)
    failures: list[Failure] = []
    for case in tests.cases:
        verdict = decide(policy, _facts(tests.defaults, case))
        wrong = [f"want {case.want}, got {verdict.effect}"] if verdict.effect != case.want else []
        if case.rule is not None and case.rule not in verdict.rules:
            wrong.append(f"{case.rule} did not decide, {', '.join(verdict.rules)} did")
        if case.escalated_by is not None and case.escalated_by not in verdict.escalated_by:
            wrong.append(f"{case.escalated_by} did not escalate")
        if case.approvals is not None and case.approvals != verdict.requirement.approvals:
            wrong.append(f"needs {verdict.requirement.approvals}")
        if wrong:
            failures.append(Failure(case.name, "; ".join(wrong)))
    return tuple(failures)


def cases_of(text: str) -> tuple[tuple[str, Facts], ...]:
    """The questions of a test file by name. Raises BadBundle when it is malformed."""
    tests = _tests(text)
    return tuple((case.name, _facts(tests.defaults, case)) for case in tests.cases)


def _tests(text: str) -> _Tests:
    try:
        return _Tests.model_validate(yaml.load(text, Loader=_Loader))  # noqa: S506 - both are safe loaders
    except (yaml.YAMLError, ValidationError, RecursionError) as error:
        raise BadBundle(f"policy_test.yaml is malformed: {str(error)[:500]}.") from error


def _facts(defaults: _Case, case: _Case) -> Facts:
    attributes = defaults.resource | case.resource
    context = defaults.context | case.context
    replicas = context.pop("replicas", None)
    kind = attributes.get("kind")
    try:
        if kind == "Node":
            attributes = {k: v for k, v in attributes.items() if k not in ("kind", "ns", "protected")}
        resource: NodeFacts | WorkloadFacts = convert(attributes, NodeFacts) if kind == "Node" else convert(attributes, WorkloadFacts)
        circumstances = convert(context, Circumstances)
        if unknown := set(attributes) - set(resource.__struct_encode_fields__) | set(context) - set(circumstances.__struct_encode_fields__):
            raise BadBundle(f"policy_test.yaml, {case.name!r}: unknown facts {sorted(unknown)}.")
        if replicas is not None:
            pair = Replicas(int(replicas["from"]), int(replicas["to"]))
            circumstances = convert(context | {"replicas": pair}, Circumstances)
    except (MsgspecError, KeyError, TypeError, ValueError) as error:
        raise BadBundle(f"policy_test.yaml, {case.name!r}: {error}.") from error
    groups = case.groups if case.groups is not None else defaults.groups or []
    tenants = case.tenants if case.tenants is not None else defaults.tenants or ["default"]
    return Facts(case.do or defaults.do or "", "tester", resource, circumstances, tuple(groups), tuple(tenants))


def _check_text(text: str) -> None:
    if len(text.encode("utf-8", "replace")) > BYTES_MAX:
        raise BadBundle("The policy text is over 1 MiB.")
    if sanitise(text) != text.replace("\r\n", "\n"):
        raise BadBundle("The policy text contains invisible or control characters.")
    depth = 0
    for piece in _PIECE.findall(text):
        if piece == '"':
            raise BadBundle("The policy text has an unfinished string.")
        if not piece.startswith("//") and not piece.isascii():
            raise BadBundle(f"The string {piece[:60]} contains letters outside ASCII, which can look like others.")
        if piece in "([{":
            depth += 1
            if depth > NESTING_MAX:
                raise BadBundle(f"The policy text nests deeper than {NESTING_MAX}.")
        elif piece in ")]}":
            depth -= 1
    if not _PIECE.sub("", text).isascii():
        raise BadBundle("The policy text contains letters outside ASCII, which can look like others.")


def _parse_elsewhere(source: Source) -> None:
    """Parse and validate in a process that may die."""
    home = str(Path(cedarpy.__file__).parent.parent)
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and code; the policy goes to standard input
            [sys.executable, "-I", "-S", "-c", _PARSE, home],
            input=f"{source.schema}\0{source.rules}",
            capture_output=True,
            text=True,
            timeout=PARSE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadBundle(f"Parsing the policies took more than {PARSE_SECONDS} seconds.") from error
    if done.returncode < 0:
        raise BadBundle(f"Parsing the policies ended the parser with signal {-done.returncode}.")
    if done.returncode:
        # The parser's words stand after its trace, which is ours and helps nobody.
        raise BadBundle(f"The policies are not valid: {done.stderr.rpartition('Error: ')[2].strip()[-800:]}")


def _rule(raw: dict[str, Any], groups: frozenset[str] | None) -> Rule:
    notes: dict[str, str | None] = raw.get("annotations") or {}
    name = notes.get("id") or ""
    if not _ID.fullmatch(name):
        raise BadBundle(f"A {raw['effect']} rule has no legal @id (lower-case letters, digits, '-'): {name[:60]!r}.")
    if unknown := set(notes) - _ANNOTATIONS:
        raise BadBundle(f"{name}: unknown annotations {sorted(unknown)}.")
    effect: RuleEffect | None = next((known for known in get_args(RuleEffect) if known == notes.get("effect")), None)
    if effect is None:
        raise BadBundle(f"{name}: @effect is {notes.get('effect')!r}, not one of {', '.join(get_args(RuleEffect))}.")
    if (raw["effect"] == "forbid") != (effect in ("deny", "escalate")):
        raise BadBundle(f"{name}: @effect({effect!r}) does not fit {raw['effect']}.")
    ours = {"approvals", "approvers", "ttl", "assurance"} & set(notes)
    if effect != "approve":
        if ours:
            raise BadBundle(f"{name}: {sorted(ours)} belong to approve rules only.")
        return Rule(name, effect)
    approvers = tuple(group.strip() for group in (notes.get("approvers") or "").split(",") if group.strip())
    approvals, assurance = notes.get("approvals") or "", notes.get("assurance") or "1"
    time = _TTL.fullmatch(notes.get("ttl") or "30m")
    if not approvers or not approvals.isdigit() or not 1 <= int(approvals) <= 10:
        raise BadBundle(f"{name}: an approve rule needs @approvals (1 to 10) and @approvers.")
    if assurance not in ("1", "2") or time is None:
        raise BadBundle(f"{name}: @assurance is 1 or 2, @ttl is like 30m.")
    if groups is not None and (strangers := set(approvers) - groups):
        raise BadBundle(f"{name}: the directory knows no group {', '.join(sorted(strangers))}.", next_step="Add it, or name another.")
    seconds = int(time[1]) * {"s": 1, "m": 60, "h": 3600}[time[2]]
    return Rule(name, "approve", int(approvals), approvers, seconds, int(assurance))


def _subset(named: dict[str, dict[str, Any]], rules: dict[str, Rule], effects: tuple[str, ...]) -> cedarpy.PolicySet:
    return cedarpy.PolicySet.from_str(_text({name: raw for name, raw in named.items() if rules[name].effect in effects}))


def _text(rules: dict[str, dict[str, Any]]) -> str:
    document = {"templates": {}, "staticPolicies": rules, "templateLinks": []}
    return str(cedarpy.policies_from_json_str(json.dumps(document)))
