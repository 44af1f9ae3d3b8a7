"""The settings of a logshipper."""

from typing import ClassVar

from pydantic import Field, PositiveFloat, PositiveInt

from borgcore.eventstore.settings import StoreSettings
from borgcore.settings.sections import Section
from borgcore.settings.service import ServiceSettings


class BatchSettings(Section):
    """How records are batched, and how many batches are under way."""

    records: PositiveInt = 5_000
    """Most records in one request."""
    size_bytes: PositiveInt = 5_000_000
    """Most bytes in one request; Elasticsearch's guide advises 5 to 15 MB."""
    linger_s: PositiveFloat = 0.5
    """Longest time a record waits for its batch to fill, seconds."""
    in_flight: PositiveInt = 3
    """Requests under way at once; beyond, reading pauses."""


class RetrySettings(Section):
    """How failed requests are retried."""

    first_s: PositiveFloat = 0.2
    """Wait before the second try, seconds; doubled with each further one, jittered."""
    limit_s: PositiveFloat = 10.0
    """Longest wait between two tries, seconds."""


class LogshipperSettings(ServiceSettings):
    """Bring events from the log into a store: at least once, and no document twice."""

    service: ClassVar[str] = "logshipper"

    check_config: bool = False
    """Verify log and store (address, credentials, versions), print the result, and end."""
    replay_dead_letters: bool = False
    """Store the records in dead_letter again, now that the cause is mended, print the result, and end."""
    group: str = Field("borg-logshipper", pattern=r"^[A-Za-z0-9._-]{1,100}$")
    """Consumer group; replicas of one group share the work."""
    member: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,100}$")
    """Name of this replica in its group: unique, and the same after a restart; by default the host name and a free
    number."""
    max_document_bytes: PositiveInt = 1_000_000
    """Larger records go to dead_letter."""
    max_depth: PositiveInt = 20
    """Records nested deeper go to dead_letter; Elasticsearch's own limit for mappings is 20."""
    commit_period_s: PositiveFloat = 1.0
    """Time between two commits, seconds."""
    store: StoreSettings = StoreSettings()
    """The event store."""
    batch: BatchSettings = BatchSettings()
    """How records are batched, and how many batches are under way."""
    retry: RetrySettings = RetrySettings()
    """How failed requests are retried."""

    @property
    def store_url(self) -> str:
        """The store's URL, or its default."""
        return self.store.url or f"sqlite:///runs/{self.run}/events.sqlite"
