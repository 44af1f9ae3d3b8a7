"""What an agent is made of, without servers."""

from dataclasses import dataclass, field

from borgcore.events.schema import Event


@dataclass
class FakeMembership:
    number: int = 1
    agents: int = 3


@dataclass
class FakeReplay:
    inserted: int = 5_000
    stale: int = 7
    corrupt: int = 2


@dataclass
class FakePublisher:
    """Keeps what is published, and the number under which it was."""

    agent: int | None = None
    dropped: int = 4
    published: list[tuple[int | None, Event]] = field(default_factory=list)

    def publish(self, event: Event) -> None:
        self.published.append((self.agent, event))
