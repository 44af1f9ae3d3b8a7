"""Open the store that a URL names, for writing."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from borgcore.errors import SettingsError
from borgcore.eventstore.open import check_login, read_store_url
from borgcore.eventstore.settings import StoreSettings
from borglogshipper.stores.elastic import open_elastic
from borglogshipper.stores.retention import Retention
from borglogshipper.stores.sqlite import open_sqlite
from borglogshipper.stores.store import Store


def open_store(settings: StoreSettings, url: str) -> AbstractAsyncContextManager[Store]:
    """Open the store that ``url`` names; it connects when it is first used.

    Raises:
        SettingsError: the URL is wrong, or settings do not fit together.
    """
    place = read_store_url(url)
    if isinstance(place, Path):
        return open_sqlite(place, Retention(settings.retention_days, settings.retention_bytes))
    if settings.retention_days is not None or settings.retention_bytes is not None:
        raise SettingsError(
            f"store retention_days, retention_bytes: found one with Elasticsearch at {place}, expected them with "
            "sqlite:///path alone; let Elasticsearch delete old indices, see docs/operations.md; nothing was started"
        )
    check_login(settings)
    return open_elastic(settings, place)
