from __future__ import annotations

from typing import Any

import pytest

from runbooks.detectors.images import failed_pulls, missing_pull_secrets, slow_pulls
from runbooks.finding import Certainty
from tests.runbooks.specimens import deployment, document, event, pod, replica_set, waiting
from tests.runbooks.worlds import codes, world

IMAGE = "registry.example/web:1"


def pulling(answer: str, image: str = IMAGE, **extra: Any) -> str:
    text = f'Failed to pull image "{image}": failed to resolve reference "{image}": {answer}'
    return pod(
        state=waiting("ImagePullBackOff", f'Back-off pulling image "{image}"'), phase="Pending", container={"image": image}, **extra
    ) + event("Failed", text)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (f"{IMAGE}: not found", "image.not-found"),
        ("manifest unknown", "image.not-found"),
        ("unexpected status from HEAD request: 401 Unauthorized", "image.pull-denied"),
        ("dial tcp: lookup registry.example: no such host", "image.registry-unreachable"),
        ("Get https://registry.example/v2/: x509: certificate signed by unknown authority", "image.registry-unreachable"),
        ("toomanyrequests: You have reached your pull rate limit", "image.registry-throttled"),
        ("no match for platform in manifest: not found", "image.wrong-architecture"),
        ("write /var/lib/containerd/x: no space left on device", "image.no-disk-space"),
        ("SignatureValidationFailed", "image.signature-refused"),
    ],
)
def test_what_the_registry_answers_decides(answer: str, code: str) -> None:
    assert codes(failed_pulls(world(pulling(answer)))) == {code}


@pytest.mark.parametrize(
    ("reason", "message", "code"),
    [
        ("InvalidImageName", 'Failed to apply default image tag "A:b:c": couldn\'t parse image name', "image.invalid-name"),
        ("ErrImageNeverPull", f'Container image "{IMAGE}" is not present with pull policy of Never', "image.never-pulled"),
        ("ImagePullBackOff", "", "image.pull-failed"),
    ],
)
def test_the_waiting_reason_speaks_where_no_event_does(reason: str, message: str, code: str) -> None:
    assert codes(failed_pulls(world(pod(state=waiting(reason, message), phase="Pending")))) == {code}


def test_a_public_registry_that_refuses_strangers_most_often_lacks_the_image() -> None:
    answer = "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope"
    (finding,) = failed_pulls(world(pulling(answer, image="app-image:latest")))
    assert finding.code == "image.not-found-or-private"
    assert finding.certainty is Certainty.LIKELY


def test_with_a_pull_secret_a_refusal_is_about_the_secret() -> None:
    refused = pulling("pull access denied", image="team/app:1", imagePullSecrets=[{"name": "regcred"}])
    assert codes(failed_pulls(world(refused))) == {"image.pull-denied"}


def test_the_workload_is_blamed_and_its_earlier_image_named() -> None:
    made = world(
        deployment()
        + replica_set("web-1111", 1, {"image": "registry.example/web:0"})
        + replica_set("web-5d4f8", 2, {"image": IMAGE})
        + pulling(f"{IMAGE}: not found")
    )
    (finding,) = failed_pulls(made)
    assert (finding.subject.kind, finding.subject.name) == ("Deployment", "web")
    assert "registry.example/web:0" in finding.explanation


def test_a_full_disk_is_the_node_s() -> None:
    (finding,) = failed_pulls(world(pulling("no space left on device")))
    assert (finding.subject.kind, finding.subject.name) == ("Node", "node-1")


def test_a_pod_that_pulled_at_last_accuses_nobody() -> None:
    made = world(pod(ready=True) + event("Failed", f'Failed to pull image "{IMAGE}": not found'))
    assert not list(failed_pulls(made))


def test_a_missing_pull_secret_is_named() -> None:
    text = "Unable to retrieve some image pull secrets (regcred); attempting to pull the image may not succeed."
    made = world(pulling("401 Unauthorized", imagePullSecrets=[{"name": "regcred"}]) + event("FailedToRetrieveImagePullSecret", text))
    (finding,) = missing_pull_secrets(made)
    assert (finding.code, finding.subject.kind, finding.subject.name) == ("image.pull-secret-missing", "Secret", "regcred")


def test_a_missing_pull_secret_that_nobody_needed_is_no_fault() -> None:
    text = "Unable to retrieve some image pull secrets (regcred); attempting to pull the image may not succeed."
    assert not list(missing_pull_secrets(world(pod(ready=True) + event("FailedToRetrieveImagePullSecret", text))))


@pytest.mark.parametrize(("minutes", "slow"), [(25, True), (3, False)])
def test_only_a_long_pull_is_slow(minutes: int, slow: bool) -> None:
    made = world(
        pod(state=waiting("ContainerCreating"), phase="Pending") + event("Pulling", f'Pulling image "{IMAGE}"', minutes_ago=minutes)
    )
    assert codes(slow_pulls(made)) == ({"image.slow-pull"} if slow else set())


def test_credentials_of_the_service_account_count() -> None:
    account = document(kind="ServiceAccount", metadata={"name": "default", "namespace": "shop"}, imagePullSecrets=[{"name": "regcred"}])
    made = world(account + pulling("pull access denied", image="team/app:1"))
    assert codes(failed_pulls(made)) == {"image.pull-denied"}
