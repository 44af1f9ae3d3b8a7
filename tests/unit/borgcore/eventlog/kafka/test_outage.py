import pytest
from aiokafka.errors import KafkaConnectionError, SaslAuthenticationFailed
from structlog.testing import capture_logs

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka import outage as outage_module
from borgcore.eventlog.kafka.outage import KafkaOutage
from borgcore.settings.sections import EventsSettings

SILENT = EventsSettings(url="kafka://broker:9092", timeout_s=1e-9)  # probed at once


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Exception | None]:
    """Results of the next probes: an error, or None for success."""
    found: list[Exception | None] = []

    async def find_server(_settings: EventsSettings) -> None:
        if (error := found.pop(0)) is not None:
            raise error

    monkeypatch.setattr(outage_module, "find_server", find_server)
    return found


async def test_an_outage_lasts_until_kafka_answers_and_is_logged_once(answers: list[Exception | None]) -> None:
    outage = KafkaOutage(SILENT)
    assert outage.reason is None
    answers += [OSError("refused"), KafkaConnectionError("reset"), None]
    with capture_logs() as logs:
        await outage.check()
        assert outage.reason == "Kafka at broker:9092 cannot be reached: refused"
        await outage.check()
        assert outage.reason is not None
        assert "reset" in outage.reason
        await outage.check()
        assert outage.reason is None
    assert [line["event"] for line in logs] == ["event_log_lost", "event_log_regained"]


async def test_a_refusal_is_no_outage_but_ends_the_reading(answers: list[Exception | None]) -> None:
    answers.append(SaslAuthenticationFailed("no"))
    with pytest.raises(EventLogError, match=r"^Kafka at broker:9092 refused the user or the password; check "):
        await KafkaOutage(SILENT).check()


async def test_kafka_is_not_probed_while_it_replies(answers: list[Exception | None]) -> None:
    await KafkaOutage(EventsSettings(url="kafka://broker:9092")).check()
    assert answers == []
