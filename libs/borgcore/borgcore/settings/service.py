"""Settings: command line over environment over secret files over TOML file over defaults; read once, then frozen.

Logins alone are read again, see :mod:`borgcore.settings.reload`.

Only the top class of a service is a :class:`ServiceSettings`. Nested groups are plain
:class:`~borgcore.settings.sections.Section` classes, because a nested BaseSettings would read bare names such as
``CAPACITY`` from the environment.
"""

import difflib
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, cast

from pydantic import BaseModel, Field, PositiveFloat, PrivateAttr, StringConstraints, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as SourceError

from borgcore.errors import SettingsError
from borgcore.settings.reload import LoginSource, SettingsFiles
from borgcore.settings.sections import EventsSettings, RedisSettings, Section
from borgcore.settings.setting_errors import describe_error, describe_option, section_of
from borgcore.settings.sources import SecretFiles, TomlFile, Variables

SHARED_PREFIX = "BORG_"

ModelT = TypeVar("ModelT", bound=BaseModel)
RunName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def _settings_of(section: type[Section]) -> dict[str, FieldInfo]:
    return {name: info for name, info in section.model_fields.items() if name not in section.internal}


def _with_sections(**sections: type[Section]) -> Callable[[type[ModelT]], type[ModelT]]:
    """Add the fields of sections to a class as flat settings: ``redis_url`` for ``RedisSettings.url``.

    Settings that the class declares itself stay unchanged.
    """

    def extend(cls: type[ModelT]) -> type[ModelT]:
        flat: dict[str, Any] = {
            f"{prefix}_{name}": (info.annotation, info)
            for prefix, section in sections.items()
            for name, info in _settings_of(section).items()
            if f"{prefix}_{name}" not in cls.model_fields
        }
        return create_model(cls.__name__, __base__=cls, __module__=cls.__module__, __doc__=cls.__doc__, **flat)

    return extend


@_with_sections(redis=RedisSettings, events=EventsSettings)
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
    """TOML file: shared settings at the top level, those of a service in the table of its name."""
    secrets_dir: Path | None = None
    """Folder of secrets, for example /run/secrets; its file borg_redis_password replaces BORG_REDIS_PASSWORD."""
    run: RunName = "default"
    """Name of the run; agents of one run share one replay memory."""
    events_url: str | None = Field(None, repr=False)
    """Event log: kafka://host:port[,host:port…], kafka+ssl:// (TLS), redis://, rediss:// or unix:// (Redis Streams);
    the run's Redis server if not given."""
    health_address: str | None = None
    """host:port of /healthz, /readyz and /metrics; not served if empty or not given."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level of log events that are written."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """auto: readable on a terminal, JSON lines elsewhere."""
    grace_s: PositiveFloat = 10.0
    """How long a stopping service may drain before it is cut off, seconds."""

    _source: LoginSource | None = PrivateAttr(None)

    @property
    def redis(self) -> RedisSettings:
        """The connection to Redis, as one section."""
        section = RedisSettings(**self._flat("redis", RedisSettings))
        return section.bind(self._login_source(lambda settings: settings.redis))

    @property
    def events(self) -> EventsSettings:
        """The event log, as one section; without a URL of its own it lives in the run's Redis server."""
        redis, given = self.redis, self._flat("events", EventsSettings)
        if self.events_url is None:
            given |= {"url": redis.url, "user": redis.user, "password": redis.password, "ca_file": redis.ca_file}
        section = EventsSettings(**given, timeout_s=redis.timeout_s, outage_s=redis.outage_s)
        return section.bind(self._login_source(lambda settings: settings.events))

    def _login_source(self, select: Callable[[Any], Any]) -> LoginSource | None:
        return None if self._source is None else self._source.convert(select)

    def _flat(self, prefix: str, section: type[Section]) -> dict[str, Any]:
        return {name: getattr(self, f"{prefix}_{name}") for name in _settings_of(section)}


class ServiceSettings(SharedSettings):
    """Base of a service's one settings class; ``service`` names its TOML table and its prefix ``BORG_<SERVICE>_``."""

    service: ClassVar[str]

    @classmethod
    def env_prefix(cls) -> str:
        """Prefix of the service's own names in the environment."""
        return f"{SHARED_PREFIX}{cls.service.upper()}_"

    @classmethod
    def load(cls, arguments: Sequence[str]) -> Self:
        """Read the settings; ``arguments`` is the command line without the program.

        Raises:
            SettingsError: a value is wrong or a name unknown; the one-line text names what was found and expected.
        """
        found = cls._read(arguments)
        files = SettingsFiles(partial(cls._read, arguments), found, found.config, found.secrets_dir)
        if not files.exist:
            return found
        sections = {name: value for name in cls.model_fields if isinstance(value := getattr(found, name), Section)}
        settings = found.model_copy(
            update={name: section.bind(LoginSource(files, attrgetter(name))) for name, section in sections.items()}
        )
        settings._source = LoginSource(files, lambda newest: newest)  # noqa: SLF001  # our own class
        return settings

    async def read_again(self) -> Self:
        """Return these settings with what their files hold now; wrong files change nothing."""
        if self._source is None:
            return self
        await self._source.read_again()
        return cast("Self", self._source.newest)

    @classmethod
    def _read(cls, arguments: Sequence[str]) -> Self:
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
        """Order the sources: own variables over shared ones, environment over files, secrets over TOML."""
        shared = SharedSettings.model_fields
        return (
            init_settings,
            Variables(settings_cls, cls.env_prefix()),
            Variables(settings_cls, SHARED_PREFIX, only=shared),
            SecretFiles(settings_cls, {cls.env_prefix(): None, SHARED_PREFIX: shared}, cls._refuse_unknown_names),
            TomlFile(settings_cls, cls.service, shared),
        )

    @classmethod
    def _refuse_unknown_names(cls, names: Iterable[str]) -> None:
        """Pydantic's ``extra=forbid`` does not see variables that match no field, so they are compared here."""
        shared = {f"{SHARED_PREFIX}{field.upper()}" for field in SharedSettings.model_fields}
        own = {f"{cls.env_prefix()}{field.upper()}" for field in cls.model_fields}
        flat = {
            f"{cls.env_prefix()}{name.upper()}" for name, field in cls.model_fields.items() if not section_of(field)
        }
        for name in sorted(names):
            upper = name.upper()
            if upper.startswith(cls.env_prefix()):
                known, head = own, upper.split("__", 1)[0]
            elif upper.startswith(SHARED_PREFIX):
                known, head = shared, upper
                anothers = upper.removeprefix(SHARED_PREFIX).partition("_")[2].lower() in SharedSettings.model_fields
                if anothers or not difflib.get_close_matches(upper, shared, n=1, cutoff=0.8):
                    continue  # belongs to another service or program
            else:
                continue
            if head in flat and head != upper:
                raise SettingsError(f"{name} is no setting; the nearest name is {head}; nothing was started")
            if head not in known:
                nearest = difflib.get_close_matches(head, known, n=1, cutoff=0.0)[0]
                raise SettingsError(f"{name} is no setting; the nearest name is {nearest}; nothing was started")
