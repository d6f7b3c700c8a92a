"""Which kinds a server serves, told by its one aggregated discovery document.

Absent groups (DRA on an old server, Gateway API where it was never installed) then cost nothing further. Pure: `cluster.kube`
fetches, this module decodes. Servers before 1.27 answer with the plain group list, from which only groups and versions are known.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from cluster.facts.event import CustomObject
from cluster.kinds import BY_NAME, Kind

ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
PATH = "/apis"


class ResponseKind(Struct, frozen=True):
    kind: str = ""


class Resource(Struct, frozen=True, rename="camel"):
    resource: str
    scope: str = "Namespaced"
    response_kind: ResponseKind | None = None
    singular_resource: str = ""
    short_names: tuple[str, ...] | None = None
    verbs: tuple[str, ...] | None = None


class Version(Struct, frozen=True):
    """One version of a group. `freshness` Stale: the aggregated server behind it did not answer, the list may be old or empty."""

    version: str
    resources: tuple[Resource, ...] | None = None
    freshness: str = "Current"


class GroupMetadata(Struct, frozen=True):
    name: str = ""


class Group(Struct, frozen=True):
    metadata: GroupMetadata = GroupMetadata()
    versions: tuple[Version, ...] | None = None
    name: str = ""


class _Document(Struct, frozen=True):
    kind: str = ""
    items: tuple[Group, ...] | None = None
    groups: tuple[Group, ...] | None = None


_DOCUMENT = msgspec.json.Decoder(_Document)


class Catalogue(Struct, frozen=True):
    """What is served. `groups` maps group to versions, preferred first; None as resources means "not known", see `served`.

    A catalogue of None groups is what a server that refused discovery leaves us with: then everything might be served.
    """

    groups: dict[str, tuple[Version, ...]] | None = None

    def served(self, kind: Kind) -> tuple[Kind, ...]:
        """The kind as this server serves it, once for each group it lives in; none where it is absent.

        Facts of a built-in kind know one version, and those that it calls `earlier`. Of a custom kind any is read: ours, else the server's
        own choice. What only a request can tell is answered as if it were served.
        """
        if not kind.group or self.groups is None:
            return (kind,)
        groups = ((group, self._version(kind, group)) for group in (kind.group, *kind.also))
        return tuple(
            msgspec.structs.replace(kind, group=group, version=version, also=(), earlier=()) for group, version in groups if version
        )

    def _version(self, kind: Kind, group: str) -> str | None:
        known = (self.groups or {}).get(group, ())
        wanted = (kind.version, *kind.earlier) if group == kind.group else ()
        ours = [item for version in wanted for item in known if item.version == version]
        others = [item for item in known if item not in ours] if kind.fact is CustomObject else []
        return next((item.version for item in (*ours, *others) if _may_have(item, kind.plural)), None)

    def other_versions(self, kind: Kind) -> tuple[str, ...]:
        """Versions of the kind's group other than those that we read, and that may have the kind."""
        read = {kind.version, *kind.earlier}
        known = (self.groups or {}).get(kind.group, ())
        return tuple(item.version for item in known if item.version not in read and _may_have(item, kind.plural))

    def find(self, word: str) -> Kind | None:
        """A kind that this server serves and that we have no facts for, by kind, plural, singular or short name (`pods.example.org`
        with its group works too). Its objects decode into `CustomObject`."""
        name, _, wanted_group = word.lower().partition(".")
        for group, versions in (self.groups or {}).items():
            if wanted_group and group != wanted_group:
                continue
            for version in versions[:1]:
                for item in version.resources or ():
                    kind = item.response_kind.kind if item.response_kind else ""
                    if (
                        name in {kind.lower(), item.resource, item.singular_resource, *(item.short_names or ())}
                        and "/" not in item.resource
                    ):
                        known = BY_NAME.get(kind)
                        if known is not None and known.group == group:
                            return known
                        return Kind(kind, group, version.version, item.resource, item.scope == "Namespaced", CustomObject)
        return None


def _may_have(version: Version, plural: str) -> bool:
    """Whether a version has a resource, as far as is known."""
    if version.resources is None or version.freshness == "Stale":
        return True
    return any(resource.resource == plural for resource in version.resources)


def decode_catalogue(body: bytes) -> Catalogue:
    """Either discovery format. Raises msgspec.DecodeError when it is neither."""
    document = _DOCUMENT.decode(body)
    groups = document.items if document.items is not None else document.groups
    return Catalogue({(group.metadata.name or group.name): group.versions or () for group in groups or ()})
