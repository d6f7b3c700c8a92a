from __future__ import annotations

import subprocess
import sys

CODE = """
from mcp_server.wire import postpone_validators

postpone_validators()
import mcp.server.mcpserver
import mcp_types._v2026_07_28 as wire
from mcp_types.methods import validate_client_request
from pydantic import BaseModel, ValidationError

models = [model for model in vars(wire).values() if isinstance(model, type) and issubclass(model, BaseModel)]
print(len(models) > 100, [model.__name__ for model in models if model.__pydantic_complete__])
try:
    validate_client_request("tools/call", "2025-11-25", {"name": 1})
except ValidationError:
    print("refused")
validate_client_request("tools/call", "2025-11-25", {"name": "pods_list"})
print("accepted")
"""


def test_no_message_is_prepared_before_it_comes_and_each_is_checked_when_it_does() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "['WireModel']", "refused", "accepted"], done.stderr
