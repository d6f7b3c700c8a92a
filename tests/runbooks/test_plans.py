from __future__ import annotations

from cluster.kinds import BY_NAME
from cluster.reference import ContainerRef, ObjectRef
from cluster.world import World
from runbooks.changes import DEPLOYERS
from runbooks.finding import Certainty, Finding, LogWant, ObjectsWant, Source, Want, cite
from runbooks.plans import REPLICA_LOGS, base_wants, focus_wants, last_resort, next_wants
from tests.runbooks.worlds import world


def replicas(count: int, name: str = "serve") -> str:
    pod = """
kind: Pod
metadata:
  name: {name}-{number}
  namespace: ml
  labels: {{app: {name}}}
  ownerReferences: [{{kind: StatefulSet, name: {name}, controller: true}}]
spec: {{containers: [{{name: main}}]}}
status:
  phase: Running
  containerStatuses: [{{name: main, restartCount: {restarts}, state: {{running: {{}}}}}}]
"""
    pods = [pod.format(name=name, number=number, restarts=number) for number in range(count)]
    return "---".join([f"\nkind: StatefulSet\nmetadata: {{name: {name}, namespace: ml}}\n", *pods])


def log(pod: str) -> LogWant:
    return LogWant(ContainerRef("ml", pod, "main"))


def finding(code: str, name: str, certainty: Certainty, *wants: Want) -> Finding:
    ref = ObjectRef("Pod", "ml", name)
    return Finding(code, ref, certainty, (cite(Source.FIELD, ref, "status", "x"),), "It is so.", wants=wants)


def order(made: World, *findings: Finding, asked: frozenset[Want] = frozenset(), focus: tuple[ObjectRef, ...] = ()) -> list[Want]:
    return list(next_wants(made, findings, asked, focus))


def test_pods_are_read_first_and_each_kind_once() -> None:
    wants = base_wants()
    assert wants[0] == ObjectsWant("Pod")
    assert len(set(wants)) == len(wants)
    # What deploys is known, and read by whoever asks what changed.
    assert not {ObjectsWant(name) for name in DEPLOYERS} & set(wants)
    assert set(DEPLOYERS) <= set(BY_NAME)


def test_replicas_of_one_workload_are_not_all_read() -> None:
    made = world(replicas(10))
    findings = [finding("container.crash-loop", f"serve-{number}", Certainty.LIKELY, log(f"serve-{number}")) for number in range(10)]
    first = order(made, *findings)
    assert len(first) == REPLICA_LOGS
    assert order(made, *findings, asked=frozenset(first)) == []


def test_a_possible_cause_comes_before_a_proven_one_and_focus_before_all() -> None:
    made = world(replicas(1, "a") + "---" + replicas(1, "b") + "---" + replicas(1, "c"))
    proven = finding("container.crash-loop", "a-0", Certainty.PROVEN, log("a-0"))
    open_question = finding("container.crash-loop", "b-0", Certainty.LIKELY, log("b-0"))
    symptom = finding("workload.unavailable", "c-0", Certainty.LIKELY, log("c-0"))
    assert order(made, proven, open_question, symptom) == [log("b-0"), log("a-0"), log("c-0")]
    focused = order(made, proven, open_question, symptom, focus=(ObjectRef("Pod", "ml", "c-0"),))
    assert focused[0] == log("c-0")


def test_objects_come_before_logs_of_the_same_finding() -> None:
    made = world(replicas(1))
    wanted = finding("container.crash-loop", "serve-0", Certainty.LIKELY, log("serve-0"), ObjectsWant("Endpoints"))
    assert order(made, wanted) == [ObjectsWant("Endpoints"), log("serve-0")]


def test_the_worst_pods_speak_for_what_is_asked_about() -> None:
    wants = focus_wants(world(replicas(10)), (ObjectRef("StatefulSet", "ml", "serve"),), frozenset())
    assert {want.container.pod for want in wants if isinstance(want, LogWant)} == {"serve-9", "serve-8"}
    assert any(isinstance(want, LogWant) and want.previous for want in wants)


def test_the_last_resort_is_for_small_places() -> None:
    few = last_resort(world(replicas(3, "a") + "---" + replicas(3, "b")), frozenset())
    assert {want.container.pod for want in few if isinstance(want, LogWant)} == {"a-2", "b-2"}
    many = "---".join(replicas(1, f"w{number}") for number in range(60))
    assert last_resort(world(many), frozenset()) == ()


def test_a_pod_recorded_without_its_containers_has_those_of_the_template() -> None:
    made = world(
        "kind: Job\nmetadata: {name: check, namespace: ml}\nspec: {template: {spec: {containers: [{name: beans}]}}}\n---\n"
        "kind: Pod\nmetadata: {name: check-abcde, namespace: ml, labels: {job-name: check}}\n"
    )
    (want,) = focus_wants(made, (ObjectRef("Job", "ml", "check"),), frozenset())
    assert isinstance(want, LogWant)
    assert want.container == ContainerRef("ml", "check-abcde", "beans")


def test_the_platform_s_own_programs_are_no_last_resort() -> None:
    made = world(replicas(1, "dns").replace("namespace: ml", "namespace: kube-system") + "---" + replicas(1, "a"))
    wants = last_resort(made, frozenset())
    assert [want.container.pod for want in wants if isinstance(want, LogWant)] == ["a-0"]


def test_the_control_plane_is_heard_by_who_asks_about_a_whole_cluster() -> None:
    made = world(replicas(1, "etcd").replace("namespace: ml", "namespace: kube-system").replace("{app: etcd}", "{tier: control-plane}"))
    assert [want.container.pod for want in last_resort(made, frozenset()) if isinstance(want, LogWant)] == ["etcd-0"]
