"""Settings: command line over environment over secret files over TOML file over defaults; read once, then frozen.

Only a service's top class is a :class:`ServiceSettings`; what is nested is a plain
:class:`~borgcore.settings.sections.Section`, because a nested
BaseSettings would read bare names such as ``CAPACITY`` from the environment.
"""

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, StringConstraints, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as SourceError

from borgcore.errors import SettingsError
from borgcore.settings.sections import EventsSettings, RedisSettings, SaslMechanism
from borgcore.settings.setting_errors import describe_error, describe_option, section_of
from borgcore.settings.sources import SecretFiles, TomlFile, Variables

_SHARED_PREFIX = "BORG_"

RunName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class SharedSettings(BaseSettings):
    """The one list of settings that every service shares: ``BORG_RUN``, ``BORG_REDIS_URL`` and so on."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_nested_delimiter="__",
        use_attribute_docstrings=True,
        nested_model_default_partial_update=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_exit_on_error=False,
    )

    config: Path | None = None
    """TOML file: shared settings at its top, those of a service in the table of its name."""
    secrets_dir: Path | None = None
    """Folder of secrets, /run/secrets say: its file borg_redis_password holds what BORG_REDIS_PASSWORD would."""
    run: RunName = "default"
    """Name of the run; agents of one run share one replay memory."""
    redis_url: str = Field("redis://127.0.0.1:6379", repr=False)
    """redis://host:port, rediss://host:port (TLS) or unix:///path/to.sock."""
    redis_password: SecretStr | None = None
    """Password of the Redis server; better by environment than on the command line."""
    redis_ca_file: Path | None = None
    """Certificate authority that signed the server's certificate, for rediss://."""
    redis_timeout_s: PositiveFloat = 5.0
    """Longest wait for one reply, seconds."""
    redis_outage_s: PositiveFloat = 20.0
    """How long a lost connection is tried again before the service ends, seconds."""
    events_url: str | None = Field(None, repr=False)
    """Event log: kafka://host:port[,host:port…], kafka+ssl:// (TLS), redis://, rediss:// or unix:// (Redis Streams);
    the run's Redis server where not given."""
    events_user: str | None = None
    """SASL user of Kafka."""
    events_password: SecretStr | None = None
    """Password of the event log; better by environment than on the command line."""
    events_sasl: SaslMechanism = "SCRAM-SHA-512"
    """SASL mechanism of Kafka, used where a user is given."""
    events_ca_file: Path | None = None
    """Certificate authority that signed the event log's certificate."""
    events_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,60}$")
    """Put before the names of Kafka's topics, where a Kafka is shared."""
    events_partitions: PositiveInt = 3
    """Partitions of a Kafka topic that is created because it is missing."""
    events_replication: PositiveInt = 1
    """Copies that Kafka keeps of such a topic."""
    events_stream_cap: PositiveInt = 200_000
    """Most entries of a Redis stream, 1,000 of dead_letter; older ones that nobody has read are trimmed, counted and
    said."""
    events_buffer: PositiveInt = 10_000
    """Events kept in memory while the log is away; beyond, the oldest are dropped, counted and said."""
    health_address: str | None = None
    """host:port on which /healthz, /readyz and /metrics are served; not served where not given, or empty."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log event that is written."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """auto: readable on a terminal, JSON lines elsewhere."""
    grace_s: PositiveFloat = 10.0
    """How long a stopping service may drain before it is cut off, seconds."""

    @property
    def redis(self) -> RedisSettings:
        """The connection, as one section."""
        return RedisSettings(
            url=self.redis_url,
            password=self.redis_password,
            ca_file=self.redis_ca_file,
            timeout_s=self.redis_timeout_s,
            outage_s=self.redis_outage_s,
        )

    @property
    def events(self) -> EventsSettings:
        """The event log, as one section; without a URL of its own it lives in the run's Redis server."""
        own = self.events_url is not None
        return EventsSettings(
            url=self.events_url if self.events_url is not None else self.redis_url,
            user=self.events_user,
            password=self.events_password if own else self.redis_password,
            sasl=self.events_sasl,
            ca_file=self.events_ca_file if own else self.redis_ca_file,
            timeout_s=self.redis_timeout_s,
            outage_s=self.redis_outage_s,
            prefix=self.events_prefix,
            partitions=self.events_partitions,
            replication=self.events_replication,
            stream_cap=self.events_stream_cap,
            buffer=self.events_buffer,
        )


class ServiceSettings(SharedSettings):
    """Base of a service's one settings class; ``service`` names its TOML table and its prefix ``BORG_<SERVICE>_``."""

    service: ClassVar[str]

    @classmethod
    def env_prefix(cls) -> str:
        """Prefix of the service's own names in the environment."""
        return f"{_SHARED_PREFIX}{cls.service.upper()}_"

    @classmethod
    def load(cls, arguments: Sequence[str]) -> Self:
        """Read the settings once; ``arguments`` is the command line without the program.

        Raises:
            SettingsError: a wrong value or an unknown name; one line says what was found and what is expected.
        """
        cls._refuse_unknown_names(os.environ)
        try:
            return cls(_cli_prog_name=f"borg-{cls.service}", _cli_parse_args=list(arguments))
        except ValidationError as error:
            raise SettingsError(describe_error(error.errors(include_url=False)[0], cls, cls.service)) from None
        except SourceError as error:
            raise SettingsError(describe_option(error, cls)) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # replaced by the two prefixed ones below
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # no .env files: compose passes the environment
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # knows neither sections nor a folder by setting
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the service's own variables over the shared ones, the environment over files, and secrets over TOML."""
        shared = SharedSettings.model_fields
        return (
            init_settings,
            Variables(settings_cls, cls.env_prefix()),
            Variables(settings_cls, _SHARED_PREFIX, only=shared),
            SecretFiles(settings_cls, {cls.env_prefix(): None, _SHARED_PREFIX: shared}, cls._refuse_unknown_names),
            TomlFile(settings_cls, cls.service, shared),
        )

    @classmethod
    def _refuse_unknown_names(cls, names: Iterable[str]) -> None:
        """Pydantic's ``extra=forbid`` does not see variables that match no field, so they are compared here."""
        shared = {f"{_SHARED_PREFIX}{field.upper()}" for field in SharedSettings.model_fields}
        own = {f"{cls.env_prefix()}{field.upper()}" for field in cls.model_fields}
        flat = {
            f"{cls.env_prefix()}{name.upper()}" for name, field in cls.model_fields.items() if not section_of(field)
        }
        for name in sorted(names):
            upper = name.upper()
            if upper.startswith(cls.env_prefix()):
                known, head = own, upper.split("__", 1)[0]
            elif upper.startswith(_SHARED_PREFIX):
                known, head = shared, upper
                anothers = upper.removeprefix(_SHARED_PREFIX).partition("_")[2].lower() in SharedSettings.model_fields
                if anothers or not difflib.get_close_matches(upper, shared, n=1, cutoff=0.8):
                    continue  # some other service's, or something else's
            else:
                continue
            if head in flat and head != upper:
                raise SettingsError(f"{name} is no setting; the nearest name is {head}; nothing was started")
            if head not in known:
                nearest = difflib.get_close_matches(head, known, n=1, cutoff=0.0)[0]
                raise SettingsError(f"{name} is no setting; the nearest name is {nearest}; nothing was started")
