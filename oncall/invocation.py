"""What the global flags of one command line say, and the settings that follow from them, loaded when first needed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oncall.settings import Settings

# Where a person's token is looked for; never an argument, which other users of the machine can read.
TOKEN_VARIABLE = "SMOKEJUMPER_TOKEN"  # noqa: S105 (the name of a variable)


@dataclass(frozen=True)
class Invocation:
    """Global flags; None means not given. `settings` raises SettingsError when the configuration is wrong."""

    config: Path | None = None
    state: Path | None = None
    kubeconfig: Path | None = None
    context: str | None = None
    log_level: str | None = None
    prometheus: str | None = None
    loki: str | None = None
    working_directory: Path = field(default_factory=Path.cwd)

    @property
    def flags(self) -> dict[str, Any]:
        return {
            "state_dir": self.state,
            "kubeconfig": self.kubeconfig,
            "context": self.context,
            "log_level": self.log_level,
            "prometheus": self.prometheus,
            "loki": self.loki,
        }

    @cached_property
    def file(self) -> Path | None:
        from oncall.settings import configuration_file

        return configuration_file(self.config, self.working_directory)

    @cached_property
    def settings(self) -> Settings:
        from oncall import telemetry
        from oncall.settings import load

        settings = load(self.flags, self.file)
        telemetry.configure(settings.log_level)
        return settings

    def with_context(self, context: str | None) -> Invocation:
        """The same with a command's own `--context`, which beats the global one."""
        return self if context is None else replace(self, context=context)

    def with_prometheus(self, url: str | None) -> Invocation:
        """The same with a command's own `--prometheus`."""
        return self if url is None else replace(self, prometheus=url)

    def with_loki(self, url: str | None) -> Invocation:
        """The same with a command's own `--loki`."""
        return self if url is None else replace(self, loki=url)
