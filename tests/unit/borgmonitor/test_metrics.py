from prometheus_client import CollectorRegistry, exposition
from prometheus_client.registry import Collector

from borgmonitor.metrics import sample_metrics
from tests.unit.borgmonitor.replies import NODE, replay, sample


def text_of(*metrics: object) -> str:
    class Fixed(Collector):
        def collect(self) -> object:  # type: ignore[override]  # any metrics
            return metrics

    registry = CollectorRegistry()
    registry.register(Fixed())
    return exposition.generate_latest(registry).decode()


def test_a_sample_is_shown_under_the_names_of_its_fields() -> None:
    lines = text_of(*sample_metrics("r", [sample(replay())], [(NODE, "memory_high")])).splitlines()
    labels = f'{{node="{NODE}",run="r"}}'
    assert f"redis_memory_used_bytes{labels} 1e+06" in lines
    assert f"redis_evicted_keys_total{labels} 3.0" in lines
    assert f"replay_samples_per_insert{labels} 4.0" in lines
    assert f'borg_memory_warning{{kind="memory_high",node="{NODE}",run="r"}} 1.0' in lines
    assert f'borg_memory_warning{{kind="keys_evicted",node="{NODE}",run="r"}} 0.0' in lines
    assert "# TYPE redis_evicted_keys_total counter" in lines
    assert "# TYPE redis_memory_used_bytes gauge" in lines


def test_what_is_not_known_is_not_shown() -> None:
    text = text_of(*sample_metrics("r", [sample()], []))
    assert "replay_bytes{" not in text
    assert "fcall_calls_per_s{" not in text
