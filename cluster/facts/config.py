"""Configuration and permission objects. Secrets have no fact: no identity of ours reads them."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct, field

from cluster.facts.meta import Condition, Fact, LabelSelector
from cluster.quantity import Quantity, parse_quantity


class _Part(Struct, frozen=True, gc=False, rename="camel", kw_only=True):
    """The struct options that all parts share."""


class ConfigMap(Fact, frozen=True, kw_only=True):
    """Keys are facts; values are read only for addresses, sizes and switches, and pass redaction before anyone sees them."""

    kind: ClassVar[str] = "ConfigMap"
    data: dict[str, str] | None = None
    binary_data: dict[str, str] | None = None
    immutable: bool = False

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self.data or ()) | frozenset(self.binary_data or ())


class NamedRef(_Part, frozen=True, kw_only=True):
    name: str = ""


class ServiceAccount(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "ServiceAccount"
    image_pull_secrets: tuple[NamedRef, ...] | None = None
    automount_service_account_token: bool | None = None


class QuotaSpec(_Part, frozen=True, kw_only=True):
    hard: dict[str, Quantity] | None = None
    scopes: tuple[str, ...] | None = None
    scope_selector: Any = None


class QuotaStatus(_Part, frozen=True, kw_only=True):
    hard: dict[str, Quantity] | None = None
    used: dict[str, Quantity] | None = None


class ResourceQuota(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "ResourceQuota"
    spec: QuotaSpec = field(default_factory=QuotaSpec)
    status: QuotaStatus = field(default_factory=QuotaStatus)

    def hard(self, resource: str) -> float | None:
        return parse_quantity((self.spec.hard or self.status.hard or {}).get(resource))

    def used(self, resource: str) -> float | None:
        return parse_quantity((self.status.used or {}).get(resource))


class LimitRangeItem(_Part, frozen=True, kw_only=True):
    type: str = ""
    max: dict[str, Quantity] | None = None
    min: dict[str, Quantity] | None = None
    default: dict[str, Quantity] | None = None
    default_request: dict[str, Quantity] | None = None


class LimitRangeSpec(_Part, frozen=True, kw_only=True):
    limits: tuple[LimitRangeItem, ...] | None = None


class LimitRange(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "LimitRange"
    spec: LimitRangeSpec = field(default_factory=LimitRangeSpec)


class PriorityClass(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "PriorityClass"
    value: int = 0
    global_default: bool = False
    preemption_policy: str | None = None


class PolicyRule(_Part, frozen=True, kw_only=True):
    verbs: tuple[str, ...] = ()
    api_groups: tuple[str, ...] | None = None
    resources: tuple[str, ...] | None = None
    resource_names: tuple[str, ...] | None = None
    non_resource_urls: tuple[str, ...] | None = field(default=None, name="nonResourceURLs")


class Role(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "Role"
    rules: tuple[PolicyRule, ...] | None = None


class ClusterRole(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "ClusterRole"
    rules: tuple[PolicyRule, ...] | None = None


class RoleRef(_Part, frozen=True, kw_only=True):
    kind: str = ""
    name: str = ""


class Subject(_Part, frozen=True, kw_only=True):
    kind: str = ""
    name: str = ""
    namespace: str | None = None


class RoleBinding(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "RoleBinding"
    role_ref: RoleRef = field(default_factory=RoleRef)
    subjects: tuple[Subject, ...] | None = None


class ClusterRoleBinding(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "ClusterRoleBinding"
    role_ref: RoleRef = field(default_factory=RoleRef)
    subjects: tuple[Subject, ...] | None = None


class WebhookService(_Part, frozen=True, kw_only=True):
    name: str = ""
    namespace: str = ""
    port: int | None = None


class WebhookClientConfig(_Part, frozen=True, kw_only=True):
    service: WebhookService | None = None
    url: str | None = None
    ca_bundle: str | None = None


class Webhook(_Part, frozen=True, kw_only=True):
    name: str = ""
    client_config: WebhookClientConfig = field(default_factory=WebhookClientConfig)
    failure_policy: str = "Fail"
    timeout_seconds: int = 10
    namespace_selector: LabelSelector | None = None
    object_selector: LabelSelector | None = None
    rules: Any = None


class ValidatingWebhookConfiguration(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "ValidatingWebhookConfiguration"
    webhooks: tuple[Webhook, ...] | None = None


class MutatingWebhookConfiguration(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "MutatingWebhookConfiguration"
    webhooks: tuple[Webhook, ...] | None = None


class APIServiceReference(_Part, frozen=True, kw_only=True):
    name: str = ""
    namespace: str = ""


class APIServiceSpec(_Part, frozen=True, kw_only=True):
    service: APIServiceReference | None = None
    group: str = ""
    version: str = ""


class APIServiceStatus(_Part, frozen=True, kw_only=True):
    conditions: tuple[Condition, ...] | None = None


class APIService(Fact, frozen=True, kw_only=True):
    kind: ClassVar[str] = "APIService"
    spec: APIServiceSpec = field(default_factory=APIServiceSpec)
    status: APIServiceStatus = field(default_factory=APIServiceStatus)
