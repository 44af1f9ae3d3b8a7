"""What tests look at until it is so."""

from anyio import to_thread

from .shipping import Elastic, Shipper


async def at_least(elastic: Elastic, count: int) -> bool:
    return await elastic.count() >= count


async def has_said(shipper: Shipper, event: str) -> bool:
    return bool(await to_thread.run_sync(shipper.lines, event))


async def counts(shipper: Shipper, name: str, value: int) -> bool:
    return await _counter(shipper, name) == [value]


async def has_shipped(shipper: Shipper) -> bool:
    return any(value > 0 for value in await _counter(shipper, "documents"))


async def answers(shipper: Shipper, path: str, status: int) -> bool:
    return (await shipper.page(path))[0] == status


async def is_unready(shipper: Shipper, why: str) -> bool:
    status, text = await shipper.page("/readyz")
    return status == 503 and why in text


async def is_unhealthy(shipper: Shipper, why: str) -> bool:
    status, text = await shipper.page("/healthz")
    return status == 503 and why in text


async def _counter(shipper: Shipper, name: str) -> list[float]:
    _, text = await shipper.page("/metrics")
    lines = [line for line in text.splitlines() if line.startswith(f"borg_logshipper_{name}_total{{")]
    return [float(line.rsplit(" ", 1)[1]) for line in lines]
