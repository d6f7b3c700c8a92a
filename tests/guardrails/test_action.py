"""Arguments that try to be more than arguments are refused before anything looks at them."""

from __future__ import annotations

from typing import Any

import pytest

from guardrails.action import (
    BY_NAME,
    TARGET_RESOURCES,
    Action,
    DeleteClaim,
    DeletePod,
    RolloutUndo,
    Scale,
    Target,
    access,
    check_target,
    example,
    from_words,
    parse_action,
    schemas,
    target,
)
from guardrails.errors import InvalidAction


@pytest.mark.parametrize(
    "name",
    [
        "default --as=system:admin",
        "-ojsonpath={.data}",
        "api;rm -rf /",
        "../../secrets/x",
        "api%2F..%2Fsecrets",
        "",
        " web",
        "web ",
        "web\n",
        "Web",
        "wéb",
        "kub\u0435-system",
        "web\u202e",
        "web\x00",
        "a" * 254,
        "-web",
        "web-",
        "a..b",
        "web/scale",
        "web?dryRun=All",
        "web#x",
    ],
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InvalidAction):
        target("Deployment", "shop", name)
    with pytest.raises(InvalidAction):
        target("Deployment", name, "web")


@pytest.mark.parametrize("namespace", ["KUBE-SYSTEM", "kube-system ", "kube.system", "a" * 64])
def test_namespaces_that_are_none(namespace: str) -> None:
    with pytest.raises(InvalidAction):
        target("Deployment", namespace, "web")


@pytest.mark.parametrize(
    "kind", ["SECRETS", "Secret", "Secret.v1.", "secrets", "List", "nodes/proxy", "services/proxy", "ClusterRole", "deployment", ""]
)
def test_kinds_that_nothing_may_change(kind: str) -> None:
    with pytest.raises(InvalidAction, match="no kind that may be changed"):
        target(kind, "shop", "web")


@pytest.mark.parametrize("replicas", ["1e9", "-1", '"10"', "true", str(2**62), "10001", "3.0", "null", "[3]", "NaN"])
def test_replicas_out_of_bounds(replicas: str) -> None:
    with pytest.raises(InvalidAction):
        parse_action(f'{{"action": "scale", "replicas": {replicas}}}')


@pytest.mark.parametrize(
    "document",
    [
        '{"action": "scale", "replicas": 3, "replicas": 9}',
        '{"action": "scale", "replicas": 3, "force": true}',
        '{"action": "rollout_restart", "selector": ""}',
        '{"action": "patch", "patch": {"metadata": {"finalizers": []}}}',
        '{"action": "exec"}',
        '{"action": "SCALE", "replicas": 3}',
        '{"replicas": 3}',
        '{"action": ["scale"]}',
        "[]",
        "null",
        "{",
        "",
        "[" * 200_000,
        {"action": "rollout_undo", "to_revision": 0},
        {"action": "rollout_undo", "to_revision": True},
        {"kind": "List", "items": [{"kind": "Secret"}]},
    ],
)
def test_actions_that_are_none(document: str | dict[str, Any]) -> None:
    with pytest.raises(InvalidAction) as caught:
        parse_action(document)
    assert len(str(caught.value)) < 1500, "an error never echoes a long input"


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("scale", {}, "scale needs replicas. Add it, like --set replicas=3. 'smokejumper proposals actions' lists what each action takes."),
        ("set_image", {}, "set_image needs container and image. Add it, like --set container=server --set image="),
        ("scale", {"replicas": "-1"}, "scale.replicas: must be greater than or equal to 0 (given -1). scale takes: replicas. 'smokejumper"),
        ("scale", {"replicas": "many"}, "scale.replicas: must be a valid integer (given 'many'). scale takes: replicas."),
        ("rollout_undo", {"to_revision": "0"}, "(given 0). rollout_undo takes: [to_revision]."),
        ("edit_configmap_key", {"key": "", "value": "1"}, "edit_configmap_key.key: not a key of a ConfigMap (given '')."),
        ("scale", {"to": "3"}, "scale has no parameter 'to'. It has: replicas."),
        ("scael", {}, "'scael' is no action. Actions: rollout_undo,"),
    ],
)
def test_what_is_wrong_with_the_words_is_named_and_no_other_actions(name: str, parameters: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidAction) as caught:
        from_words(name, parameters)
    assert says in str(caught.value)
    assert ("untaint" in str(caught.value)) == (name not in BY_NAME)


def test_a_document_that_lacks_a_parameter_is_told_which() -> None:
    with pytest.raises(InvalidAction, match=r"^scale\.replicas is missing\. scale takes: replicas\."):
        parse_action({"action": "scale"})


def test_legal_actions() -> None:
    assert parse_action('{"action": "scale", "replicas": 0}') == Scale(replicas=0)
    assert parse_action({"action": "rollout_undo"}) == RolloutUndo(to_revision=None)


@pytest.mark.parametrize(("kind", "namespace"), [("Deployment", None), ("Pod", None)])
def test_namespaced_kinds_need_a_namespace(kind: str, namespace: str | None) -> None:
    with pytest.raises(InvalidAction):
        target(kind, namespace, "web")


def test_an_action_applies_to_its_kinds_only() -> None:
    on = {kind: target(kind, "shop" if resource.namespaced else None, "x") for kind, resource in TARGET_RESOURCES.items()}
    for name, word in BY_NAME.items():
        action = example(name)
        for kind, where in on.items():
            if kind in word.traits.kinds:
                check_target(action, where)
                rules = access(action, where)
                assert rules[0].writes
                assert word.traits.write_verb in {rule.verb for rule in rules}
                assert [str(rule) for rule in rules if not rule.writes] == [f"get {_whole(where)}"]
            else:
                with pytest.raises(InvalidAction, match="does not apply"):
                    check_target(action, where)


def _whole(on: Target) -> str:
    return f"{on.resource.plural}.{on.group}" if on.group else on.resource.plural


@pytest.mark.parametrize(
    ("action", "kind", "forgery"),
    [
        (DeletePod(), "Pod", {"group": "evil.example"}),
        (DeletePod(), "Pod", {"version": "v1beta1"}),
        (DeleteClaim(), "ResourceClaim", {"version": "v1alpha3"}),
    ],
)
def test_a_target_of_another_group_or_version_is_refused(action: Action, kind: str, forgery: dict[str, str]) -> None:
    forged = target(kind, "shop", "x").model_copy(update=forgery)
    with pytest.raises(InvalidAction, match="is written as"):
        check_target(action, forged)


def test_paths() -> None:
    assert target("Deployment", "shop", "web").path == "/apis/apps/v1/namespaces/shop/deployments/web"
    assert target("Node", None, "n1").path == "/api/v1/nodes/n1"
    assert set(schemas()) == set(BY_NAME)
