"""Postpones the validators of the protocol's messages: each is built when the first such message comes, not at the start.

The SDK knows every message of two revisions of the protocol, some 300 models. Pydantic builds a validator for each when its class is
made, a fifth of what importing the SDK takes; a client uses a dozen of one revision. `defer_build` is Pydantic's own switch for that
(docs.pydantic.dev, "Configuration"), which these models inherit from one base. It changes no message and no check.
"""

from __future__ import annotations


def postpone_validators() -> None:
    """To be called before anything imports `mcp`; what was imported before is built already."""
    # The SDK has no public way to it; its version is pinned to the minor release, and a test holds that it works.
    from mcp_types._wire_base import WireModel

    WireModel.model_config["defer_build"] = True
