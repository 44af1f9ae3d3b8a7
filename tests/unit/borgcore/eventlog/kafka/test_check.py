import pytest

from borgcore.errors import EventLogError
from borgcore.eventlog.kafka.check import find_release

WHERE = "Kafka at one:9092"
PRODUCE, FETCH, METADATA, JOIN_GROUP = 0, 1, 3, 11
OLDEST = {PRODUCE: (0, 9), FETCH: (0, 12), METADATA: (0, 11), JOIN_GROUP: (0, 7)}  # of Kafka 2.8


@pytest.mark.parametrize(
    ("fetch", "release"),
    [((0, 12), "2.8"), ((0, 13), "3.1"), ((0, 14), "3.1"), ((0, 16), "3.5"), ((0, 17), "3.9"), ((4, 18), "4.0")],
)
def test_the_release_is_derived_from_the_brokers_api_versions(fetch: tuple[int, int], release: str) -> None:
    assert find_release(OLDEST | {FETCH: fetch}, WHERE) == release


@pytest.mark.parametrize(
    ("versions", "text"),
    [
        (
            {METADATA: (0, 9)},
            "the ids of topics: its API Metadata ends at version 9, expected 10, which Kafka 2.8 has",
        ),
        (
            {JOIN_GROUP: (0, 4)},
            "static members of a group: its API JoinGroup ends at version 4, expected 5, which Kafka 2.3 has",
        ),
        (
            {PRODUCE: (0, 6)},
            "events compressed by zstd: its API Produce ends at version 6, expected 7, which Kafka 2.1 has",
        ),
    ],
)
def test_a_broker_that_is_too_old_is_refused_naming_what_it_lacks(
    versions: dict[int, tuple[int, int]], text: str
) -> None:
    with pytest.raises(EventLogError) as refused:
        find_release(OLDEST | versions, WHERE)
    assert str(refused.value) == f"{WHERE} is too old for {text}; nothing was started"


def test_a_broker_that_lacks_an_api_altogether_is_refused() -> None:
    with pytest.raises(EventLogError, match="its API JoinGroup is missing, expected 5"):
        find_release({api: found for api, found in OLDEST.items() if api != JOIN_GROUP}, WHERE)
