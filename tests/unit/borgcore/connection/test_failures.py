import pytest
from redis.exceptions import AuthenticationError, BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from borgcore.connection.failures import is_outage, is_refusal, user_error
from borgcore.errors import MismatchError, ServerError


def test_the_first_error_of_ours_in_a_group_is_the_users() -> None:
    ours = MismatchError("another game")
    failure = ExceptionGroup("", [RedisTimeoutError("slow"), ExceptionGroup("", [ValueError("a bug"), ours])])
    assert user_error(failure, "host:1") is ours


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RedisConnectionError("refused"), "Redis at host:1 cannot be reached: refused"),
        (TimeoutError(), "Redis at host:1 gave no answer in time: TimeoutError"),
        (BusyLoadingError("LOADING"), "Redis at host:1 is still loading its data; try again once it has finished"),
        (ResponseError("ERR x"), "Redis at host:1 answered with an error: ERR x"),
    ],
)
def test_an_error_of_redis_becomes_one_line_that_names_the_server(error: Exception, text: str) -> None:
    found = user_error(ExceptionGroup("", [ValueError("a bug"), error]), "host:1")
    assert isinstance(found, ServerError)
    assert str(found) == text


@pytest.mark.parametrize("failure", [ValueError("a bug"), ExceptionGroup("", [KeyError("a"), OSError("b")])])
def test_a_bug_has_no_error_for_the_user(failure: Exception) -> None:
    assert user_error(failure, "host:1") is None


def test_a_refusal_behind_a_lost_connection_is_no_outage() -> None:
    lost = RedisConnectionError("closed")
    assert is_outage(lost)
    lost.__context__ = AuthenticationError("WRONGPASS invalid username-password pair")
    assert is_refusal(lost)
    assert not is_outage(lost)
    assert not is_outage(ResponseError("ERR x"))
