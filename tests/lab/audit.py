"""The API server's audit log: the witness for what was written, and for nothing having been written."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.api import wait_for

WRITING_VERBS = frozenset({"create", "update", "patch", "delete", "deletecollection"})
# Reviews are requests with the verb create that store nothing.
REVIEW_GROUPS = frozenset({"authorization.k8s.io", "authentication.k8s.io"})
# The control plane's own identities, and those that the lab uses to set a scene.
MACHINERY = ("system:", "lab:")
FENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Write:
    """One writing request. `code` is None while the server has not answered; `dry_run` requests stored nothing.

    `agent` is the User-Agent, which tells the product from the tests' own hands; `body` is what was sent, of those whose requests the
    audit policy keeps.
    """

    user: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str | None
    name: str | None
    code: int | None
    dry_run: bool
    uri: str
    impersonated: str | None
    at: str
    agent: str = ""
    audit_id: str = ""
    body: Mapping[str, Any] | None = None


class AuditLog:
    """Reads the log file. `knock` sends a harmless request with a given path, so that reading can wait for the log to catch up."""

    def __init__(self, path: Path, knock: Callable[[str], None]) -> None:
        self._path = path
        self._knock = knock

    def mark(self) -> int:
        """A position: pass it as `since` to see only what came after."""
        self._catch_up()
        return self._path.stat().st_size

    def writes(self, user: str | None = None, since: int = 0, *, dry_runs: bool = False, machinery: bool = False) -> tuple[Write, ...]:
        """Writing requests, oldest first, refused ones included (`code` tells): those of `user`, or of everybody but the lab's own
        `machinery`. A request counts from the moment the server received it. Dry runs only when asked for; reviews never."""
        self._catch_up()
        found: dict[str, Write] = {}
        with self._path.open("rb") as log:
            log.seek(since)
            for line in log:
                if not line.endswith(b"\n"):
                    break  # somebody's line that is being written; ours are before it
                record = json.loads(line)
                write = _write(record)
                if write is None or (write.dry_run and not dry_runs):
                    continue
                if (write.user != user) if user else (not machinery and write.user.startswith(MACHINERY)):
                    continue
                found[record["auditID"]] = write  # the later stage of a request replaces the earlier
        return tuple(found.values())

    def _catch_up(self) -> None:
        """Wait until a request sent now is in the log: earlier answered requests then are, too."""
        token = f"/healthz?fence={uuid.uuid4().hex}"
        start = self._path.stat().st_size if self._path.exists() else 0
        self._knock(token)

        def arrived() -> bool:
            with self._path.open("rb") as log:
                log.seek(start)
                return token.encode() in log.read()

        wait_for("the audit log to catch up", arrived, FENCE_SECONDS)


def _write(record: dict[str, object]) -> Write | None:
    reference = record.get("objectRef")
    if record["verb"] not in WRITING_VERBS or not isinstance(reference, dict) or reference.get("apiGroup") in REVIEW_GROUPS:
        return None
    user, status, impersonated = record["user"], record.get("responseStatus"), record.get("impersonatedUser")
    assert isinstance(user, dict)
    uri = str(record["requestURI"])
    return Write(
        user=user["username"],
        verb=str(record["verb"]),
        group=reference.get("apiGroup", ""),
        resource=reference.get("resource", ""),
        subresource=reference.get("subresource", ""),
        namespace=reference.get("namespace"),
        name=reference.get("name"),
        code=status.get("code") if isinstance(status, dict) else None,
        dry_run="dryRun=All" in uri,
        uri=uri,
        impersonated=impersonated.get("username") if isinstance(impersonated, dict) else None,
        at=str(record["requestReceivedTimestamp"]),
        agent=str(record.get("userAgent", "")),
        audit_id=str(record["auditID"]),
        body=body if isinstance(body := record.get("requestObject"), dict) else None,
    )
