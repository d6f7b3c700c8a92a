"""Names of models that are asked for and not served, by each of those who ask, and what serves under which names."""

from __future__ import annotations

import msgspec
import pytest

from cluster.facts.pod import PodSpec
from cluster.reading import Reading
from cluster.telemetry import Telemetry
from runbooks.detectors.modelnames import DETECTORS
from runbooks.finding import Certainty, Finding
from runbooks.servednames import Served, served_by
from tests.runbooks.measured import flat
from tests.runbooks.worlds import world

SERVER = """
---
kind: Pod
metadata: {{name: chat-{n}, namespace: ml, labels: {{app: chat}}, ownerReferences: [{{kind: StatefulSet, name: chat, controller: true}}]}}
spec: {{containers: [{{name: vllm, image: vllm/vllm-openai:v0.33.0, args: [{args}], env: [{env}]}}]}}
status: {{phase: Running, conditions: [{{type: Ready, status: "True"}}]}}
"""
AROUND = """
---
kind: Service
metadata: {name: chat, namespace: ml}
spec: {selector: {app: chat}, ports: [{port: 8000}]}
---
kind: InferencePool
metadata: {name: chat, namespace: ml, uid: pool-1}
spec: {selector: {matchLabels: {app: chat}}, endpointPickerRef: {name: picker}}
---
kind: Service
metadata: {name: picker, namespace: ml}
spec: {selector: {app: picker}}
---
kind: Pod
metadata: {name: picker-0, namespace: ml, labels: {app: picker}}
spec: {containers: [{name: epp, image: epp}]}
status: {phase: Running, conditions: [{type: Ready, status: "True"}]}
"""
BASE = "--model, /models/chat, --served-model-name, chat-8b, chat"


def serving(args: str = BASE, env: str = "", n: int = 0) -> str:
    return SERVER.format(args=args, env=env, n=n) + AROUND


def route(name: str, kind: str = "InferencePool") -> str:
    header = f"{{name: X-Gateway-Model-Name, value: {name}}}"
    rule = f"{{matches: [{{headers: [{header}]}}], backendRefs: [{{kind: {kind}, name: chat}}]}}"
    return f"\n---\nkind: HTTPRoute\nmetadata: {{name: llm, namespace: ml}}\nspec: {{rules: [{rule}]}}\n"


def rewrite(target: str, match: str = "support") -> str:
    rule = f"{{matches: [{{model: {{type: Exact, value: {match}}}}}], targets: [{{modelRewrite: {target}}}]}}"
    spec = f"{{poolRef: {{name: chat}}, rules: [{rule}]}}"
    return f"\n---\nkind: InferenceModelRewrite\nmetadata: {{name: support, namespace: ml}}\nspec: {spec}\n"


def model(spec: str) -> str:
    return f"\n---\nkind: InferenceModel\nmetadata: {{name: m, namespace: ml}}\nspec: {{poolRef: {{name: chat}}, {spec}}}\n"


def program(model: str, url: str = "http://chat.ml:8000/v1", more: str = "") -> str:
    env = f"[{{name: OPENAI_BASE_URL, value: '{url}'}}, {{name: OPENAI_MODEL, value: {model}}}{more}]"
    return f"""
---
kind: Pod
metadata: {{name: web-0, namespace: shop, ownerReferences: [{{kind: StatefulSet, name: web, controller: true}}]}}
spec: {{containers: [{{name: web, image: web, env: {env}}}]}}
status: {{phase: Running, conditions: [{{type: Ready, status: "True"}}]}}
"""


def found(text: str, *series: object) -> list[Finding]:
    made = world(text).with_telemetry(Reading(Telemetry(series=series)))  # type: ignore[arg-type]
    return [finding for detector in DETECTORS for finding in detector(made)]


@pytest.mark.parametrize(
    ("asks", "subject", "name"),
    [
        (route("chat-70b"), "HTTPRoute/ml/llm", "chat-70b"),
        (route("chat-70b", "Service"), "HTTPRoute/ml/llm", "chat-70b"),
        (rewrite("chat-7b"), "InferenceModelRewrite/ml/support", "chat-7b"),
        (model("modelName: chat-70b"), "InferenceModel/ml/m", "chat-70b"),
        (model("modelName: x, targetModels: [{name: chat-70b}]"), "InferenceModel/ml/m", "chat-70b"),
        (program("gpt-4o"), "StatefulSet/shop/web", "gpt-4o"),
    ],
)
def test_whoever_asks_for_a_name_that_is_not_served(asks: str, subject: str, name: str) -> None:
    [finding] = found(serving() + asks)
    assert (finding.code, str(finding.subject), finding.certainty) == ("model.name-unknown", subject, Certainty.LIKELY)
    assert f"for model {name}" in finding.explanation
    assert "answer to chat, chat-8b" in finding.explanation
    assert finding.evidence[0].quote == name


@pytest.mark.parametrize(
    "asks",
    [
        route("chat-8b"),
        # Another name is put in before the request reaches a server.
        route("support") + rewrite("chat"),
        rewrite("chat"),
        model("modelName: support, targetModels: [{name: chat}]"),
        program("chat"),
        # Of two names nobody says which is for this server, and another server is not known.
        program("gpt-4o", more=", {name: EMBEDDING_MODEL, value: e5}"),
        program("gpt-4o", url="https://api.example.com/v1"),
        # The provider before the name is the client's own, and an embedding is made by whoever.
        program("openai/chat-8b"),
        program("bge-small").replace("OPENAI_MODEL", "EMBEDDING_MODEL"),
    ],
)
def test_names_that_are_served_or_meant_for_others(asks: str) -> None:
    assert found(serving() + asks) == []


def test_an_adapter_that_is_not_loaded_is_told_as_such() -> None:
    loaded = f"{BASE}, --enable-lora, --lora-modules, sql=/adapters/sql"
    [finding] = found(serving(loaded) + rewrite("sqll"))
    assert (finding.code, "Is sql meant?" in finding.explanation) == ("model.adapter-missing", True)
    assert found(serving(loaded) + rewrite("sql")) == []


def test_a_server_that_may_have_the_name_is_not_judged() -> None:
    asks = route("chat-70b")
    assert found(serving(env="{name: VLLM_ALLOW_RUNTIME_LORA_UPDATING, value: 'True'}") + asks) == []
    assert found(serving(args="--config, /etc/vllm.yaml, --model, x") + asks) == []
    assert found(serving(args="--model, $(MODEL)") + asks) == []
    # One of two replicas has it.
    assert found(serving() + SERVER.format(args="--model, chat-70b", env="", n=1) + asks) == []
    # Engines that take every name.
    assert found(serving().replace("vllm/vllm-openai:v0.33.0", "lmsysorg/sglang:v0.5") + asks) == []


def test_requests_that_a_picker_turns_away_prove_it() -> None:
    labels = {"pod": "picker-0", "namespace": "ml", "model_name": "chat-70b", "error_code": "NotFound"}
    [finding] = found(serving(), flat("llm_d_epp_request_error_rate", 0.5, **labels))
    assert (finding.code, str(finding.subject), finding.certainty) == ("model.name-unknown", "InferencePool/ml/chat", Certainty.PROVEN)
    assert found(serving(), flat("llm_d_epp_request_error_rate", 0.0, **labels)) == []
    assert found(serving(), flat("llm_d_epp_request_error_rate", 0.5, **{**labels, "model_name": "chat"})) == []


@pytest.mark.parametrize(
    ("container", "served"),
    [
        ({"args": ["--model", "m"]}, Served(frozenset({"m"}))),
        ({"args": ["org/m", "--port", "8000"]}, Served(frozenset({"org/m"}))),
        ({"command": ["vllm", "serve", "org/m"], "args": ["--served-model-name=a"]}, Served(frozenset({"a"}))),
        ({"command": ["sh", "-c", "vllm serve org/m --served-model-name a b --port 1"]}, Served(frozenset({"a", "b"}))),
        ({"args": ["--model", "$(M)"], "env": [{"name": "M", "value": "org/m"}]}, Served(frozenset({"org/m"}))),
        (
            {"args": ["--model", "m", "--lora-modules", "a=/a", '{"name": "b", "path": "/b"}']},
            Served(frozenset({"m"}), frozenset({"a", "b"})),
        ),
        ({"image": "kserve/huggingfaceserver:v0.16", "args": ["--model_name=qwen", "--model_id=org/q"]}, Served(frozenset({"qwen"}))),
        # An object that nobody can read may name anything.
        *(
            ({"args": ["--model", "m", "--lora-modules", text]}, Served(frozenset({"m"}), known=False))
            for text in ('{"name": ', '{"a":' * 20_000 + "1" + "}" * 20_000)
        ),
        (
            {"args": ["--model", "m"], "env": [{"name": "VLLM_SKIP_MODEL_NAME_VALIDATION", "value": "1"}]},
            Served(frozenset({"m"}), known=False),
        ),
        ({"args": ["--port", "8000"]}, None),
        ({"image": "nginx"}, None),
    ],
)
def test_what_a_server_answers_to(container: dict[str, object], served: Served | None) -> None:
    spec = {"containers": [{"name": "c", "image": "vllm/vllm-openai:v0.33.0", **container}]}
    assert served_by(msgspec.convert(spec, PodSpec)) == served
