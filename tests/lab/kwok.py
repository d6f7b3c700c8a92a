"""kwok's configuration out of `stages/`: what the played kubelets do.

Stage files are kwok's own format with two shorthands of ours, because a Stage can neither share an expression nor word an
event: `@include NAME` inside a string stands for the content of `stages/NAME`, and a step
`kubeletEvent: {type, reason, message, count, distinct}` stands for applying an Event as a kubelet writes it (`reason`, `message` and
`count` are templates; `distinct` tells apart two events of one reason). `@CONTAINER_LOGS@` is the folder of log files.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.yamltext import documents

INCLUDE = re.compile(r"@include ([\w.-]+)")
EVENT_TEMPLATE = """\
@include pod-prelude.gotpl
@include pod-words.gotpl
apiVersion: v1
kind: Event
metadata:
  name: {{ printf "%%s.%%s" .metadata.name (printf "%%s/%(key)s" $uid | sha256sum | trunc 16) }}
  namespace: {{ .metadata.namespace }}
involvedObject:
  apiVersion: v1
  kind: Pod
  name: {{ .metadata.name }}
  namespace: {{ .metadata.namespace }}
  uid: {{ $uid }}
  fieldPath: {{ printf "spec.containers{%%s}" $faulty | Quote }}
type: %(type)s
reason: %(reason)s
message: >-
  %(message)s
count: %(count)s
firstTimestamp: {{ or .status.startTime $now | Quote }}
lastTimestamp: {{ $now | Quote }}
source:
  component: kubelet
  host: {{ .spec.nodeName }}
reportingComponent: kubelet
reportingInstance: {{ .spec.nodeName }}
"""


def configuration(folder: Path, container_logs: Path) -> str:
    """The configuration file's text: every Stage of the folder, and a log file for pods that name none."""
    quiet = container_logs / "quiet.log"
    quiet.write_text("", "utf-8")
    parts: list[Any] = [
        {
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "ClusterLogs",
            "metadata": {"name": "quiet"},
            "spec": {"logs": [{"logsFile": str(quiet)}]},
        }
    ]
    for path in sorted(folder.glob("*.yaml")):
        stages = documents(path)
        parts.extend(_expanded(one, folder, str(container_logs), one["metadata"]["name"]) for one in stages)
    return "---\n".join(json.dumps(part, indent=1) + "\n" for part in parts)


def _expanded(node: Any, folder: Path, container_logs: str, key: str) -> Any:
    if isinstance(node, dict):
        if "kubeletEvent" in node:
            event = {"count": "1", **node["kubeletEvent"]}
            event["key"] = re.sub(r"[^\w/-]", "", f"{key}/{event['reason']}/{event.pop('distinct', '')}")
            return {"apply": {"template": _expanded(EVENT_TEMPLATE % event, folder, container_logs, key)}}
        return {name: _expanded(value, folder, container_logs, key) for name, value in node.items()}
    if isinstance(node, list):
        return [_expanded(value, folder, container_logs, key) for value in node]
    if isinstance(node, str):
        included = INCLUDE.sub(lambda found: (folder / found.group(1)).read_text("utf-8").strip(), node)
        return included.replace("@CONTAINER_LOGS@", container_logs)
    return node
