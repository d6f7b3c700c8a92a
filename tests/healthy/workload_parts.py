"""Workloads that look like trouble to the hasty and are none: finished, suspended, on their way, at zero, restarted long ago."""

from __future__ import annotations

from typing import Any

from tests.healthy.draw import Draw, Part
from tests.healthy.manifests import (
    Object,
    container,
    daemon_set,
    deployment,
    event,
    job,
    metadata,
    service,
    stateful_set,
    template,
    thing,
)


def jobs_done(draw: Draw) -> Part:
    """A Job that completed, an indexed one, and one that goes on."""
    space = draw.namespace
    done, indexed, busy = draw.name("-migrate"), draw.name("-batch"), draw.name("-backfill")
    running = template(busy, [container("work", draw.image(busy))], {"lab.smokejumper.dev/runs-for": "3600s"})
    return Part(
        (
            job(space, done, template(done, [container("work", draw.image(done))])),
            job(
                space,
                indexed,
                template(indexed, [container("work", draw.image(indexed))]),
                completions=draw.random.randint(2, 5),
                parallelism=2,
                completionMode="Indexed",
            ),
            job(space, busy, running, backoffLimit=4, activeDeadlineSeconds=86400),
        ),
        moving=frozenset({busy}),
    )


def jobs_suspended(draw: Draw) -> Part:
    """Jobs that wait on purpose: created suspended, and suspended later."""
    first, later = draw.name("-sweep"), draw.name("-train")
    space = draw.namespace

    def made(name: str, *, suspend: bool) -> Object:
        pod = template(name, [container("work", f"{name}/work:1")], {"lab.smokejumper.dev/runs-for": "3600s"})
        return job(space, name, pod, suspend=suspend)

    return Part(
        (made(first, suspend=True), made(later, suspend=False)), changes=(made(later, suspend=True),), moving=frozenset({first, later})
    )


def cron_jobs(draw: Draw) -> Part:
    """CronJobs between two runs, one suspended, and a run that somebody started by hand and that completed."""
    space = draw.namespace
    nightly, weekly, off = draw.name("-nightly"), draw.name("-weekly"), draw.name("-off")

    def cron(name: str, schedule: str, **spec: object) -> Object:
        pod = template(name, [container("run", f"{name}/run:3")])
        pod["spec"]["restartPolicy"] = "OnFailure"
        return thing("CronJob", "batch/v1", name, space, spec={"schedule": schedule, "jobTemplate": {"spec": {"template": pod}}, **spec})

    by_hand = job(space, f"{nightly}-manual-x7k2p", template(nightly, [container("run", f"{nightly}/run:3")]))
    by_hand["metadata"]["annotations"] = {"cronjob.kubernetes.io/instantiate": "manual"}
    hour = draw.random.randint(0, 5)
    return Part(
        (
            cron(nightly, f"{draw.random.randint(0, 59)} {hour} 1 1 *", concurrencyPolicy="Forbid"),
            cron(weekly, "0 4 29 2 *", timeZone="Etc/UTC"),
            cron(off, "*/10 * * * *", suspend=True),
            by_hand,
        )
    )


def rollout_under_way(draw: Draw) -> Part:
    """A rollout that is within its deadline: the first new pods have to be ready for some minutes before the next are made."""
    space, name = draw.namespace, draw.name("-web")

    def revision(tag: str) -> Object:
        pod = template(name, [container("app", f"{name}/{name}:{tag}", 8080)])
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": draw_unavailable}}
        return deployment(space, name, 4, pod, minReadySeconds=600, progressDeadlineSeconds=1800, strategy=strategy)

    draw_unavailable = draw.random.choice((0, 1))
    first = revision("1.8.0")
    # The first revision must not have to wait, or the world would never come to rest.
    first["spec"]["minReadySeconds"] = 0
    return Part((service(space, name, 80, 8080), first), changes=(revision("1.9.0"),), moving=frozenset({name}))


def rollout_done(draw: Draw) -> Part:
    """Two revisions, the second good; the old ReplicaSet stays at zero. A StatefulSet on its second revision beside it."""
    space, name, state = draw.namespace, draw.name("-api"), draw.name("-queue")

    def revision(tag: str) -> tuple[Object, Object]:
        port = 8080
        pod = template(name, [container("app", f"{name}/{name}:{tag}", port, livenessProbe={"httpGet": {"path": "/live", "port": port}})])
        broker = template(state, [container("broker", f"{state}/{state}:{tag}", 9090)])
        return deployment(space, name, 3, pod, revisionHistoryLimit=3), stateful_set(space, state, 2, broker)

    headless = service(space, state, 9090, clusterIP="None", publishNotReadyAddresses=True)
    return Part((service(space, name, 80, 8080), headless, *revision("4.1.0")), changes=revision("4.2.0"))


def rollout_paused(draw: Draw) -> Part:
    """A Deployment that somebody paused and has not changed since: all pods are of the only revision and serve."""
    space, name = draw.namespace, draw.name("-canary")

    def made(*, paused: bool) -> Object:
        return deployment(space, name, 2, template(name, [container("app", f"{name}/{name}:1", 8080)]), paused=paused)

    return Part((service(space, name, 80, 8080), made(paused=False)), changes=(made(paused=True),), moving=frozenset({name}))


def scaled_to_zero(draw: Draw) -> Part:
    """Workers at zero on purpose; nobody calls them. An autoscaler stands still because its target is at zero."""
    space, name, state = draw.namespace, draw.name("-worker"), draw.name("-replay")
    pod = template(name, [container("worker", draw.image(name))])
    bounds = {"minReplicas": 1, "maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}}
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
    scaler = thing("HorizontalPodAutoscaler", "autoscaling/v2", name, space, spec={**bounds, "metrics": [metric]})
    replay = stateful_set(space, state, 0, template(state, [container("replay", draw.image(state))]))
    return Part((deployment(space, name, 0, pod), replay, *([scaler] if draw.random.random() < 0.5 else [])))


def restarts_long_ago(draw: Draw) -> Part:
    """Containers that were restarted days ago, for reasons that would matter today."""
    parts: list[Object] = []
    for reason, code in draw.random.sample((("OOMKilled", 137), ("Error", 1), ("Error", 143), ("Completed", 0)), 2):
        name = draw.name("-svc")
        past = {
            "lab.smokejumper.dev/past-restarts": str(draw.random.randint(1, 14)),
            "lab.smokejumper.dev/past-hours": str(draw.random.randint(30, 400)),
            "lab.smokejumper.dev/past-reason": reason,
            "lab.smokejumper.dev/past-exit-code": str(code),
        }
        port = draw.port()
        limits = {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
        pod = template(name, [container("app", draw.image(name), port, resources=limits)], past)
        parts += [service(draw.namespace, name, 80, port), deployment(draw.namespace, name, draw.replicas(), pod)]
    return Part(tuple(parts))


def resolved_warnings(draw: Draw) -> Part:
    """Warnings of half an hour ago and more about objects that are gone or well."""
    space, name = draw.namespace, draw.name("-web")
    texts = (
        (
            "Pod",
            f"{name}-5d9c7b8f6d-x2k4q",
            "FailedScheduling",
            "0/6 nodes are available: 6 Insufficient cpu. preemption: 0/6 nodes are available.",
        ),
        ("Pod", f"{name}-5d9c7b8f6d-p9w7z", "Failed", 'Failed to pull image "registry.example.com/x:9": dial tcp: i/o timeout'),
        ("Pod", f"{name}-5d9c7b8f6d-c8v5n", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
        ("Pod", f"{name}-5d9c7b8f6d-b4t6m", "BackOff", "Back-off restarting failed container app in pod"),
        ("Pod", f"{name}-5d9c7b8f6d-j7h2l", "FailedMount", 'MountVolume.SetUp failed for volume "config" : configmap "old" not found'),
        ("ReplicaSet", f"{name}-7c5ddbdf54", "FailedCreate", 'pods "x" is forbidden: exceeded quota: old'),
    )
    chosen = draw.random.sample(texts, 3)
    warnings = []
    for kind, about, reason, text in chosen:
        minutes = draw.random.randint(25, 55)
        moments = {"firstTimestamp": f"@ago {minutes + 3}m@", "lastTimestamp": f"@ago {minutes}m@", "count": draw.random.randint(1, 9)}
        warnings.append(event(space, kind, about, reason, text, source={"component": "kubelet"}, **moments))
    return Part((*draw.web(name), *warnings))


def node_agents(draw: Draw) -> Part:
    """DaemonSets: on every node of a zone, and one whose nodes do not exist, so that it wants no pod."""
    space, agent, none = draw.namespace, draw.name("-agent"), draw.name("-probe")
    tolerant: dict[str, Any] = {"tolerations": [{"operator": "Exists"}], "nodeSelector": {"topology.kubernetes.io/zone": "zone-c"}}
    mounts = [{"name": "logs", "mountPath": "/var/log", "readOnly": True}]
    logs = [{"name": "logs", "hostPath": {"path": "/var/log"}}]
    pod = template(agent, [container("agent", draw.image(agent), volumeMounts=mounts)], volumes=logs, **tolerant)
    nowhere = template(none, [container("probe", draw.image(none))], nodeSelector={"topology.kubernetes.io/zone": "zone-z"})
    return Part((daemon_set(space, agent, pod), daemon_set(space, none, nowhere)))


def helpers(draw: Draw) -> Part:
    """Init containers, native sidecars, probes of every kind, lifecycle hooks, spreading and affinity that the nodes satisfy."""
    space, name = draw.namespace, draw.name("-full")
    init = container("migrate", f"{name}/migrate:2")
    sidecar = container("proxy", "mesh/proxy:1.30", restartPolicy="Always")
    main = container(
        "app",
        draw.image(name),
        8080,
        startupProbe={"tcpSocket": {"port": 8080}, "failureThreshold": 60},
        livenessProbe={"exec": {"command": ["/bin/alive"]}, "periodSeconds": 20},
        lifecycle={"preStop": {"exec": {"command": ["sleep", "5"]}}},
        args=["--port=8080", "--metrics-port=9100"],
        securityContext={"runAsNonRoot": True, "readOnlyRootFilesystem": True},
        volumeMounts=[{"name": "scratch", "mountPath": "/tmp"}],
    )
    exporter = container("exporter", "metrics/exporter:0.9", None, ports=[{"name": "metrics", "containerPort": 9100}])
    label = {"matchLabels": {"app": name}}
    spread = [{"maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": label}]
    apart = {"podAffinityTerm": {"labelSelector": label, "topologyKey": "kubernetes.io/hostname"}, "weight": 50}
    pod = template(
        name,
        [main, exporter],
        initContainers=[init, sidecar],
        volumes=[{"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}}],
        topologySpreadConstraints=spread,
        affinity={"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [apart]}},
        terminationGracePeriodSeconds=60,
    )
    ports = [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "metrics", "port": 9100, "targetPort": "metrics"}]
    front = thing("Service", "v1", name, space, spec={"selector": {"app": name}, "ports": ports, "sessionAffinity": "ClientIP"})
    return Part((front, deployment(space, name, draw.random.randint(1, 6), pod)))


def many(draw: Draw) -> Part:
    """A large namespace: a dozen workloads, some of many replicas."""
    parts: list[Object] = []
    for _ in range(draw.random.randint(8, 12)):
        parts += draw.web(draw.name("-m"), draw.random.choice((1, 2, 3, 8)))
    return Part(tuple(parts))


def single_pods(draw: Draw) -> Part:
    """Pods without a controller: one that serves, one that ran once and completed."""
    space, serving, once = draw.namespace, draw.name("-shell"), draw.name("-once")

    def pod(name: str, policy: str) -> Object:
        made = thing("Pod", "v1", name, space, spec={"restartPolicy": policy, "containers": [container("main", draw.image(name))]})
        made["metadata"] = metadata(name, space, {"run": name})
        return made

    return Part((pod(serving, "Always"), pod(once, "Never")))


def idle(_draw: Draw) -> Part:
    """Nothing at all but what every namespace has."""
    return Part(())
