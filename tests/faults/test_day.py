"""A day's worth of events."""

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from .shipping import FULL, TEST_LIMIT_S

DOCUMENTS = 10_000_000 if FULL else 300_000
GROWTH = 1.1 if FULL else 1.3  # of the memory from a tenth of the documents to all of them; a short run still warms up
ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(TEST_LIMIT_S)
def test_a_day_of_events_ships_with_flat_memory_each_exactly_once(kafka_address: str) -> None:
    command = [sys.executable, "-m", "bench.shipper", "--memory", "--documents", str(DOCUMENTS)]
    done = subprocess.run(
        command,
        check=True,
        cwd=ROOT,
        env=os.environ | {"TEST_BORG_KAFKA": kafka_address},
        stdout=subprocess.PIPE,
        timeout=TEST_LIMIT_S,
    )
    found = orjson.loads(done.stdout)
    assert (found["documents"], found["arrived"]["distinct"]) == (DOCUMENTS, DOCUMENTS)
    assert found["rss_mb_at_100_percent"] <= GROWTH * found["rss_mb_at_10_percent"]
