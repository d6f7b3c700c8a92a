"""What surrounds workloads and looks like trouble to the hasty: budgets, quotas, policies, claims, references, Services of every sort."""

from __future__ import annotations

from tests.healthy.draw import Draw, Part
from tests.healthy.manifests import (
    Object,
    config_map,
    container,
    deployment,
    service,
    stateful_set,
    template,
    thing,
)


def web_tier(draw: Draw) -> Part:
    """Services that call each other by names from the environment and from a ConfigMap, one also outside the cluster."""
    space = draw.namespace
    front, middle, back = draw.name("-web"), draw.name("-api"), draw.name("-store")
    settings = {"LOG_LEVEL": "info", "BACKEND_URL": f"http://{middle}.{space}.svc.cluster.local:80", "FEATURE_X": "false"}
    api_env = [
        {"name": "STORE_ADDR", "value": f"{back}:5432"},
        {"name": "PARTNER_URL", "value": "https://api.partner.example.com/v2"},
        {"name": "AUTH_URL", "value": "http://tokens.identity.svc:8080"},
    ]
    web_pod = template(front, [container("web", draw.image(front), 8080, envFrom=[{"configMapRef": {"name": f"{front}-settings"}}])])
    api_pod = template(middle, [container("api", draw.image(middle), 3000, env=api_env)])
    store = container("store", draw.image(back), None, ports=[{"containerPort": 5432}], readinessProbe={"tcpSocket": {"port": 5432}})
    return Part(
        (
            config_map(space, f"{front}-settings", settings),
            service(space, front, 80, 8080),
            service(space, middle, 80, 3000),
            service(space, back, 5432),
            deployment(space, front, draw.replicas(), web_pod),
            deployment(space, middle, draw.replicas(), api_pod),
            stateful_set(space, back, 1, template(back, [store])),
        )
    )


def budget_tight(draw: Draw) -> Part:
    """A disruption budget that allows none just now and is satisfied."""
    space, name = draw.namespace, draw.name("-api")
    replicas = draw.random.randint(2, 4)
    rule: Object = (
        {"minAvailable": draw.random.choice((replicas, replicas - 1, "50%"))} if draw.random.random() < 0.7 else {"maxUnavailable": 1}
    )
    budget = thing("PodDisruptionBudget", "policy/v1", name, space, spec={"selector": {"matchLabels": {"app": name}}, **rule})
    return Part((*draw.web(name, replicas), budget))


def optional_configuration(draw: Draw) -> Part:
    """References to ConfigMaps and Secrets that do not exist and need not."""
    space, name = draw.namespace, draw.name("-svc")
    sources = {
        "env": [
            {"name": "TUNING", "valueFrom": {"configMapKeyRef": {"name": f"{name}-tuning", "key": "level", "optional": True}}},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": f"{name}-token", "key": "token", "optional": True}}},
        ],
        "envFrom": [
            {"configMapRef": {"name": f"{name}-extra", "optional": True}},
            {"secretRef": {"name": f"{name}-keys", "optional": True}},
        ],
        "volumeMounts": [{"name": "overrides", "mountPath": "/etc/overrides"}, {"name": "mixed", "mountPath": "/etc/mixed"}],
    }
    volumes = [
        {"name": "overrides", "configMap": {"name": f"{name}-overrides", "optional": True}},
        {
            "name": "mixed",
            "projected": {"sources": [{"secret": {"name": f"{name}-tls", "optional": True}}, {"downwardAPI": {"items": []}}]},
        },
    ]
    pod = template(name, [container("app", draw.image(name), 8080, **sources)], volumes=volumes)
    return Part((service(space, name, 80, 8080), deployment(space, name, draw.replicas(), pod)))


def claims_unused(draw: Draw) -> Part:
    """A claim that waits for its first consumer, and one that is bound to a volume made for it and in use."""
    space, name = draw.namespace, draw.name("-db")
    waiting_class, kept = f"local-{space}", f"disk-{space}"
    storage = thing("StorageClass", "storage.k8s.io/v1", waiting_class, None, provisioner="kubernetes.io/no-provisioner")
    storage["volumeBindingMode"] = "WaitForFirstConsumer"
    size = {"resources": {"requests": {"storage": "5Gi"}}, "accessModes": ["ReadWriteOnce"]}
    volume = thing(
        "PersistentVolume",
        "v1",
        kept,
        None,
        spec={
            "capacity": {"storage": "5Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": f"/var/lib/{name}"},
            "claimRef": {"name": f"{name}-data", "namespace": space},
        },
    )
    mounted = container("db", draw.image(name), 5432, volumeMounts=[{"name": "data", "mountPath": "/data"}])
    pod = template(name, [mounted], volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": f"{name}-data"}}])
    return Part(
        (
            thing("PersistentVolumeClaim", "v1", f"{name}-spare", space, spec={**size, "storageClassName": waiting_class}),
            thing("PersistentVolumeClaim", "v1", f"{name}-data", space, spec={**size, "storageClassName": "", "volumeName": kept}),
            service(space, name, 5432),
            stateful_set(space, name, 1, pod),
        ),
        cluster=(storage, volume),
    )


def plain_services(draw: Draw) -> Part:
    """Services without selector and with endpoints written by hand, ExternalName, headless, and one for pods that are not to come yet."""
    space, outside, alias, peers = draw.namespace, draw.name("-ext"), draw.name("-alias"), draw.name("-ring")
    by_hand = service(space, outside, 5432)
    del by_hand["spec"]["selector"]
    addresses = thing(
        "EndpointSlice",
        "discovery.k8s.io/v1",
        f"{outside}-1",
        space,
        addressType="IPv4",
        ports=[{"name": "http", "port": 5432, "protocol": "TCP"}],
        endpoints=[{"addresses": ["192.0.2.17"]}, {"addresses": ["192.0.2.18"], "conditions": {"ready": True}}],
    )
    addresses["metadata"]["labels"] = {"kubernetes.io/service-name": outside}
    external = thing("Service", "v1", alias, space, spec={"type": "ExternalName", "externalName": "mail.example.com"})
    ring = stateful_set(space, peers, 3, template(peers, [container("node", draw.image(peers), 9090)]), podManagementPolicy="Parallel")
    headless = service(space, peers, 9090, clusterIP="None", publishNotReadyAddresses=True)
    name = draw.name("-svc")
    caller = template(
        name, [container("app", draw.image(name), 8080, env=[{"name": "DB_HOST", "value": outside}, {"name": "SMTP_HOST", "value": alias}])]
    )
    return Part((by_hand, addresses, external, headless, ring, deployment(space, name, 1, caller)))


def quota_full(draw: Draw) -> Part:
    """A quota that is used up exactly, and limits that every container keeps."""
    space, name = draw.namespace, draw.name("-tenant")
    replicas = draw.random.randint(1, 3)
    bound = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "200m", "memory": "256Mi"}}
    pod = template(name, [container("app", draw.image(name), 8080, resources=bound)])
    hard = {"count/deployments.apps": "40", "count/replicasets.apps": "80", "count/services.loadbalancers": "0", "services.nodeports": "0"}
    limit = {"type": "Container", "defaultRequest": {"cpu": "10m", "memory": "32Mi"}, "max": {"cpu": "64", "memory": "512Gi"}}
    scoped = {
        "hard": {"requests.cpu": f"{replicas * 100}m", "pods": str(replicas)},
        "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": [f"tenant-{space}"]}]},
    }
    pod["spec"]["priorityClassName"] = f"tenant-{space}"
    priority = thing("PriorityClass", "scheduling.k8s.io/v1", f"tenant-{space}", None, value=draw.random.randint(10, 90000))
    return Part(
        (
            thing("ResourceQuota", "v1", f"{name}-objects", space, spec={"hard": hard}),
            thing("ResourceQuota", "v1", f"{name}-pods", space, spec=scoped),
            thing("LimitRange", "v1", f"{name}-limits", space, spec={"limits": [limit]}),
            deployment(space, name, replicas, pod, strategy={"type": "Recreate"}),
        ),
        cluster=(priority,),
    )


def fenced(draw: Draw) -> Part:
    """Default-deny policies with the holes that the traffic needs, an Ingress that is served, a Role for its account."""
    space, front, back = draw.namespace, draw.name("-web"), draw.name("-api")
    account = f"{back}-account"
    front_pod = template(front, [container("web", draw.image(front), 8080, env=[{"name": "API_URL", "value": f"http://{back}:80"}])])
    back_pod = template(back, [container("api", draw.image(back), 3000)], serviceAccountName=account)
    # Only these two, because the neighbours in this namespace have no holes made for them.
    both = {"matchExpressions": [{"key": "app", "operator": "In", "values": [front, back]}]}
    closed = {"podSelector": both, "policyTypes": ["Ingress", "Egress"]}
    deny = thing("NetworkPolicy", "networking.k8s.io/v1", f"{front}-deny", space, spec=closed)
    to_back = {"from": [{"podSelector": {"matchLabels": {"app": front}}}], "ports": [{"port": draw.random.choice((3000, "http"))}]}
    allow_back = {"podSelector": {"matchLabels": {"app": back}}, "policyTypes": ["Ingress"], "ingress": [to_back]}
    dns = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    out = {"to": [{"podSelector": {"matchLabels": {"app": back}}}], "ports": [{"port": 3000}]}
    allow_front = {
        "podSelector": {"matchLabels": {"app": front}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{}],
        "egress": [out, dns],
    }
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": front, "port": {"name": "http"}}}}
    route = {"ingressClassName": f"edge-{space}", "rules": [{"host": f"{front}.example.com", "http": {"paths": [path]}}]}
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]
    subject = {"kind": "ServiceAccount", "name": account, "namespace": space}
    return Part(
        (
            thing("ServiceAccount", "v1", account, space),
            thing("Role", "rbac.authorization.k8s.io/v1", f"{back}-reads", space, rules=rules),
            thing(
                "RoleBinding",
                "rbac.authorization.k8s.io/v1",
                f"{back}-reads",
                space,
                roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": f"{back}-reads"},
                subjects=[subject],
            ),
            deny,
            thing("NetworkPolicy", "networking.k8s.io/v1", back, space, spec=allow_back),
            thing("NetworkPolicy", "networking.k8s.io/v1", front, space, spec=allow_front),
            service(space, front, 80, 8080),
            service(space, back, 80, "http"),
            deployment(space, front, draw.replicas(), front_pod),
            deployment(space, back, draw.replicas(), back_pod),
            thing(
                "Ingress",
                "networking.k8s.io/v1",
                front,
                space,
                spec=route,
                status={"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}},
            ),
        ),
        cluster=(thing("IngressClass", "networking.k8s.io/v1", f"edge-{space}", None, spec={"controller": "example.com/edge"}),),
    )
