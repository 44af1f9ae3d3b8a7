import signal
from collections.abc import Callable

import anyio
import pytest
import structlog
from anyio import to_thread
from pydantic import SecretStr
from redis.asyncio import Redis

from borgcore.connection.client import open_redis
from borgcore.errors import ServerError
from borgcore.settings.sections import RedisSettings
from tests.limits import HANG_S

from .conftest import Breakable, fill
from .watch import watching


async def test_an_outage_is_said_once_and_sampling_goes_on_when_the_server_is_back(
    start_server: Callable[..., Breakable], run: str
) -> None:
    server = await to_thread.run_sync(lambda: start_server(appendonly="yes", appendfsync="always"))
    with anyio.fail_after(HANG_S), structlog.testing.capture_logs() as logs:
        async with watching(server.url, run) as watch:
            async with open_redis(RedisSettings(url=server.url)) as redis:
                await fill(redis, run)
            await watch.poll()
            assert watch.health.ready
            await server.stop()
            for _ in range(3):
                assert await watch.poll() == []
            assert not watch.health.ready
            assert watch.warned == [("server_lost", "onset")]
            await server.start()
            await watch.until(lambda watch: watch.health.ready)
            assert watch.warned == [("server_lost", "onset"), ("server_lost", "clear")]
            sample = (await watch.poll())[0]
    kinds = [log["event"] for log in logs if log["event"].startswith(("server_", "warning_"))]
    assert kinds == ["server_found", "warning_raised", "server_restarted", "warning_cleared"]
    assert watch.warnings()[0].text.startswith(f"Redis at {server.address} cannot be reached: ")
    assert (watch.warnings()[1].duration_s or 0) > 0
    assert sample.replay_transitions == 50


async def test_a_restart_gives_no_negative_rates_and_no_warning_of_its_own(
    start_server: Callable[..., Breakable], run: str
) -> None:
    server = await to_thread.run_sync(start_server)
    with anyio.fail_after(HANG_S):
        async with watching(server.url, run, stall_s=0.05) as watch:
            async with open_redis(RedisSettings(url=server.url)) as redis:
                await fill(redis, run)
                await watch.poll()
                await fill(redis, run)
                assert ((await watch.sample()).fcall_calls_per_s or 0) > 0
            await server.stop()
            await server.start()  # without its memory: nothing was saved
            await watch.until(lambda watch: watch.health.ready)
            samples = await watch.poll()
    rates = [value for name, value in samples[0].model_dump().items() if name.endswith("_per_s") and value is not None]
    assert [rate for rate in rates if rate < 0] == []
    assert samples[0].replay_transitions is None
    assert {kind for kind, _ in watch.warned} <= {"server_lost"}


async def test_a_server_that_is_absent_at_the_start_is_waited_for(
    start_server: Callable[..., Breakable], run: str
) -> None:
    server = await to_thread.run_sync(start_server)
    await server.stop()
    with anyio.fail_after(HANG_S):
        async with watching(server.url, run) as watch:
            for _ in range(3):
                assert await watch.poll() == []
            assert watch.warned == [("server_lost", "onset")]
            await server.start()
            await watch.until(lambda watch: watch.health.ready)
            assert watch.warned == [("server_lost", "onset"), ("server_lost", "clear")]


async def test_a_server_that_gives_no_answer_is_lost_after_the_timeout(server: Breakable, run: str) -> None:
    with anyio.fail_after(HANG_S):
        async with watching(server.url, run, redis_timeout_s=0.2) as watch:
            await watch.poll()
            server.signal(signal.SIGSTOP)
            try:
                assert await watch.poll() == []
            finally:
                server.signal(signal.SIGCONT)
            assert watch.warnings()[0].text.startswith(f"Redis at {server.address} gave no answer in time: ")
            await watch.until(lambda watch: watch.health.ready)


async def test_a_refusal_at_the_start_is_an_error_and_a_later_one_is_a_fault_that_a_person_mends(
    server: Breakable, redis: Redis, run: str, password: SecretStr
) -> None:
    word = password.get_secret_value()
    with anyio.fail_after(HANG_S):
        async with watching(server.url, run) as watch, watching(server.url, run, redis_password=password) as right:
            await watch.poll()
            await redis.config_set("requirepass", word)
            await redis.client_kill_filter(_type="normal", skipme=True)
            assert await watch.poll() == []
            reason = f"Redis at {server.address} asks for a password; set BORG_REDIS_PASSWORD"
            assert watch.health.faults == {server.address: reason}
            assert watch.warnings()[0].text == reason
            assert await right.poll()
            await redis.config_set("requirepass", "")
            assert await watch.poll()
            assert watch.health.faults == {}
            await redis.config_set("requirepass", word)
        for given, said in ((None, "asks for a password"), (SecretStr("wrong"), "refused the password")):
            async with watching(server.url, run, redis_password=given) as late:
                with pytest.raises(ServerError) as refused:
                    await late.poll()
            assert str(refused.value) == f"Redis at {server.address} {said}; set BORG_REDIS_PASSWORD"
        await redis.config_set("requirepass", "")
