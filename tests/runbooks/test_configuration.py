from __future__ import annotations

from typing import Any

import pytest

from runbooks.detectors.configuration import (
    missing_references,
    mixed_images,
    refused_configurations,
    shared_volumes,
)
from runbooks.finding import Certainty
from tests.runbooks.specimens import configmap, document, event, pod, replica_set, terminated, waiting
from tests.runbooks.worlds import codes, world

CREATING: dict[str, Any] = {"state": waiting("ContainerCreating"), "phase": "Pending"}


@pytest.mark.parametrize(
    ("message", "code", "kind", "name"),
    [
        ('configmap "app-config" not found', "config.missing-configmap", "ConfigMap", "app-config"),
        ('secret "db" not found', "config.missing-secret", "Secret", "db"),
        ("couldn't find key url in ConfigMap shop/app-config", "config.missing-key", "ConfigMap", "app-config"),
        ("couldn't find key password in Secret shop/db", "config.missing-key", "Secret", "db"),
    ],
)
def test_the_kubelet_says_what_is_missing(message: str, code: str, kind: str, name: str) -> None:
    made = world(pod(state=waiting("CreateContainerConfigError", message), phase="Pending") + event("Failed", f"Error: {message}"))
    (finding,) = missing_references(made)
    assert (finding.code, finding.subject.kind, finding.subject.name) == (code, kind, name)
    assert finding.certainty is Certainty.PROVEN
    assert not list(refused_configurations(made))


@pytest.mark.parametrize(
    ("message", "code", "kind"),
    [
        ('MountVolume.SetUp failed for volume "v" : configmap "app-config" not found', "config.missing-configmap", "ConfigMap"),
        (
            'MountVolume.SetUp failed for volume "v" : configmap references non-existent config key: app.yaml',
            "config.missing-key",
            "ConfigMap",
        ),
    ],
)
def test_a_volume_that_cannot_be_mounted(message: str, code: str, kind: str) -> None:
    volumes = [{"name": "v", "configMap": {"name": "app-config"}}]
    (finding,) = missing_references(world(pod(**CREATING, volumes=volumes) + event("FailedMount", message)))
    assert (finding.code, finding.subject.kind, finding.subject.name) == (code, kind, "app-config")


def test_a_name_that_is_nearly_right_is_pointed_out() -> None:
    made = world(
        configmap("app-configuration")
        + pod(**CREATING)
        + event("FailedMount", 'MountVolume.SetUp failed for volume "v" : configmap "app-config" not found')
    )
    (finding,) = missing_references(made)
    assert "app-configuration" in finding.explanation


def test_without_a_message_an_absent_configmap_is_likely_when_all_were_read() -> None:
    text = pod(**CREATING, volumes=[{"name": "v", "configMap": {"name": "app-config"}}])
    (finding,) = missing_references(world(text, complete=("ConfigMap",)))
    assert (finding.code, finding.certainty) == ("config.missing-configmap", Certainty.LIKELY)
    assert not list(missing_references(world(text)))


@pytest.mark.parametrize(("optional", "found"), [(False, {"config.missing-key"}), (True, set())])
def test_a_key_that_its_configmap_lacks(optional: bool, found: set[str]) -> None:
    env = [{"name": "URL", "valueFrom": {"configMapKeyRef": {"name": "app-config", "key": "url", "optional": optional}}}]
    made = world(
        configmap("app-config", {"uri": "x"}) + pod(state=waiting("CreateContainerConfigError"), phase="Pending", container={"env": env})
    )
    assert codes(missing_references(made)) == found


def test_without_a_word_the_only_secret_is_suspected() -> None:
    def silent(*secrets: str) -> str:
        env = [{"name": name.upper(), "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}} for name in secrets]
        return pod(state=waiting("CreateContainerConfigError"), phase="Pending", container={"env": env})

    (finding,) = missing_references(world(silent("db")))
    assert (finding.code, finding.subject.name, finding.certainty) == ("config.missing-secret", "db", Certainty.LIKELY)
    assert not list(missing_references(world(silent("db", "api"))))
    assert codes(refused_configurations(world(silent("db", "api")))) == {"config.refused"}
    assert not list(refused_configurations(world(silent("db"))))


def test_a_pod_that_runs_lacks_nothing() -> None:
    message = 'MountVolume.SetUp failed for volume "v" : configmap "app-config" not found'
    assert not list(missing_references(world(pod(ready=True) + event("FailedMount", message))))


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("container has runAsNonRoot and image will run as root (pod: x)", "container.must-not-run-as-root"),
        ('failed to prepare subPath for volumeMount "v" of container "app"', "config.subpath-failed"),
        ("something else", "config.refused"),
    ],
)
def test_configurations_that_the_kubelet_refuses(message: str, code: str) -> None:
    assert codes(refused_configurations(world(pod(state=waiting("CreateContainerConfigError", message), phase="Pending")))) == {code}


def claim(*modes: str) -> str:
    return document(kind="PersistentVolumeClaim", metadata={"name": "data", "namespace": "shop"}, spec={"accessModes": list(modes)})


@pytest.mark.parametrize(
    ("mode", "node", "found"),
    [("ReadWriteOnce", "node-2", {"config.duplicate-mount"}), ("ReadWriteMany", "node-2", set()), ("ReadWriteOnce", "node-1", set())],
)
def test_replicas_on_two_nodes_share_a_volume_for_one(mode: str, node: str, found: set[str]) -> None:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    made = world(
        claim(mode)
        + pod("web-5d4f8-aaaaa", ready=True, volumes=volumes)
        + pod("web-5d4f8-bbbbb", **CREATING, volumes=volumes, nodeName=node)
    )
    assert codes(shared_volumes(made)) == found


@pytest.mark.parametrize(("bad", "found"), [("b", {"config.mixed-images"}), ("a", set())])
def test_exactly_the_pods_with_another_build_fail(bad: str, found: set[str]) -> None:
    def built(name: str, digest: str, text: str) -> str:
        return text.replace('"restartCount"', f'"imageID": "registry.example/web@sha256:{digest * 64}", "restartCount"')

    good = built("x", "a", pod("web-5d4f8-aaaaa", ready=True))
    failing = built("y", bad, pod("web-5d4f8-bbbbb", state=waiting("CrashLoopBackOff"), last=terminated(1), restarts=4))
    assert codes(mixed_images(world(replica_set("web-5d4f8", 1, {}) + good + failing))) == found
