from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.exceptions import AuthenticationError, OutOfMemoryError
from redis.exceptions import ConnectionError as RedisConnectionError

from borgcore.errors import EventLogError, ServerError, SettingsError
from borgcore.eventlog.streams.sender import open_stream_sender
from borgcore.eventlog.streams.server import log_error, redis_settings
from borgcore.settings.sections import EventsSettings


def test_the_server_of_the_log_has_the_logs_password_certificate_and_timeout() -> None:
    settings = EventsSettings(
        url="rediss://127.0.0.1:1", password=SecretStr("s3cret"), ca_file=Path("ca.pem"), timeout_s=7.0
    )
    server = redis_settings(settings)
    assert (server.url, server.password, server.ca_file, server.timeout_s) == (
        settings.url,
        settings.password,
        settings.ca_file,
        7.0,
    )
    assert server.outage_s < 0.01


@pytest.mark.parametrize("url", ["http://user:s3cret@host", "s3cret", "", "kafka://s3cret:1", "redis:s3cret"])
async def test_another_scheme_is_refused_naming_those_expected_and_nothing_of_the_url(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        async with open_stream_sender(EventsSettings(url=url), "test"):
            pass
    assert str(refused.value) == (
        "events url: its scheme is none of kafka://, kafka+ssl://, redis://, rediss:// and unix://; nothing was started"
    )


def test_a_wrong_address_is_refused_naming_the_logs_own_password() -> None:
    with pytest.raises(SettingsError) as refused:
        redis_settings(EventsSettings(url="redis://user:s3/cret@localhost"))
    assert str(refused.value).startswith("events url: the port is no number")
    assert "BORG_EVENTS_PASSWORD" in str(refused.value)
    assert "s3" not in str(refused.value)


async def test_a_missing_certificate_is_reported_when_the_sender_is_opened(tmp_path: Path) -> None:
    settings = EventsSettings(url="rediss://127.0.0.1:1", ca_file=tmp_path / "absent.pem")
    with pytest.raises(SettingsError, match=r"absent\.pem is no file"):
        async with open_stream_sender(settings, "test"):
            pass


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RedisConnectionError("refused"), "event log: Redis at a:1 cannot be reached: refused"),
        (TimeoutError(), "event log: Redis at a:1 gave no answer in time: TimeoutError"),
        (OutOfMemoryError("full."), "event log: Redis at a:1 is out of memory: full. Raise its maxmemory"),
        (ServerError("Redis at a:1 is old"), "event log: Redis at a:1 is old"),
        (AuthenticationError("wrong"), "event log: Redis at a:1 refused the password; set BORG_EVENTS_PASSWORD, or"),
    ],
)
def test_every_failure_is_one_line_that_names_the_server(error: Exception, text: str) -> None:
    found = log_error(error, "a:1")
    assert isinstance(found, EventLogError)
    assert str(found).startswith(text)
