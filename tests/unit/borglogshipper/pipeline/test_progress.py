import pytest
from structlog.testing import capture_logs

from borgcore.service.health import Health
from borglogshipper.pipeline.progress import ShippingProgress, Trouble, Troubles


@pytest.fixture
def troubles(health: Health) -> Troubles:
    return Troubles(health)


def test_an_outage_is_logged_once_however_many_deliveries_it_holds_up(troubles: Troubles, health: Health) -> None:
    with capture_logs() as logs:
        for who in ("one", "two", "one"):
            troubles.begin(who, Trouble.BUSY, f"away, says {who}")
        assert not health.ready
        troubles.end("one")
        assert not health.ready
        troubles.begin("two", Trouble.BUSY, "away")
        troubles.end("two")
        troubles.end("two")
    assert health.ready
    assert [(said["event"], said["log_level"]) for said in logs] == [
        ("store_busy", "warning"),
        ("store_regained", "info"),
    ]


def test_the_next_outage_is_logged_again(troubles: Troubles) -> None:
    with capture_logs() as logs:
        for _ in range(2):
            troubles.begin("one", Trouble.HELD, "closed")
            troubles.end("one")
    assert [said["event"] for said in logs] == ["store_held", "store_regained"] * 2


def test_each_reason_that_needs_a_person_is_logged(troubles: Troubles, health: Health) -> None:
    with capture_logs() as logs:
        for reason in ("a is closed", "b is closed", "a is closed"):
            troubles.begin(reason, Trouble.HELD, reason)
        troubles.end("a is closed")
        assert health.faults
    assert [said["reason"] for said in logs] == ["a is closed", "b is closed"]


def test_a_store_that_was_fixed_and_is_now_unavailable_needs_no_person(troubles: Troubles, health: Health) -> None:
    troubles.begin("one", Trouble.HELD, "401")
    troubles.begin("one", Trouble.BUSY, "restarts")
    assert health.faults == {}
    assert not health.ready


def test_what_another_meets_meanwhile_does_not_hide_what_needs_a_person(troubles: Troubles, health: Health) -> None:
    troubles.begin("one", Trouble.HELD, "closed")
    troubles.begin("two", Trouble.BUSY, "429")
    troubles.end("two")
    assert health.faults == {"store": "closed"}


def test_a_success_without_trouble_before_it_is_ready_and_logs_nothing(troubles: Troubles, health: Health) -> None:
    with capture_logs() as logs:
        troubles.end("one")
    assert health.ready
    assert logs == []


def test_every_counter_is_a_metric_with_its_labels() -> None:
    progress = ShippingProgress(1, 2, 3, 4, 5, 6, 7, 8)
    samples = {
        sample.name: (sample.value, sample.labels)
        for metric in progress.metrics({"group": "g", "shipper": "s"})
        for sample in metric.samples
    }
    labels = {"group": "g", "shipper": "s"}
    assert samples == {
        "borg_logshipper_documents_total": (1, labels),
        "borg_logshipper_repeated_documents_total": (2, labels),
        "borg_logshipper_dead_letters_total": (3, labels),
        "borg_logshipper_retried_documents_total": (4, labels),
        "borg_logshipper_batches_total": (5, labels),
        "borg_logshipper_bytes_total": (6, labels),
        "borg_logshipper_under_way_records": (7, labels),
        "borg_logshipper_lag_records": (8, labels),
    }
