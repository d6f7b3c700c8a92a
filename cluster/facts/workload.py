"""What creates pods: Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs, CronJobs and their revisions (apps/v1, batch/v1)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from msgspec import Struct, field

from cluster.facts.meta import Condition, Fact, LabelSelector, Metadata, condition
from cluster.facts.pod import PodSpec

REVISION_ANNOTATION = "deployment.kubernetes.io/revision"


class _Part(Struct, frozen=True, gc=False, rename="camel", kw_only=True):
    """The struct options that all parts of a workload share."""


class PodTemplate(_Part, frozen=True, kw_only=True):
    metadata: Metadata = field(default_factory=Metadata)
    spec: PodSpec = field(default_factory=PodSpec)


class RollingUpdate(_Part, frozen=True, kw_only=True):
    max_unavailable: int | str | None = None
    max_surge: int | str | None = None
    partition: int | None = None


class Strategy(_Part, frozen=True, kw_only=True):
    type: str | None = None
    rolling_update: RollingUpdate | None = None


class DeploymentSpec(_Part, frozen=True, kw_only=True):
    replicas: int = 1
    selector: LabelSelector = field(default_factory=LabelSelector)
    template: PodTemplate = field(default_factory=PodTemplate)
    strategy: Strategy = field(default_factory=Strategy)
    paused: bool = False
    min_ready_seconds: int = 0
    progress_deadline_seconds: int = 600
    revision_history_limit: int = 10


class DeploymentStatus(_Part, frozen=True, kw_only=True):
    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    conditions: tuple[Condition, ...] | None = None


class Deployment(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "Deployment"
    spec: DeploymentSpec = field(default_factory=DeploymentSpec)
    status: DeploymentStatus = field(default_factory=DeploymentStatus)

    @property
    def template(self) -> PodTemplate:
        return self.spec.template

    @property
    def revision(self) -> int | None:
        return revision_of(self.metadata)


class ReplicaSetSpec(_Part, frozen=True, kw_only=True):
    replicas: int = 1
    selector: LabelSelector = field(default_factory=LabelSelector)
    template: PodTemplate = field(default_factory=PodTemplate)


class ReplicaSetStatus(_Part, frozen=True, kw_only=True):
    replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    observed_generation: int = 0
    conditions: tuple[Condition, ...] | None = None


class ReplicaSet(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "ReplicaSet"
    spec: ReplicaSetSpec = field(default_factory=ReplicaSetSpec)
    status: ReplicaSetStatus = field(default_factory=ReplicaSetStatus)

    @property
    def template(self) -> PodTemplate:
        return self.spec.template

    @property
    def revision(self) -> int | None:
        return revision_of(self.metadata)


class VolumeClaimTemplateSpec(_Part, frozen=True, kw_only=True):
    storage_class_name: str | None = None
    access_modes: tuple[str, ...] | None = None
    resources: Any = None


class VolumeClaimTemplate(_Part, frozen=True, kw_only=True):
    metadata: Metadata = field(default_factory=Metadata)
    spec: VolumeClaimTemplateSpec = field(default_factory=VolumeClaimTemplateSpec)


class StatefulSetSpec(_Part, frozen=True, kw_only=True):
    replicas: int = 1
    service_name: str | None = None
    selector: LabelSelector = field(default_factory=LabelSelector)
    template: PodTemplate = field(default_factory=PodTemplate)
    update_strategy: Strategy = field(default_factory=Strategy)
    pod_management_policy: str | None = None
    volume_claim_templates: tuple[VolumeClaimTemplate, ...] | None = None


class StatefulSetStatus(_Part, frozen=True, kw_only=True):
    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    current_replicas: int = 0
    updated_replicas: int = 0
    available_replicas: int = 0
    current_revision: str | None = None
    update_revision: str | None = None
    conditions: tuple[Condition, ...] | None = None


class StatefulSet(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "StatefulSet"
    spec: StatefulSetSpec = field(default_factory=StatefulSetSpec)
    status: StatefulSetStatus = field(default_factory=StatefulSetStatus)

    @property
    def template(self) -> PodTemplate:
        return self.spec.template


class DaemonSetSpec(_Part, frozen=True, kw_only=True):
    selector: LabelSelector = field(default_factory=LabelSelector)
    template: PodTemplate = field(default_factory=PodTemplate)
    update_strategy: Strategy = field(default_factory=Strategy)


class DaemonSetStatus(_Part, frozen=True, kw_only=True):
    observed_generation: int = 0
    desired_number_scheduled: int = 0
    current_number_scheduled: int = 0
    number_ready: int = 0
    number_available: int = 0
    number_unavailable: int = 0
    number_misscheduled: int = 0
    updated_number_scheduled: int = 0
    conditions: tuple[Condition, ...] | None = None


class DaemonSet(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "DaemonSet"
    spec: DaemonSetSpec = field(default_factory=DaemonSetSpec)
    status: DaemonSetStatus = field(default_factory=DaemonSetStatus)

    @property
    def template(self) -> PodTemplate:
        return self.spec.template


class ControllerRevision(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "ControllerRevision"
    revision: int = 0
    data: Any = None


class JobSpec(_Part, frozen=True, kw_only=True):
    parallelism: int | None = None
    completions: int | None = None
    backoff_limit: int = 6
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None
    suspend: bool = False
    template: PodTemplate = field(default_factory=PodTemplate)
    selector: LabelSelector | None = None


class JobStatus(_Part, frozen=True, kw_only=True):
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    ready: int | None = None
    start_time: datetime | None = None
    completion_time: datetime | None = None
    conditions: tuple[Condition, ...] | None = None


class Job(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "Job"
    spec: JobSpec = field(default_factory=JobSpec)
    status: JobStatus = field(default_factory=JobStatus)

    @property
    def template(self) -> PodTemplate:
        return self.spec.template

    def condition(self, kind: str) -> Condition | None:
        return condition(self.status.conditions, kind)


class JobTemplate(_Part, frozen=True, kw_only=True):
    metadata: Metadata = field(default_factory=Metadata)
    spec: JobSpec = field(default_factory=JobSpec)


class CronJobSpec(_Part, frozen=True, kw_only=True):
    schedule: str = ""
    time_zone: str | None = None
    suspend: bool = False
    concurrency_policy: str | None = None
    starting_deadline_seconds: int | None = None
    successful_jobs_history_limit: int | None = None
    failed_jobs_history_limit: int | None = None
    job_template: JobTemplate = field(default_factory=JobTemplate)


class CronJobStatus(_Part, frozen=True, kw_only=True):
    last_schedule_time: datetime | None = None
    last_successful_time: datetime | None = None


class CronJob(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "CronJob"
    spec: CronJobSpec = field(default_factory=CronJobSpec)
    status: CronJobStatus = field(default_factory=CronJobStatus)

    @property
    def template(self) -> PodTemplate:
        return self.spec.job_template.spec.template


class ScaleTarget(_Part, frozen=True, kw_only=True):
    kind: str = ""
    name: str = ""
    api_version: str = ""


class HPASpec(_Part, frozen=True, kw_only=True):
    scale_target_ref: ScaleTarget = field(default_factory=ScaleTarget)
    min_replicas: int = 1
    max_replicas: int = 0
    metrics: Any = None
    target_cpu_utilization_percentage: int | None = field(default=None, name="targetCPUUtilizationPercentage")


class HPAStatus(_Part, frozen=True, kw_only=True):
    current_replicas: int = 0
    desired_replicas: int = 0
    conditions: tuple[Condition, ...] | None = None
    current_metrics: Any = None


class HorizontalPodAutoscaler(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "HorizontalPodAutoscaler"
    spec: HPASpec = field(default_factory=HPASpec)
    status: HPAStatus = field(default_factory=HPAStatus)


class PDBSpec(_Part, frozen=True, kw_only=True):
    selector: LabelSelector | None = None
    min_available: int | str | None = None
    max_unavailable: int | str | None = None


class PDBStatus(_Part, frozen=True, kw_only=True):
    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0
    conditions: tuple[Condition, ...] | None = None


class PodDisruptionBudget(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "PodDisruptionBudget"
    spec: PDBSpec = field(default_factory=PDBSpec)
    status: PDBStatus = field(default_factory=PDBStatus)


def revision_of(metadata: Metadata) -> int | None:
    """The Deployment revision that an object's annotation states."""
    text = (metadata.annotations or {}).get(REVISION_ANNOTATION, "")
    return int(text) if text.isdigit() else None


Workload = Deployment | ReplicaSet | StatefulSet | DaemonSet | Job | CronJob
