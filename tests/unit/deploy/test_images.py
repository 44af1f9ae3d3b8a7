"""What the start scripts and files of the images make of our settings."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.deploy.stack_file import DEPLOY, SERVICES, environment, mounts, writable

IMAGES: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "images.yaml").read_text())
SETTINGS_FILE = "/usr/share/logstash/config/logstash.yml"


def squashed(name: str) -> str:
    return name.lower().replace(".", "").replace("_", "")


def merged(file: dict[str, Any], variables: dict[str, str]) -> dict[str, Any]:
    """What the image of Logstash makes of a settings file: variables that are named like a setting replace it."""
    known = {squashed(name): name for name in IMAGES["logstash"]["from_environment"]}
    return file | {known[squashed(name)]: value for name, value in variables.items() if squashed(name) in known}


def doubly_set(settings: dict[str, Any]) -> set[str]:
    return {new for old, new in IMAGES["logstash"]["renamed"].items() if {old, new} <= settings.keys()}


def test_the_images_own_file_and_a_variable_with_the_new_name_would_end_logstash() -> None:
    assert doubly_set(merged(IMAGES["logstash"]["file"], {"API_HTTP_HOST": "127.0.0.1"})) == {"api.http.host"}


def test_logstash_gets_the_settings_of_our_file_and_nothing_else() -> None:
    ours: dict[str, Any] = yaml.safe_load((DEPLOY / mounts("logstash")[SETTINGS_FILE]).read_text())
    found = merged(ours, environment("logstash") | {"KAFKA_PASSWORD": "", "LOGSTASH_API_KEY": ""})
    assert found == ours  # else the start script would write to the file, which is read-only
    assert not doubly_set(found)
    assert not IMAGES["logstash"]["renamed"].keys() & found.keys()
    assert found == {
        "api.http.host": "127.0.0.1",
        "pipeline.ecs_compatibility": "disabled",
        "queue.type": "persisted",
        "dead_letter_queue.enable": True,
        "xpack.monitoring.enabled": False,
    }


def test_logstash_keeps_its_queue_on_a_named_volume() -> None:
    assert "logstash-data:/usr/share/logstash/data" in SERVICES["logstash"]["volumes"]
    assert "/usr/share/logstash/config" not in writable("logstash")


def test_kibana_reads_our_files_instead_of_the_images_and_each_setting_once() -> None:
    ours = yaml.safe_load((DEPLOY / "kibana" / "kibana.yml").read_text())
    images = IMAGES["kibana"]["file"]
    assert SERVICES["kibana"]["command"].count("--config") == 2
    for name in ("server.host", "server.shutdownTimeout"):  # the image's file is not read: its defaults are lost
        assert ours[name] == images[name]
    assert ours["elasticsearch.hosts"] != images["elasticsearch.hosts"]
    variables = {name for name in environment("kibana") if not name.lower().endswith("_proxy")}
    assert variables == {"SERVER_PUBLICBASEURL", "NODE_OPTIONS"}
    assert "server.publicBaseUrl" not in ours


def test_elasticsearch_is_given_each_setting_once_and_the_password_by_a_file_alone() -> None:
    given = environment("elasticsearch")
    assert not {name for name in given if "." in name} & IMAGES["elasticsearch"]["file"].keys()
    assert "ELASTIC_PASSWORD_FILE" in given
    assert "ELASTIC_PASSWORD" not in given
    assert not {"ENROLLMENT_TOKEN", "KEYSTORE_PASSWORD"} & given.keys()


def test_kafka_is_given_all_that_its_images_file_would_have_set() -> None:
    given = {
        name.removeprefix("KAFKA_").replace("_", ".").lower(): value for name, value in environment("kafka").items()
    }
    needed = IMAGES["kafka"]["single_node"]
    assert {name: given[name] for name in needed} == needed
    assert "-loggc" not in given["extra.args"]


def test_redis_starts_without_the_script_that_loads_modules() -> None:
    assert SERVICES["redis"]["entrypoint"] == ["redis-server"]
    assert SERVICES["redis"]["command"][0].endswith(".conf")


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_what_is_written_is_writable_and_no_volume_of_an_image_is_left_without_a_name(name: str) -> None:
    assert {*IMAGES[name]["written"], *IMAGES[name]["volumes"]} <= writable(name)


def test_every_image_that_is_not_ours_was_read() -> None:
    assert IMAGES.keys() == {name for name, service in SERVICES.items() if "build" not in service}
