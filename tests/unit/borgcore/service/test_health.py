import socket
from collections.abc import Iterator

import anyio
import pytest
from aiohttp import ClientSession
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from borgcore.errors import SettingsError
from borgcore.service.health import open_health
from tests.limits import HANG_S


@pytest.fixture
def address(unused_port: int) -> str:
    return f"127.0.0.1:{unused_port}"


async def get(address: str, page: str) -> tuple[int, str]:
    with anyio.fail_after(HANG_S):
        async with ClientSession() as session, session.get(f"http://{address}/{page}") as answer:
            return answer.status, await answer.text()


async def test_a_service_is_alive_from_the_start_and_ready_when_it_says_so(address: str) -> None:
    async with open_health(address) as health:
        assert await get(address, "healthz") == (200, "ok\n")
        assert await get(address, "readyz") == (503, "service: not ready\n")
        health.ready = True
        assert await get(address, "readyz") == (200, "ok\n")
        health.ready = False
        assert await get(address, "readyz") == (503, "service: not ready\n")


async def test_a_fault_is_on_both_pages_until_it_is_fixed(address: str) -> None:
    async with open_health(address) as health:
        health.ready = True
        health.faults |= {"store": "the index is closed", "log": "no ACL"}
        for page in ("healthz", "readyz"):
            assert await get(address, page) == (503, "log: no ACL\nstore: the index is closed\n")
        health.faults.clear()
        for page in ("healthz", "readyz"):
            assert await get(address, page) == (200, "ok\n")


async def test_an_unavailable_need_makes_the_service_unready_but_not_unhealthy(address: str) -> None:
    outages: dict[str, str | None] = {"log": None, "store": None}
    async with open_health(address) as health:
        health.need("log", lambda: outages["log"])
        health.need("store", lambda: outages["store"])
        assert await get(address, "readyz") == (503, "service: not ready\n")
        health.ready = True
        assert await get(address, "readyz") == (200, "ok\n")
        outages["log"] = "it cannot be reached"
        assert await get(address, "readyz") == (503, "log: it cannot be reached\n")
        assert await get(address, "healthz") == (200, "ok\n")
        health.faults["store"] = "the index is closed"
        assert await get(address, "readyz") == (503, "log: it cannot be reached\nstore: the index is closed\n")
        outages["log"] = None
        health.faults.clear()
        assert await get(address, "readyz") == (200, "ok\n")


async def test_metrics_are_read_at_each_scrape_and_prometheus_can_parse_them(address: str) -> None:
    asked = 0

    def count() -> Iterator[Metric]:
        nonlocal asked
        asked += 1
        counter = CounterMetricFamily("borg_test_asked", "Scrapes.", labels=["group"])
        counter.add_metric(['a "group" of\nmine'], asked)
        yield counter

    async with open_health(address) as health:
        health.export(count)
        health.export(lambda: [GaugeMetricFamily("borg_test_level", "Level.", value=1.5)])
        assert asked == 0
        for scrape in (1, 2):
            status, text = await get(address, "metrics")
            assert status == 200
            samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
            assert [(sample.name, dict(sample.labels), sample.value) for sample in samples] == [
                ("borg_test_asked_total", {"group": 'a "group" of\nmine'}, float(scrape)),
                ("borg_test_level", {}, 1.5),
            ]


async def test_metrics_say_their_format(address: str) -> None:
    async with open_health(address), ClientSession() as session, session.get(f"http://{address}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        assert await answer.text() == ""


async def test_there_are_no_other_pages(address: str) -> None:
    async with open_health(address):
        assert (await get(address, ""))[0] == 404


async def test_without_an_address_nothing_listens_and_the_state_is_kept() -> None:
    async with open_health(None) as health:
        health.ready = True
        health.export(list)


async def test_the_port_is_free_again_after_the_block_also_after_an_error(address: str) -> None:
    async def serve() -> None:
        async with open_health(address):
            assert (await get(address, "healthz"))[0] == 200
            raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            await serve()


async def test_the_port_is_free_again_after_a_cancellation(address: str) -> None:
    with anyio.fail_after(HANG_S):
        async with anyio.create_task_group() as group:

            async def serve() -> None:
                async with open_health(address):
                    group.cancel_scope.cancel()
                    await anyio.sleep_forever()

            group.start_soon(serve)
        async with open_health(address):
            assert (await get(address, "healthz"))[0] == 200


async def test_an_address_in_use_is_reported_with_the_reason() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            SettingsError, match=f"^health_address: cannot listen on {address}: .*in use.*nothing was started"
        ):
            async with open_health(address):
                pass


async def test_a_host_that_is_not_local_is_reported() -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on a\.\.b:8080: .*; nothing was started$"):
        async with open_health("a..b:8080"):
            pass


@pytest.mark.parametrize("address", ["8080", ":8080", "host", "host:", "host:http", "host:-1", "host:65536", "host:²"])
async def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match=r"^health_address: found .*, expected host:port; nothing was started$"):
        async with open_health(address):
            pass


@pytest.mark.parametrize("address", [None, ""])
async def test_without_an_address_the_state_is_kept_and_nothing_is_served(address: str | None) -> None:
    async with open_health(address) as health:
        health.ready = True
        assert health.ready


async def test_an_address_of_ipv6_is_understood(unused_port: int) -> None:
    async with open_health(f"[::1]:{unused_port}"):
        assert await get(f"[::1]:{unused_port}", "healthz") == (200, "ok\n")
