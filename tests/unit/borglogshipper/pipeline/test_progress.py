import pytest
from structlog.testing import capture_logs

from borgcore.eventlog.protocol import Loss, Partition, RetentionUse
from borgcore.service.health import Health
from borglogshipper.pipeline import progress as module
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
    progress = ShippingProgress(1, 2, 3, 4, 5, 6, 7, 8, 9, RetentionUse(0.25))
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
        "borg_logshipper_lost_records_total": (9, labels),
        "borg_logshipper_retention_used_ratio": (0.25, labels),
    }


def test_the_newest_loss_is_shown_for_a_while_and_counted_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = ShippingProgress()
    assert progress.recent_loss is None
    progress.note_loss(Loss(Partition("training_log", 1), 7, "deleted_unread"))
    assert progress.recent_loss == "7 records of training_log-1 are lost: deleted_unread"
    monkeypatch.setattr(module, "LOSS_SHOWN_S", 0.0)
    assert progress.recent_loss is None
    values = {sample.name: sample.value for metric in progress.metrics({}) for sample in metric.samples}
    assert values["borg_logshipper_lost_records_total"] == 7


def test_unread_records_in_danger_are_logged_at_both_ends() -> None:
    progress = ShippingProgress()
    with capture_logs() as logs:
        for share in (0.0, 0.49, 0.5, 2.0, 0.3, 0.6):
            progress.note_retention_use(RetentionUse(share, f"{share} used"))
    assert [(log["event"], log.get("reason")) for log in logs] == [
        ("retention_near", "0.5 used"),
        ("retention_cleared", None),
        ("retention_near", "0.6 used"),
    ]
    assert progress.danger == "0.6 used"
    values = {sample.name: sample.value for metric in progress.metrics({}) for sample in metric.samples}
    assert values["borg_logshipper_retention_used_ratio"] == 0.6
