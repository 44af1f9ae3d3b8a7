import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import orjson

from borglogshipper.stores.store import Documents

INDEX = "training_log-2026.11"


def events(*ids: str, index: str = INDEX) -> Documents:
    bodies = [
        orjson.dumps(
            {"@timestamp": "2026-11-22T10:00:00.000Z", "event": "made", "run": "pong", "agent": row, "id": id_}
        )
        for row, id_ in enumerate(ids)
    ]
    return Documents([index] * len(ids), list(ids), bodies)


@contextmanager
def reader(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0)) as connection:
        yield connection
