"""The monitor: polls every server at a fixed period, publishes samples and warnings."""

from collections.abc import Callable, Iterable, Mapping

import anyio
import structlog
from anyio import CancelScope, to_thread
from prometheus_client.core import Metric
from redis.exceptions import RedisError

from borgcore.connection.failures import is_outage, is_refusal, server_error
from borgcore.eventlog.metrics import publisher_metrics
from borgcore.eventlog.publisher import open_publisher
from borgcore.events.monitoring import MemorySampled
from borgcore.events.schema import Event
from borgcore.service.health import Health, open_health
from borgcore.service.ticker import Ticker
from borgmonitor.conditions import Condition, InsertWatch, conditions_of
from borgmonitor.metrics import sample_metrics
from borgmonitor.nodes import Nodes, Reply, check_settings
from borgmonitor.sample import sample_of
from borgmonitor.settings import MonitorSettings
from borgmonitor.warnings import Warnings

_log = structlog.get_logger()


async def serve(settings: MonitorSettings, intake: CancelScope) -> None:
    """Sample until ``intake`` is cancelled, then send what is still unsent. Waits for servers that are unavailable.

    Raises:
        SettingsError: a setting is wrong.
        ServerError: a server refuses us at the start.
    """
    await to_thread.run_sync(check_settings, settings.redis)  # reads a file
    async with (
        open_health(settings.health_address) as health,
        open_publisher(settings.events, settings.run, settings.service) as events,
    ):
        monitor = Monitor(settings, events.publish, health)
        health.export(monitor.metrics)
        health.export(lambda: publisher_metrics(events))
        nodes = Nodes(settings.redis, settings.run)
        ticker = Ticker(settings.poll_period_s)
        try:
            with intake:
                while True:
                    monitor.take(await nodes.poll(), ticker.missed)
                    await ticker.wait()
        finally:
            await nodes.close()


class Monitor:
    """Turns the replies to each poll into events; keeps the state between polls."""

    def __init__(self, settings: MonitorSettings, publish: Callable[[Event], None], health: Health) -> None:
        """Start without samples."""
        self._run = settings.run
        self._publish = publish
        self._health = health
        self._warnings = Warnings(publish, settings.clear_s)
        self._inserts = InsertWatch(settings.stall_s)
        self._met = False  # a server has answered
        self._replies = dict[str, Reply]()
        self._samples = dict[str, MemorySampled]()

    def metrics(self) -> Iterable[Metric]:
        """Return the metrics of the newest poll."""
        return sample_metrics(self._run, self._samples.values(), self._warnings.active)

    def take(self, answers: Mapping[str, Reply | RedisError], polls_missed: int) -> None:
        """Publish a sample for each server that answered, and warnings that began or ended.

        Raises:
            ServerError: a server refuses us, and none has answered yet.
        """
        now_s = anyio.current_time()
        self._warnings.keep(answers.keys(), now_s)
        self._health.faults.clear()
        for node, answer in answers.items():
            if isinstance(answer, Reply):
                self._sample(node, answer, polls_missed)
            else:
                self._lose(node, answer, now_s)
        if not any(isinstance(answer, Reply) and answer.replay for answer in answers.values()):
            self._inserts.look(None, now_s)
        self._samples = {node: self._samples[node] for node, answer in answers.items() if isinstance(answer, Reply)}
        self._replies = {node: reply for node, reply in self._replies.items() if node in answers}
        self._health.ready = len(self._samples) == len(answers)

    def _lose(self, node: str, error: RedisError, now_s: float) -> None:
        told = server_error(error, node)
        if not self._met and not is_outage(error):
            raise told
        if is_refusal(error):
            self._health.faults[node] = str(told)
        self._warnings.add(node, [Condition("server_lost", str(told))], now_s)

    def _sample(self, node: str, reply: Reply, polls_missed: int) -> None:
        before = self._replies.get(node)
        again = before is not None and before.info.get("run_id") == reply.info.get("run_id")
        sample = sample_of(node, reply, before, polls_missed)
        evicted = self._samples[node].redis_evicted_keys_total if again and node in self._samples else None
        conditions = list(conditions_of(sample, evicted))
        if reply.replay is not None:
            if reply.replay.unreadable is not None:
                conditions.append(Condition("replay_unreadable", reply.replay.unreadable))
            if (stalled := self._inserts.look(reply.replay, reply.at_s)) is not None:
                conditions.append(stalled)
        if not again:
            what = "server_found" if before is None else "server_restarted"
            _log.info(what, node=node, server=f"{sample.server} {sample.server_version}")
        self._publish(sample)
        self._warnings.replace(node, conditions, reply.at_s)
        self._met = True
        self._replies[node], self._samples[node] = reply, sample
