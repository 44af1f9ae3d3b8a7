"""The logshipper: reads the event log as a member of a group and writes the store."""

import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import structlog
from anyio import CancelScope, to_thread

from borgcore.eventlog.metrics import publisher_metrics
from borgcore.eventlog.open import check_log, open_consumer
from borgcore.eventlog.publisher import open_publisher
from borgcore.events.topics import TOPICS
from borgcore.service.health import open_health
from borglogshipper.pipeline.delivery import Delivery
from borglogshipper.pipeline.progress import ShippingProgress, Troubles
from borglogshipper.pipeline.shipper import Shipper
from borglogshipper.replay import replay_dead_letters
from borglogshipper.replica import claim_name
from borglogshipper.settings import LogshipperSettings
from borglogshipper.stores.open import open_store

_log = structlog.get_logger()


async def serve(settings: LogshipperSettings, intake: CancelScope) -> None:
    """Ship until ``intake`` is cancelled, then finish what was read; or only check the configuration, or replay.

    Raises:
        EventLogError: the log cannot be reached, refuses us, or did not accept a dead letter.
        SettingsError: a URL is invalid.
    """
    if settings.check_config:
        await check(settings)
        return
    if settings.replay_dead_letters:
        await replay_dead_letters(settings, intake)
        return
    async with claim_member(settings) as member:
        progress = ShippingProgress()
        shipper = Shipper(settings, member, progress)
        consuming = open_consumer(
            settings.events, settings.run, TOPICS, group=settings.group, member=member, revoked=shipper.revoked
        )
        async with (
            open_health(settings.health_address) as health,
            open_store(settings.store, settings.store_url) as store,
            open_publisher(settings.events, settings.run, settings.service) as publisher,
            consuming as consumer,
        ):
            health.need("reading", lambda: consumer.outage)
            health.need("lost", lambda: progress.recent_loss)
            health.need("retention", lambda: progress.danger)
            health.export(lambda: progress.metrics({"group": settings.group, "shipper": member}))
            health.export(lambda: publisher_metrics(publisher))
            outage_s = settings.events.outage_s
            delivery = Delivery(store, consumer, settings.retry, progress, Troubles(health), outage_s=outage_s)
            _log.info("shipper_started", group=settings.group, member=member, topics=TOPICS)
            await shipper.run(consumer, delivery, publisher, intake)


async def check(settings: LogshipperSettings) -> None:
    """Check the event log and the store, and describe both on standard output.

    Raises:
        BorgError: one of them cannot be reached, refuses us, or is incompatible.
    """
    sys.stdout.write(f"event log: {await check_log(settings.events, settings.group)}\n")
    async with open_store(settings.store, settings.store_url) as store:
        sys.stdout.write(f"store: {await store.check()}\n")


@asynccontextmanager
async def claim_member(settings: LogshipperSettings) -> AsyncIterator[str]:
    """Hold this replica's name in its group; a worker thread locks and unlocks the files.

    Raises:
        BorgError: all names are taken, or the lock files cannot be created.
    """
    if settings.member is not None:
        yield settings.member
        return
    claim = ExitStack()
    name = await to_thread.run_sync(claim.enter_context, claim_name(settings.group))
    try:
        yield name
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(claim.close)
