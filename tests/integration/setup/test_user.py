"""The user for people, against a server that answers as it is told."""

from collections.abc import AsyncIterator

import orjson
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from borgcore.errors import ServerError
from borgsetup.server import Server, basic_login, open_server
from borgsetup.settings import SetupSettings
from borgsetup.user import keep_user
from tests.limits import HANG_S
from tests.sink import Answer, Sink

PASSWORD = SecretStr("of-people")
USER = {"username": "borg", "roles": ["editor"], "full_name": "Borg-DQN", "enabled": True}
DONE, REFUSED = Answer(body=b"{}"), Answer(401, b"{}")


@pytest.fixture
async def server(sink: Sink) -> AsyncIterator[Server]:
    settings = SetupSettings.model_validate(
        {"step": "store", "elastic_password": SecretStr("of-elastic"), "wait_s": HANG_S}
    )
    async with open_server("Elasticsearch", f"http://{sink.address}", settings) as opened:
        yield opened


def existing(**changes: object) -> Answer:
    return Answer(body=orjson.dumps({"borg": USER | changes}))


async def test_a_user_that_is_as_it_was_made_is_left_alone(sink: Sink, server: Server) -> None:
    sink.answers += [existing(), DONE]
    with capture_logs() as logs:
        await keep_user(server, PASSWORD)
    assert [(request.method, request.target) for request in sink.requests] == [
        ("GET", "/_security/user/borg"),
        ("GET", "/_security/_authenticate"),
    ]
    assert sink.requests[1].headers["Authorization"] == basic_login("borg", PASSWORD)
    assert logs == []


async def test_roles_and_name_that_an_operator_gave_are_kept_and_logged(sink: Sink, server: Server) -> None:
    sink.answers += [existing(roles=["viewer"], full_name="Ada"), DONE]
    with capture_logs() as logs:
        await keep_user(server, PASSWORD)
    assert {request.method for request in sink.requests} == {"GET"}
    (kept,) = logs
    assert (kept["event"], kept["log_level"]) == ("user_kept", "warning")
    assert kept["changes"] == ["roles: ['viewer'] in place of ['editor']", "full_name: Ada in place of Borg-DQN"]


async def test_a_disabled_user_stays_disabled_and_keeps_its_password(sink: Sink, server: Server) -> None:
    sink.answers += [existing(enabled=False)]
    with capture_logs() as logs:
        await keep_user(server, PASSWORD)
    assert len(sink.requests) == 1
    assert logs[0]["changes"] == ["enabled: False in place of True"]


async def test_only_the_password_is_set_where_it_is_not_that_of_the_keys(sink: Sink, server: Server) -> None:
    sink.answers += [existing(roles=["viewer"]), REFUSED, DONE]
    with capture_logs() as logs:
        await keep_user(server, PASSWORD)
    asked = sink.requests[-1]
    assert (asked.method, asked.target) == ("POST", "/_security/user/borg/_password")
    assert orjson.loads(asked.body) == {"password": "of-people"}
    assert [line["event"] for line in logs] == ["user_kept", "user_password_set"]


async def test_a_refusal_that_is_not_about_a_missing_user_is_an_error(sink: Sink, server: Server) -> None:
    sink.answers += [Answer(403, b"{}")]
    with pytest.raises(ServerError, match=r"refused us \(403\)"):
        await keep_user(server, PASSWORD)
