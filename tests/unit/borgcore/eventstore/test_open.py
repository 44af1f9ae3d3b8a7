from pathlib import Path

import pytest

from borgcore.errors import SettingsError
from borgcore.eventstore.open import open_reader
from borgcore.eventstore.reader import EventFilter
from borgcore.run.folder import RunFolder

from .database import store, writing


def test_a_runs_events_are_read_by_its_url(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "all runs #1? 50%" / "one")
    with writing(folder.events) as connection:
        store(connection, "training_log", ['{"agent":1}', '{"agent":2}'])
    with open_reader(folder.events_url, EventFilter(agent=2)) as reader:
        assert reader is not None
        assert list(reader.read()) == ['{"agent":2}']


def test_a_store_that_is_not_there_yet_has_no_reader(tmp_path: Path) -> None:
    with open_reader(RunFolder(tmp_path / "none").events_url, EventFilter()) as reader:
        assert reader is None


def test_elasticsearch_is_not_read_back() -> None:
    with pytest.raises(SettingsError, match=r"^store url: found Elasticsearch at host:9200, expected sqlite:///path: "):
        open_reader("https://host:9200", EventFilter())
