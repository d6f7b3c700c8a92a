"""What answers the API server on loopback, over TLS: admission webhooks, one of them with an expired certificate, and a metrics API.

The webhooks refuse pods whose image has no fixed tag. The metrics API says of every running pod that it uses a little. Scenarios name
them by `@loopback valid_url@`, `valid_authority`, `valid_port`, `expired_url`, `expired_authority` and
`closed_port`, where nobody listens.
"""

from __future__ import annotations

import base64
import datetime
import functools
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.lab.api import Object

# The pods of a namespace that a label selector matches.
Pods = Callable[[str, str], list[Object]]

DAY = datetime.timedelta(days=1)
# (not before, not after), relative to now
VALIDITY = {"valid": (-DAY, 7 * DAY), "expired": (-90 * DAY, -2 * DAY)}
METRICS = "metrics.k8s.io/v1beta1"
USAGE = {"cpu": "100m", "memory": "64Mi"}


class LoopbackServer:
    """Serves until `close`. `words` are what scenarios may say of it."""

    def __init__(self, folder: Path, pods: Pods) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.words: dict[str, str] = {}
        self._servers: list[ThreadingHTTPServer] = []
        # Bound and never listened on: whoever calls it is refused, and nobody else gets it.
        self._closed = socket.socket()
        self._closed.bind(("127.0.0.1", 0))
        self.words["closed_port"] = str(self._closed.getsockname()[1])
        now = datetime.datetime.now(datetime.UTC)
        for name, (first, last) in VALIDITY.items():
            certificate, key = _self_signed(folder, name, now + first, now + last)
            server = _Quiet(("127.0.0.1", 0), functools.partial(_Handler, pods))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            # Handshakes belong to the threads: one that fails must not stop the next.
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self._servers.append(server)
            self.words[f"{name}_port"] = str(server.server_address[1])
            self.words[f"{name}_url"] = f"https://127.0.0.1:{server.server_address[1]}/validate"
            self.words[f"{name}_authority"] = base64.b64encode(certificate.read_bytes()).decode()

    def close(self) -> None:
        """Stops listening; returns when nothing is served any more."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._closed.close()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that rejects our certificate hangs up in the handshake, which is what it is there for."""


class _Handler(BaseHTTPRequestHandler):
    """AdmissionReview (admission.k8s.io/v1) by POST, the metrics API (metrics.k8s.io/v1beta1) by GET."""

    def __init__(self, pods: Pods, *arguments: object) -> None:
        self._pods = pods
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(_review(review["request"]))

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        root = f"/apis/{METRICS}"
        if address.path == root:
            resource = {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]}
            self._answer({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": METRICS, "resources": [resource]})
        elif address.path.startswith(f"{root}/namespaces/") and address.path.endswith("/pods"):
            namespace = address.path.removeprefix(f"{root}/namespaces/").removesuffix("/pods")
            pods = self._pods(namespace, parse_qs(address.query).get("labelSelector", [""])[0])
            self._answer({"kind": "PodMetricsList", "apiVersion": METRICS, "metadata": {}, "items": [_metrics(pod) for pod in pods]})
        else:
            self.send_error(404)

    def _answer(self, document: Object) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is http.server's)
        """The API server's messages are what tells."""


def _review(request: Object) -> Object:
    images = [one["image"] for one in request["object"]["spec"]["containers"]]
    floating = [image for image in images if ":" not in image.rpartition("/")[2] or image.endswith(":latest")]
    response: Object = {"uid": request["uid"], "allowed": not floating}
    if floating:
        response["status"] = {"code": 403, "message": f"image {floating[0]} has no fixed tag; name a version"}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


def _metrics(pod: Object) -> Object:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    containers = [{"name": one["name"], "usage": USAGE} for one in pod["spec"]["containers"]]
    metadata = {key: pod["metadata"].get(key) for key in ("name", "namespace", "labels")}
    return {"metadata": metadata, "timestamp": now, "window": "1s", "containers": containers}


def _self_signed(folder: Path, name: str, first: datetime.datetime, last: datetime.datetime) -> tuple[Path, Path]:
    """PEM files of a certificate for the loopback address that is its own authority, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback.lab")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(first)
        .not_valid_after(last)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    written, secret = folder / f"{name}.crt", folder / f"{name}.key"
    secret.touch(mode=0o600)
    written.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    )
    return written, secret
