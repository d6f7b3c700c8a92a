"""The kinds that Smokejumper reads: API path, scope and fact type of each. Secrets are not among them, by design."""

from __future__ import annotations

from urllib.parse import quote

from msgspec import Struct

from cluster.facts import config, dra, event, network, node, pod, storage, workload
from cluster.facts.meta import Fact


class Kind(Struct, frozen=True):
    """One kind: `group` is "" for core; `plural` is the resource name in the API path; `fact` is what its objects decode into.

    `also` are further groups in which the same thing lives: an earlier group of it, or another project's kind of that name. `earlier`
    are versions, newest first, that the fact reads too, for servers that have no better one.
    """

    name: str
    group: str
    version: str
    plural: str
    namespaced: bool
    fact: type[Fact]
    also: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()

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


def _kind(fact: type[Fact], group: str, version: str, plural: str, *, namespaced: bool = True, earlier: tuple[str, ...] = ()) -> Kind:
    return Kind(fact.kind, group, version, plural, namespaced, fact, earlier=earlier)


# Before 1.34 (resource.k8s.io/v1) a server has v1beta2 (1.33) or v1beta1 (1.32).
_DRA_BETAS = ("v1beta2", "v1beta1")
# Of the same fields: Gateway API before 1.0 has no other (sigs.k8s.io/gateway-api/apis/v1beta1, where they are aliases of v1's).
_GATEWAY_BETAS = ("v1beta1",)


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
    _kind(network.Gateway, "gateway.networking.k8s.io", "v1", "gateways", earlier=_GATEWAY_BETAS),
    _kind(network.GatewayClass, "gateway.networking.k8s.io", "v1", "gatewayclasses", namespaced=False, earlier=_GATEWAY_BETAS),
    _kind(network.HTTPRoute, "gateway.networking.k8s.io", "v1", "httproutes", earlier=_GATEWAY_BETAS),
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
    _kind(dra.ResourceClaim, "resource.k8s.io", "v1", "resourceclaims", earlier=_DRA_BETAS),
    _kind(dra.ResourceClaimTemplate, "resource.k8s.io", "v1", "resourceclaimtemplates", earlier=_DRA_BETAS),
    _kind(dra.ResourceSlice, "resource.k8s.io", "v1", "resourceslices", namespaced=False, earlier=_DRA_BETAS),
    _kind(dra.DeviceClass, "resource.k8s.io", "v1", "deviceclasses", namespaced=False, earlier=_DRA_BETAS),
    _kind(dra.DeviceTaintRule, "resource.k8s.io", "v1", "devicetaintrules", namespaced=False, earlier=("v1beta2", "v1alpha3")),
)


def _custom(name: str, group: str, version: str, plural: str, *, namespaced: bool = True, also: tuple[str, ...] = ()) -> Kind:
    return Kind(name, group, version, plural, namespaced, event.CustomObject, also)


# Of these a server may serve an earlier version instead: what is read of them stands in all of them.
CUSTOM_KINDS: tuple[Kind, ...] = (
    _custom("ClusterServiceVersion", "operators.coreos.com", "v1alpha1", "clusterserviceversions"),
    _custom("Subscription", "operators.coreos.com", "v1alpha1", "subscriptions"),
    _custom("CatalogSource", "operators.coreos.com", "v1alpha1", "catalogsources"),
    _custom("InstallPlan", "operators.coreos.com", "v1alpha1", "installplans"),
    _custom("OperatorGroup", "operators.coreos.com", "v1", "operatorgroups"),
    _custom("ClusterExtension", "olm.operatorframework.io", "v1", "clusterextensions", namespaced=False),
    _custom("ClusterCatalog", "olm.operatorframework.io", "v1", "clustercatalogs", namespaced=False),
    _custom("Certificate", "cert-manager.io", "v1", "certificates"),
    _custom("Issuer", "cert-manager.io", "v1", "issuers"),
    _custom("ClusterIssuer", "cert-manager.io", "v1", "clusterissuers", namespaced=False),
    _custom("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects"),
    _custom("ClusterPolicy", "nvidia.com", "v1", "clusterpolicies", namespaced=False),
    _custom("NVIDIADriver", "nvidia.com", "v1alpha1", "nvidiadrivers", namespaced=False),
    _custom("ComputeDomain", "resource.nvidia.com", "v1beta1", "computedomains"),
    _custom("Workload", "kueue.x-k8s.io", "v1beta2", "workloads"),
    _custom("LocalQueue", "kueue.x-k8s.io", "v1beta2", "localqueues"),
    _custom("ClusterQueue", "kueue.x-k8s.io", "v1beta2", "clusterqueues", namespaced=False),
    _custom("ResourceFlavor", "kueue.x-k8s.io", "v1beta2", "resourceflavors", namespaced=False),
    _custom("AdmissionCheck", "kueue.x-k8s.io", "v1beta2", "admissionchecks", namespaced=False),
    _custom("Cohort", "kueue.x-k8s.io", "v1beta2", "cohorts", namespaced=False),
    _custom("Topology", "kueue.x-k8s.io", "v1beta2", "topologies", namespaced=False),
    # Volcano, KAI and the scheduler plugins each have a PodGroup, the first two a Queue.
    _custom("PodGroup", "scheduling.volcano.sh", "v1beta1", "podgroups", also=("scheduling.run.ai", "scheduling.x-k8s.io")),
    _custom("Queue", "scheduling.volcano.sh", "v1beta1", "queues", namespaced=False, also=("scheduling.run.ai",)),
    _custom("InferenceService", "serving.kserve.io", "v1beta1", "inferenceservices"),
    _custom("LLMInferenceService", "serving.kserve.io", "v1alpha2", "llminferenceservices"),
    _custom("InferencePool", "inference.networking.k8s.io", "v1", "inferencepools", also=("inference.networking.x-k8s.io",)),
    # What became of InferenceModel when its criticality went into InferenceObjective.
    _custom("InferenceModelRewrite", "inference.networking.x-k8s.io", "v1alpha2", "inferencemodelrewrites", also=("llm-d.ai",)),
    _custom("InferenceModel", "inference.networking.x-k8s.io", "v1alpha2", "inferencemodels"),
    _custom("LeaderWorkerSet", "leaderworkerset.x-k8s.io", "v1", "leaderworkersets"),
    _custom("RayService", "ray.io", "v1", "rayservices"),
    _custom("RayCluster", "ray.io", "v1", "rayclusters"),
    _custom("RayJob", "ray.io", "v1", "rayjobs"),
    _custom("TrainJob", "trainer.kubeflow.org", "v1alpha1", "trainjobs"),
    _custom("JobSet", "jobset.x-k8s.io", "v1alpha2", "jobsets"),
    _custom("PyTorchJob", "kubeflow.org", "v1", "pytorchjobs"),
    _custom("MPIJob", "kubeflow.org", "v2beta1", "mpijobs"),
    _custom("Workflow", "argoproj.io", "v1alpha1", "workflows"),
    _custom("Application", "argoproj.io", "v1alpha1", "applications"),
    _custom("Kustomization", "kustomize.toolkit.fluxcd.io", "v1", "kustomizations"),
    _custom("HelmRelease", "helm.toolkit.fluxcd.io", "v2", "helmreleases"),
    _custom("AuthorizationPolicy", "security.istio.io", "v1", "authorizationpolicies"),
    _custom("PeerAuthentication", "security.istio.io", "v1", "peerauthentications"),
    _custom("VirtualService", "networking.istio.io", "v1", "virtualservices"),
    _custom("DestinationRule", "networking.istio.io", "v1", "destinationrules"),
    _custom("NodePool", "karpenter.sh", "v1", "nodepools", namespaced=False),
    _custom("NodeClaim", "karpenter.sh", "v1", "nodeclaims", namespaced=False),
    _custom("ProvisioningRequest", "autoscaling.x-k8s.io", "v1", "provisioningrequests"),
    _custom("VolumeSnapshot", "snapshot.storage.k8s.io", "v1", "volumesnapshots"),
    _custom("Bucket", "objectstorage.k8s.io", "v1alpha2", "buckets", namespaced=False),
    _custom("BucketClaim", "objectstorage.k8s.io", "v1alpha2", "bucketclaims"),
    _custom("BucketAccess", "objectstorage.k8s.io", "v1alpha2", "bucketaccesses"),
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
    """The kind that a person means by `deploy`, `deployments`, `Deployment`, or as kubectl prints it: `deployment.apps`,
    `deployments.v1.apps`; None when there is no such kind here."""
    name, _, qualifier = word.lower().partition(".")
    if name in ALIASES:
        found: Kind | None = BY_NAME[ALIASES[name]]
    else:
        found = next((kind for kind in BY_NAME.values() if name in (kind.name.lower(), kind.plural)), None)
    if found is None or not qualifier:
        return found
    groups = (found.group, *found.also)
    versions = (found.version, *found.earlier)
    return found if qualifier in {*groups, *(f"{version}.{group}" for version in versions for group in groups)} else None
