"""Which logs of programs that run well are read, when nothing else tells."""

from __future__ import annotations

from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.detectors.registry import detect
from runbooks.finding import LogWant, Want
from runbooks.plans import QUIET_LOGS, SMALL_SCOPE_PODS, next_wants, quiet_logs
from tests.runbooks.specimens import CRASHING, document, pod, service
from tests.runbooks.worlds import world

WEB = ObjectRef("Deployment", "shop", "web")


def pods_of(wants: tuple[Want, ...]) -> set[str]:
    return {want.container.pod for want in wants if isinstance(want, LogWant)}


def quiet(made: World, *focus: ObjectRef) -> set[str]:
    return pods_of(quiet_logs(made, detect(made), focus))


def test_of_a_small_scope_every_workload_is_heard() -> None:
    assert quiet(world(pod(ready=True) + pod("api-77777-abcde", ready=True))) == {"web-5d4f8-abcde", "api-77777-abcde"}


def test_of_a_large_scope_only_what_was_asked_about() -> None:
    many = "".join(pod(f"api-77777-a{number:04d}", ready=True) for number in range(SMALL_SCOPE_PODS))
    made = world(pod(ready=True) + many)
    assert not quiet(made)
    assert quiet(made, WEB) == {"web-5d4f8-abcde"}
    assert len(quiet_logs(made, (), (ObjectRef("Deployment", "shop", "api"),))) == QUIET_LOGS


def test_a_fault_that_shows_makes_quiet_programs_unimportant() -> None:
    made = world(pod(**CRASHING) + pod("api-77777-abcde", ready=True))
    assert not quiet(made)
    assert not quiet(made, WEB)
    assert quiet(made, ObjectRef("Deployment", "shop", "api")) == {"api-77777-abcde"}


def test_a_service_is_asked_through_its_pods() -> None:
    assert quiet(world(service("web") + pod(ready=True)), ObjectRef("Service", "shop", "web")) == {"web-5d4f8-abcde"}


def test_replicas_speak_for_each_other() -> None:
    made = world("".join(pod(f"web-5d4f8-a{number:04d}", ready=True) for number in range(9)))
    assert len(next_wants(made, (), frozenset())) == 2


def test_a_pod_recorded_without_containers_takes_those_of_its_template() -> None:
    job = document(
        kind="Job", metadata={"name": "check", "namespace": "shop"}, spec={"template": {"spec": {"containers": [{"name": "beans"}]}}}
    )
    bare = document(
        kind="Pod", metadata={"name": "check-abcde", "namespace": "shop", "labels": {"batch.kubernetes.io/job-name": "check"}}, spec={}
    )
    (want,) = quiet_logs(world(job + bare), (), (ObjectRef("Job", "shop", "check"),))
    assert isinstance(want, LogWant)
    assert want.container.container == "beans"
