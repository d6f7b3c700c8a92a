"""The kinds that Smokejumper reads: API path, scope and fact type of each. Secrets are not among them, by design."""

from __future__ import annotations

from urllib.parse import quote

from msgspec import Struct

from cluster.facts import config, dra, event, network, node, pod, storage, workload
from cluster.facts.meta import Fact


class Kind(Struct, frozen=True):
    """One kind: `group` is "" for core; `plural` is the resource name in the API path; `fact` is what its objects decode into."""

    name: str
    group: str
    version: str
    plural: str
    namespaced: bool
    fact: type[Fact]

    @property
    def path(self) -> str:
        """`/api/v1` or `/apis/GROUP/VERSION`."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def address(self, namespace: str | None = None, name: str | None = None) -> str:
        """The path of one object, or of the list in one namespace or in all."""
        inside = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced and namespace else ""
        return f"{self.path}{inside}/{self.plural}" + (f"/{quote(name, safe='')}" if name else "")


def _kind(fact: type[Fact], group: str, version: str, plural: str, *, namespaced: bool = True) -> Kind:
    return Kind(fact.kind, group, version, plural, namespaced, fact)


KINDS: tuple[Kind, ...] = (
    _kind(pod.Pod, "", "v1", "pods"),
    _kind(node.Node, "", "v1", "nodes", namespaced=False),
    _kind(node.Namespace, "", "v1", "namespaces", namespaced=False),
    _kind(event.Event, "", "v1", "events"),
    _kind(network.Service, "", "v1", "services"),
    _kind(network.Endpoints, "", "v1", "endpoints"),
    _kind(config.ConfigMap, "", "v1", "configmaps"),
    _kind(config.ServiceAccount, "", "v1", "serviceaccounts"),
    _kind(config.ResourceQuota, "", "v1", "resourcequotas"),
    _kind(config.LimitRange, "", "v1", "limitranges"),
    _kind(storage.PersistentVolumeClaim, "", "v1", "persistentvolumeclaims"),
    _kind(storage.PersistentVolume, "", "v1", "persistentvolumes", namespaced=False),
    _kind(workload.Deployment, "apps", "v1", "deployments"),
    _kind(workload.ReplicaSet, "apps", "v1", "replicasets"),
    _kind(workload.StatefulSet, "apps", "v1", "statefulsets"),
    _kind(workload.DaemonSet, "apps", "v1", "daemonsets"),
    _kind(workload.ControllerRevision, "apps", "v1", "controllerrevisions"),
    _kind(workload.Job, "batch", "v1", "jobs"),
    _kind(workload.CronJob, "batch", "v1", "cronjobs"),
    _kind(workload.HorizontalPodAutoscaler, "autoscaling", "v2", "horizontalpodautoscalers"),
    _kind(workload.PodDisruptionBudget, "policy", "v1", "poddisruptionbudgets"),
    _kind(network.EndpointSlice, "discovery.k8s.io", "v1", "endpointslices"),
    _kind(network.Ingress, "networking.k8s.io", "v1", "ingresses"),
    _kind(network.IngressClass, "networking.k8s.io", "v1", "ingressclasses", namespaced=False),
    _kind(network.NetworkPolicy, "networking.k8s.io", "v1", "networkpolicies"),
    _kind(network.Gateway, "gateway.networking.k8s.io", "v1", "gateways"),
    _kind(network.GatewayClass, "gateway.networking.k8s.io", "v1", "gatewayclasses", namespaced=False),
    _kind(network.HTTPRoute, "gateway.networking.k8s.io", "v1", "httproutes"),
    _kind(storage.StorageClass, "storage.k8s.io", "v1", "storageclasses", namespaced=False),
    _kind(storage.CSIDriver, "storage.k8s.io", "v1", "csidrivers", namespaced=False),
    _kind(storage.CSINode, "storage.k8s.io", "v1", "csinodes", namespaced=False),
    _kind(storage.VolumeAttachment, "storage.k8s.io", "v1", "volumeattachments", namespaced=False),
    _kind(config.PriorityClass, "scheduling.k8s.io", "v1", "priorityclasses", namespaced=False),
    _kind(node.Lease, "coordination.k8s.io", "v1", "leases"),
    _kind(config.Role, "rbac.authorization.k8s.io", "v1", "roles"),
    _kind(config.ClusterRole, "rbac.authorization.k8s.io", "v1", "clusterroles", namespaced=False),
    _kind(config.RoleBinding, "rbac.authorization.k8s.io", "v1", "rolebindings"),
    _kind(config.ClusterRoleBinding, "rbac.authorization.k8s.io", "v1", "clusterrolebindings", namespaced=False),
    _kind(
        config.ValidatingWebhookConfiguration,
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
        namespaced=False,
    ),
    _kind(
        config.MutatingWebhookConfiguration,
        "admissionregistration.k8s.io",
        "v1",
        "mutatingwebhookconfigurations",
        namespaced=False,
    ),
    _kind(config.APIService, "apiregistration.k8s.io", "v1", "apiservices", namespaced=False),
    _kind(dra.ResourceClaim, "resource.k8s.io", "v1", "resourceclaims"),
    _kind(dra.ResourceClaimTemplate, "resource.k8s.io", "v1", "resourceclaimtemplates"),
    _kind(dra.ResourceSlice, "resource.k8s.io", "v1", "resourceslices", namespaced=False),
    _kind(dra.DeviceClass, "resource.k8s.io", "v1", "deviceclasses", namespaced=False),
)

CUSTOM_KINDS: tuple[Kind, ...] = (
    Kind("ClusterServiceVersion", "operators.coreos.com", "v1alpha1", "clusterserviceversions", True, event.CustomObject),
    Kind("Subscription", "operators.coreos.com", "v1alpha1", "subscriptions", True, event.CustomObject),
    Kind("CatalogSource", "operators.coreos.com", "v1alpha1", "catalogsources", True, event.CustomObject),
    Kind("InstallPlan", "operators.coreos.com", "v1alpha1", "installplans", True, event.CustomObject),
    Kind("OperatorGroup", "operators.coreos.com", "v1", "operatorgroups", True, event.CustomObject),
    Kind("ClusterExtension", "olm.operatorframework.io", "v1", "clusterextensions", False, event.CustomObject),
    Kind("ClusterCatalog", "olm.operatorframework.io", "v1", "clustercatalogs", False, event.CustomObject),
    Kind("Certificate", "cert-manager.io", "v1", "certificates", True, event.CustomObject),
    Kind("Issuer", "cert-manager.io", "v1", "issuers", True, event.CustomObject),
    Kind("ClusterIssuer", "cert-manager.io", "v1", "clusterissuers", False, event.CustomObject),
    Kind("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects", True, event.CustomObject),
    Kind("ClusterPolicy", "nvidia.com", "v1", "clusterpolicies", False, event.CustomObject),
    Kind("Workload", "kueue.x-k8s.io", "v1beta2", "workloads", True, event.CustomObject),
    Kind("LocalQueue", "kueue.x-k8s.io", "v1beta2", "localqueues", True, event.CustomObject),
    Kind("ClusterQueue", "kueue.x-k8s.io", "v1beta2", "clusterqueues", False, event.CustomObject),
    Kind("InferenceService", "serving.kserve.io", "v1beta1", "inferenceservices", True, event.CustomObject),
    Kind("InferencePool", "inference.networking.k8s.io", "v1", "inferencepools", True, event.CustomObject),
    Kind("LeaderWorkerSet", "leaderworkerset.x-k8s.io", "v1", "leaderworkersets", True, event.CustomObject),
    Kind("RayService", "ray.io", "v1", "rayservices", True, event.CustomObject),
    Kind("RayJob", "ray.io", "v1", "rayjobs", True, event.CustomObject),
    Kind("TrainJob", "trainer.kubeflow.org", "v1alpha1", "trainjobs", True, event.CustomObject),
    Kind("JobSet", "jobset.x-k8s.io", "v1alpha2", "jobsets", True, event.CustomObject),
    Kind("PyTorchJob", "kubeflow.org", "v1", "pytorchjobs", True, event.CustomObject),
    Kind("AuthorizationPolicy", "security.istio.io", "v1", "authorizationpolicies", True, event.CustomObject),
    Kind("NodePool", "karpenter.sh", "v1", "nodepools", False, event.CustomObject),
    Kind("NodeClaim", "karpenter.sh", "v1", "nodeclaims", False, event.CustomObject),
)

BY_NAME: dict[str, Kind] = {kind.name: kind for kind in (*KINDS, *CUSTOM_KINDS)}

ALIASES: dict[str, str] = {
    "po": "Pod",
    "no": "Node",
    "ns": "Namespace",
    "svc": "Service",
    "cm": "ConfigMap",
    "deploy": "Deployment",
    "rs": "ReplicaSet",
    "sts": "StatefulSet",
    "ds": "DaemonSet",
    "cj": "CronJob",
    "hpa": "HorizontalPodAutoscaler",
    "pdb": "PodDisruptionBudget",
    "pvc": "PersistentVolumeClaim",
    "pv": "PersistentVolume",
    "sc": "StorageClass",
    "ing": "Ingress",
    "netpol": "NetworkPolicy",
    "sa": "ServiceAccount",
    "quota": "ResourceQuota",
    "pc": "PriorityClass",
}


def find_kind(word: str) -> Kind | None:
    """The kind that a person means by `deploy`, `deployments`, `Deployment`; None when there is no such kind here."""
    lowered = word.lower()
    if lowered in ALIASES:
        return BY_NAME[ALIASES[lowered]]
    return next((kind for kind in BY_NAME.values() if lowered in (kind.name.lower(), kind.plural)), None)
