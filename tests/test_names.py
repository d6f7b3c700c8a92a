"""Our import names are common words, so nobody else may own them in our environment, and nothing machine-bound is committed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from oncall.installation import DISTRIBUTION, ROOMS, foreign_rooms

ROOT = Path(__file__).parent.parent


def test_no_dependency_owns_one_of_our_import_names() -> None:
    assert foreign_rooms() == {}


def test_every_room_is_shipped() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert DISTRIBUTION == "smokejumper"
    for room in ROOMS:
        assert f'"{room}"' in project.split("[tool.hatch.build.targets.wheel]")[1].split("]")[0]


def test_lock_files_name_no_host() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "--hash=sha256:" in text
        assert "://" not in text


def in_a_process(code: str) -> subprocess.CompletedProcess[str]:
    """What Python code says in an interpreter that has imported nothing yet."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from oncall.cli import run; run(['--help']); "
        "heavy = {'langgraph', 'kubernetes', 'mcp', 'sqlalchemy', 'openai', 'pydantic_settings', 'cedarpy'} & set(sys.modules); "
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)"
    )
    done = in_a_process(code)
    assert done.returncode == 0, done.stderr


def test_an_investigation_imports_no_server() -> None:
    code = (
        "import sys; import agent.investigation, oncall.assembly, oncall.commands.diagnosis; "
        "heavy = {'mcp', 'starlette', 'uvicorn', 'sqlalchemy', 'cedarpy', 'celpy'} & set(sys.modules); "
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)"
    )
    done = in_a_process(code)
    assert done.returncode == 0, done.stderr


def test_a_server_imports_neither_gate_nor_agent_nor_what_the_kubernetes_client_brings() -> None:
    code = (
        "import sys; import oncall.commands.server, oncall.ports, mcp_server.server, mcp_server.tools.catalogue, cluster.kube; "
        "heavy = {'sqlalchemy', 'cedarpy', 'celpy', 'langgraph', 'openai', 'requests', 'oauthlib', 'kubernetes.client.models.v1_pod'}; "
        "heavy |= {'agent', 'runbooks.detectors.registry'}; "
        "heavy &= set(sys.modules); "
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)"
    )
    done = in_a_process(code)
    assert done.returncode == 0, done.stderr


def test_the_kubernetes_client_is_whole_for_whoever_asks_for_it() -> None:
    code = (
        "import cluster.kube, kubernetes.aio.client, kubernetes.client, kubernetes; "
        "print(kubernetes.aio.client.V1Pod.__name__, kubernetes.client.CoreV1Api.__name__, kubernetes.watch.Watch.__name__)"
    )
    done = in_a_process(code)
    assert done.stdout.split() == ["V1Pod", "CoreV1Api", "Watch"], done.stderr
