import pytest
from aiokafka.errors import KafkaConnectionError, SaslAuthenticationFailed
from structlog.testing import capture_logs

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka import outage as kafka_outage
from borgcore.eventlog.kafka.outage import KafkaOutage
from borgcore.settings.sections import EventsSettings

SILENT = EventsSettings(url="kafka://broker:9092", timeout_s=1e-9)  # suspected at once


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Exception | None]:
    """What the next probes meet."""
    found: list[Exception | None] = []

    async def probe(_settings: EventsSettings) -> None:
        if (error := found.pop(0)) is not None:
            raise error

    monkeypatch.setattr(kafka_outage, "probe", probe)
    return found


async def test_an_outage_lasts_until_kafka_answers_and_is_said_once(answers: list[Exception | None]) -> None:
    pulse = KafkaOutage(SILENT)
    assert pulse.outage is None
    answers += [OSError("refused"), KafkaConnectionError("reset"), None]
    with capture_logs() as logs:
        await pulse.check()
        assert pulse.outage == "Kafka at broker:9092 cannot be reached: refused"
        await pulse.check()
        assert pulse.outage is not None
        assert "reset" in pulse.outage
        await pulse.check()
        assert pulse.outage is None
    assert [said["event"] for said in logs] == ["event_log_lost", "event_log_regained"]


async def test_a_refusal_is_no_outage_but_ends_the_reading(answers: list[Exception | None]) -> None:
    answers.append(SaslAuthenticationFailed("no"))
    with pytest.raises(EventLogError, match=r"^Kafka at broker:9092 refused the user or the password; check "):
        await KafkaOutage(SILENT).check()


async def test_nothing_is_asked_while_kafka_is_heard_of(answers: list[Exception | None]) -> None:
    await KafkaOutage(EventsSettings(url="kafka://broker:9092")).check()
    assert answers == []
