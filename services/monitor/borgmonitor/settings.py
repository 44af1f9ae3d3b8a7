"""The settings of a monitor."""

from typing import ClassVar

from pydantic import PositiveFloat

from borgcore.settings.service import ServiceSettings


class MonitorSettings(ServiceSettings):
    """Watch Redis or Valkey, one server or all primaries of a cluster, and the run's replay memory in it."""

    service: ClassVar[str] = "monitor"

    poll_period_s: PositiveFloat = 1.0
    """Time between two samples, seconds; one round trip to each server."""
    stall_s: PositiveFloat = 30.0
    """Warn if agents are alive but none has stored a transition for this long, seconds; waits for the rate limiter
    count as well."""
    clear_s: PositiveFloat = 10.0
    """A warning ends when its cause has been gone for this long, seconds."""
