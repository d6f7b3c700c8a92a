"""One tree of settings: flags over environment over `smokejumper.toml` over defaults, and where each value came from.

It reads files and the environment, nothing else; it opens no store and no cluster.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource
from pydantic_settings import SettingsError as PydanticSettingsError

from guardrails.estate import Estate
from guardrails.redact import present
from mcp_server.groups import DEFAULT_GROUPS, Group
from oncall.errors import SettingsError

FILE_NAME = "smokejumper.toml"
ENVIRONMENT_PREFIX = "SMOKEJUMPER_"
MASK = "********"
VALUE_LIMIT = 2_000


class DatabaseUrl(SecretStr):
    """The address of a database, which may hold a password: shown are role, host and database."""

    def _display(self) -> str:
        url = urlsplit(self.get_secret_value())
        role, host = url.username or "", url.netloc.rpartition("@")[2]
        return f"{url.scheme}://{role}{':' + MASK if url.password else ''}@{host}{url.path}"


class ModelSettings(BaseModel):
    """Any OpenAI-compatible endpoint. Without `name` no model is used, and nothing is missing but prose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str | None = None
    name: str | None = None
    api_key: SecretStr | None = None
    timeout_seconds: float = Field(default=60, gt=0)


class BudgetSettings(BaseModel):
    """What one investigation may spend."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    probes: int = Field(default=600, ge=1)
    seconds: float = Field(default=120, gt=0)


class HttpSettings(BaseModel):
    """The MCP server over HTTP. `url` is its address as clients know it; `allowed_hosts` come beside that address's own host."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()


class OidcSettings(BaseModel):
    """Whose access tokens the HTTP server accepts. Prefixes and claims as the API servers' own `--oidc-*` flags have them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str | None = None
    keys_url: str | None = Field(default=None, description="default: what the issuer's metadata say")
    audience: str | None = Field(default=None, description="default: http.url")
    username_claim: str = "sub"
    username_prefix: str = "oidc:"
    groups_claim: str = "groups"
    groups_prefix: str = "oidc:"
    reads_as: Literal["caller", "account"] = "caller"


class MonitoringSettings(BaseModel):
    """How monitoring is asked. `tenant` is the header X-Scope-OrgID."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bearer_token: SecretStr | None = None
    ca_file: Path | None = None
    tenant: str | None = None
    timeout_seconds: float = Field(default=10, gt=0, le=20)


class McpSettings(BaseModel):
    """What the MCP server offers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    groups: tuple[Group, ...] | None = Field(default=None, description=f"of tools; default: {', '.join(DEFAULT_GROUPS)}")
    confirmation: Literal["declared", "required"] = Field(
        default="declared", description="whose users are asked before an execution: of clients that can ask, or nobody else may execute"
    )
    state_keys: SecretStr | None = Field(
        default=None, description="what replicas seal questions with: words of 32 characters or more, the first seals, all open"
    )
    state_keys_file: Path | None = Field(default=None, description="a file that holds them instead")


class PriceSettings(BaseModel):
    """What a device costs an hour, by a shell pattern of its product or resource; the first that matches counts. None is built in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    currency: str = "USD"
    per_device_hour: dict[str, Annotated[float, Field(ge=0)]] = {}


class Settings(BaseSettings):
    """All settings. A clear error, never a guess, for a key that does not exist."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=False
    )

    state_dir: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("smokejumper")))
    kubeconfig: Path | None = None
    context: str | None = None
    read_configmaps: bool = True
    request_timeout_seconds: float = Field(default=15, gt=0)
    policy_bundle: Path | None = None
    database_url: DatabaseUrl | None = Field(default=None, description="postgresql+asyncpg://ROLE@HOST/DATABASE; default: a file")
    database_owner_url: DatabaseUrl | None = Field(default=None, description="the same as the owner of the tables, for database migrate")
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    executor_context: str | None = Field(default=None, description="context of the account that writes; default: the one that reads")
    dry_run_context: str | None = Field(default=None, description="context of the account that only tries; default: the one that writes")
    ledger_key: SecretStr | None = Field(default=None, description="the ledger's private key; default: a file in the state folder")
    estate: Estate = Estate()
    prometheus: str | None = Field(default=None, description="address of the Prometheus that watches the cluster")
    alertmanager: str | None = Field(default=None, description="address of the Alertmanager that hears of the cluster")
    loki: str | None = Field(default=None, description="address of the Loki that keeps the cluster's logs")
    monitoring: MonitoringSettings = MonitoringSettings()
    model: ModelSettings = ModelSettings()
    prices: PriceSettings = PriceSettings()
    mcp: McpSettings = McpSettings()
    http: HttpSettings = HttpSettings()
    oidc: OidcSettings = OidcSettings()
    budget: BudgetSettings = BudgetSettings()

    @property
    def database(self) -> Path | str:
        """Where proposals and ledger are: a file of the state folder, or the URL of a server."""
        # Imported here: it brings the SQL engine along.
        from guardrails.office import DATABASE

        return self.state_dir / DATABASE if self.database_url is None else self.database_url.get_secret_value()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags and the file both arrive through `load`; a .env file in some working directory decides nothing."""
        return (init_settings, env_settings)


class Origin(BaseModel):
    """One setting as `config show` prints it."""

    path: str
    value: str
    source: str


def configuration_file(explicit: Path | None, working_directory: Path) -> Path | None:
    """`--config`, else `smokejumper.toml` here, else the one in the user's configuration folder; None when there is none."""
    if explicit is not None:
        if not explicit.is_file():
            raise SettingsError(f"there is no configuration file {explicit}. Give the path of a {FILE_NAME}, or leave --config out.")
        return explicit
    candidates = (working_directory / FILE_NAME, Path(platformdirs.user_config_dir("smokejumper")) / FILE_NAME)
    return next((path for path in candidates if path.is_file()), None)


def load(flags: dict[str, Any], file: Path | None) -> Settings:
    """Settings from flags (None values count as not given), the environment, the file and defaults."""
    try:
        return Settings(**_overlay(_from_file(file), _overlay(_from_environment(), _given(flags))))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "configuration"
        said = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            said = "there is no such setting; 'smokejumper config show' without it lists all"
        raise SettingsError(f"{where}: {said} (in flags, {ENVIRONMENT_PREFIX}* or {file or FILE_NAME}).") from error


def origins(settings: Settings, flags: dict[str, Any], file: Path | None) -> tuple[Origin, ...]:
    """Every setting with its value (secrets masked) and where it came from."""
    layers = (
        ("flag", _flat(_given(flags))),
        ("environment", _flat(_from_environment())),
        (str(file), _flat(_from_file(file))),
    )
    rows = []
    for path, value in _flat(settings.model_dump()).items():
        source = next((name for name, layer in layers if path in layer), "default")
        # An address may carry a password.
        secret = isinstance(value, SecretStr) and not isinstance(value, DatabaseUrl)
        shown = MASK if secret else present(_toml(value), VALUE_LIMIT)
        rows.append(Origin(path=path, value=shown, source=source))
    return tuple(rows)


def _toml(value: Any) -> str:
    """A value as the file would have it; TOML has no word for what is not set."""
    if value is None:
        return "(not set)"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return json.dumps(str(value), ensure_ascii=False)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flags.items() if value is not None}


def _from_environment() -> dict[str, Any]:
    try:
        return EnvSettingsSource(Settings)()
    except PydanticSettingsError as error:
        # It names the field and not the value, which may be a secret.
        raise SettingsError(f"{error}: a group of settings is JSON there. Set {ENVIRONMENT_PREFIX}GROUP__NAME instead.") from error


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return TomlConfigSettingsSource(Settings, toml_file=file)()
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read {file}: {error}. Correct the file or point --config at another.") from error


def _overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _overlay(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
