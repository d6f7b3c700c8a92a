"""Small recordings on disk and a gate in a file, for tests that go through the real reader, the real tools and the real graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from agent.remediation import Argument, Execution, ProposalView, Remediation
from cluster.recorded import RecordedReader
from runbooks.candidate import Candidate
from tests.yamltext import documents

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)


def recording(folder: Path, objects: str, logs: Mapping[str, str] | None = None) -> Path:
    """A recording of the YAML documents in `objects`; `logs` by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    items = documents(objects)
    (folder / "objects.yaml").write_text(yaml.safe_dump({"kind": "List", "apiVersion": "v1", "items": items}), encoding="utf-8")
    for name, text in (logs or {}).items():
        (folder / "logs").mkdir(exist_ok=True)
        (folder / "logs" / name).write_text(text, encoding="utf-8")
    return folder


def reader(folder: Path) -> RecordedReader:
    return RecordedReader.open(folder, NOW)


BROKEN_ROLLOUT = """
kind: Namespace
apiVersion: v1
metadata: {name: ml}
---
kind: Deployment
apiVersion: apps/v1
metadata: {name: serve, namespace: ml, uid: d1, generation: 7, annotations: {deployment.kubernetes.io/revision: "7"}}
spec:
  replicas: 2
  selector: {matchLabels: {app: serve}}
  template:
    metadata: {labels: {app: serve}}
    spec: {containers: [{name: main, image: "registry.example/serve:v2.1-typo"}]}
status: {replicas: 2, updatedReplicas: 1, readyReplicas: 1, availableReplicas: 1, unavailableReplicas: 1, observedGeneration: 7}
---
kind: ReplicaSet
apiVersion: apps/v1
metadata:
  name: serve-aaaaaaaaaa
  namespace: ml
  uid: r6
  creationTimestamp: "2026-01-10T10:00:00Z"
  annotations: {deployment.kubernetes.io/revision: "6"}
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: serve, uid: d1, controller: true}]
spec:
  replicas: 1
  template:
    metadata: {labels: {app: serve}}
    spec: {containers: [{name: main, image: "registry.example/serve:v2.0"}]}
status: {replicas: 1, readyReplicas: 1, availableReplicas: 1}
---
kind: ReplicaSet
apiVersion: apps/v1
metadata:
  name: serve-bbbbbbbbbb
  namespace: ml
  uid: r7
  creationTimestamp: "2026-01-15T11:30:00Z"
  annotations: {deployment.kubernetes.io/revision: "7"}
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: serve, uid: d1, controller: true}]
spec:
  replicas: 1
  template:
    metadata: {labels: {app: serve}}
    spec: {containers: [{name: main, image: "registry.example/serve:v2.1-typo"}]}
status: {replicas: 1}
---
kind: Pod
apiVersion: v1
metadata:
  name: serve-aaaaaaaaaa-xxxxx
  namespace: ml
  uid: p1
  creationTimestamp: "2026-01-10T10:00:00Z"
  labels: {app: serve, pod-template-hash: aaaaaaaaaa}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: serve-aaaaaaaaaa, uid: r6, controller: true}]
spec: {nodeName: n1, containers: [{name: main, image: "registry.example/serve:v2.0"}]}
status:
  phase: Running
  conditions: [{type: Ready, status: "True"}]
  containerStatuses: [{name: main, ready: true, started: true, restartCount: 0, state: {running: {startedAt: "2026-01-10T10:00:05Z"}}}]
---
kind: Pod
apiVersion: v1
metadata:
  name: serve-bbbbbbbbbb-yyyyy
  namespace: ml
  uid: p2
  creationTimestamp: "2026-01-15T11:30:00Z"
  labels: {app: serve, pod-template-hash: bbbbbbbbbb}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: serve-bbbbbbbbbb, uid: r7, controller: true}]
spec: {nodeName: n1, containers: [{name: main, image: "registry.example/serve:v2.1-typo"}]}
status:
  phase: Pending
  startTime: "2026-01-15T11:30:00Z"
  conditions: [{type: PodScheduled, status: "True"}, {type: Ready, status: "False"}]
  containerStatuses:
    - name: main
      ready: false
      restartCount: 0
      state: {waiting: {reason: ImagePullBackOff, message: "Back-off pulling image \\"registry.example/serve:v2.1-typo\\""}}
---
kind: Event
apiVersion: v1
metadata: {name: e1, namespace: ml}
involvedObject: {kind: Pod, namespace: ml, name: serve-bbbbbbbbbb-yyyyy, uid: p2}
type: Warning
reason: Failed
message: 'Failed to pull image "registry.example/serve:v2.1-typo": rpc error: code = NotFound desc = manifest unknown: not found'
count: 6
firstTimestamp: "2026-01-15T11:30:05Z"
lastTimestamp: "2026-01-15T11:58:00Z"
"""

HEALTHY = """
kind: Pod
apiVersion: v1
metadata: {name: quiet, namespace: ml, uid: p9, creationTimestamp: "2026-01-10T10:00:00Z"}
spec: {nodeName: n1, containers: [{name: main, image: "registry.example/quiet:v1"}]}
status:
  phase: Running
  conditions: [{type: Ready, status: "True"}]
  containerStatuses: [{name: main, ready: true, started: true, restartCount: 0, state: {running: {startedAt: "2026-01-10T10:00:05Z"}}}]
"""

CRASH = """
kind: Deployment
apiVersion: apps/v1
metadata: {name: worker, namespace: ml, uid: d2}
spec:
  replicas: 1
  selector: {matchLabels: {app: worker}}
  template: {metadata: {labels: {app: worker}}, spec: {containers: [{name: main, image: "registry.example/worker:v1"}]}}
status: {replicas: 1, updatedReplicas: 1, unavailableReplicas: 1}
---
kind: ReplicaSet
apiVersion: apps/v1
metadata:
  name: worker-cccccccccc
  namespace: ml
  uid: r2
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: worker, uid: d2, controller: true}]
spec: {replicas: 1}
---
kind: Pod
apiVersion: v1
metadata:
  name: worker-cccccccccc-zzzzz
  namespace: ml
  uid: p3
  creationTimestamp: "2026-01-15T10:00:00Z"
  labels: {app: worker}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: worker-cccccccccc, uid: r2, controller: true}]
spec: {nodeName: n1, containers: [{name: main, image: "registry.example/worker:v1"}]}
status:
  phase: Running
  conditions: [{type: Ready, status: "False"}]
  containerStatuses:
    - name: main
      ready: false
      restartCount: 9
      state: {waiting: {reason: CrashLoopBackOff, message: back-off 5m0s restarting failed container}}
      lastState:
        terminated: {exitCode: 1, reason: Error, startedAt: "2026-01-15T11:55:00Z", finishedAt: "2026-01-15T11:55:01Z"}
"""


class FileGate:
    """A gate whose word is a file, so that it outlives a killed process. It executes a proposal once, as the real one does."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def ports(self) -> Remediation:
        return Remediation(self.propose, self.status, self.execute)

    @property
    def document(self) -> dict[str, Any]:
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else "{}"
        document: dict[str, Any] = json.loads(text)
        return document

    @property
    def effects(self) -> int:
        """How often the cluster was changed."""
        return sum(item["effects"] for item in self.document.values())

    def decide(self, state: str) -> None:
        document = self.document
        for item in document.values():
            item["state"] = state
        self._write(document)

    async def propose(self, candidate: Candidate, incident: str, argument: Argument) -> ProposalView:
        document = self.document
        summary = f"{candidate.action} {candidate.target}"
        rests = {"evidence": argument.evidence, "prompts": list(argument.prompts)}
        document.setdefault(incident, {"state": "pending", "summary": summary, "effects": 0, "action": candidate.document, **rests})
        self._write(document)
        return self._view(incident)

    async def status(self, proposal: str) -> ProposalView:
        return self._view(proposal)

    async def execute(self, proposal: str, digest: str) -> Execution:
        document = self.document
        item = document[proposal]
        if digest != f"digest-of-{proposal}":
            return Execution(proposal, "refused", "another digest was approved")
        if item["state"] == "approved":
            item["effects"] += 1
            item["state"] = "succeeded"
            self._write(document)
        return Execution(proposal, item["state"], "as the gate has it")

    def _view(self, proposal: str) -> ProposalView:
        item = self.document[proposal]
        return ProposalView(proposal, f"digest-of-{proposal}", item["state"], item["summary"])

    def _write(self, document: dict[str, Any]) -> None:
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(document), encoding="utf-8")
        partial.replace(self._path)
