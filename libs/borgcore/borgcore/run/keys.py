"""Every key of a run in Redis; they share the hash tag ``{<run>:r0}``, so one call may use several in a cluster."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RunKeys:
    """The keys of one run."""

    run: str

    def _key(self, name: str) -> str:
        return f"borg:{{{self.run}:r0}}:{name}"

    @property
    def slots(self) -> str:
        """Hash: slot -> encoded Transition."""
        return self._key("slots")

    @property
    def priorities(self) -> str:
        """Sorted set: slot, scored by priority."""
        return self._key("priorities")

    @property
    def meta(self) -> str:
        """Hash: spec, capacity, and the counters inserted and sampled."""
        return self._key("meta")

    def weights(self, owner: int | None = None) -> str:
        """Hash: version (decimal), data (safetensors); the run's, or those of an agent that trains its own network."""
        return self._key("weights" if owner is None else f"weights:{owner}")

    @property
    def reports(self) -> str:
        """Hash: agent number -> its newest report (JSON)."""
        return self._key("reports")

    def events(self, topic: str) -> str:
        """Stream: the events of one topic, if the event log is in Redis Streams."""
        return self._key(f"events:{topic}")

    @property
    def events_trimmed(self) -> str:
        """Hash: topic -> number of entries trimmed before they were read."""
        return self._key("events-trimmed")

    @property
    def events_accounts(self) -> str:
        """Hash: what the streams of the event log held at the last trim, and entries that others removed; trim.lua."""
        return self._key("events-accounts")

    def lease(self, number: int) -> str:
        """String with expiry: the token of the agent that holds ``number``."""
        return self._key(f"lease:{number}")
