import re

import pytest
import yaml

from tests.unit.deploy.stack_file import DEPLOY, FILE, ONE_SHOT, OURS, SERVICES


def example() -> dict[str, str]:
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    pairs = [line.split("#")[0].strip().split("=") for line in lines if re.match(r"[A-Z]", line)]
    return dict(pairs)


def size_bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+)([mg])b?", text)
    assert found
    return int(found[1]) << {"m": 20, "g": 30}[found[2]]


def test_it_has_no_version_no_container_names_and_no_host_network() -> None:
    assert "version" not in FILE
    assert not [name for name, service in SERVICES.items() if "container_name" in service]
    assert {service.get("network_mode") for service in SERVICES.values()} == {None, "none"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_container_is_confined_bounded_and_restarted(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "ulimits"}
    assert "mem_limit" in service
    assert service["pids_limit"] > 0
    assert service["restart"] == ("on-failure:3" if name in ONE_SHOT else "unless-stopped")
    assert ("healthcheck" in service) == (name not in ONE_SHOT)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_image_has_a_version_and_ours_are_built_from_the_one_dockerfile(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[a-z/-]+:\$\{[A-Z]+_VERSION:-\d+\.\d+\.\d+\}", service["image"])
    built = service.get("build", {}).get("args", {}).get("SERVICE")
    assert built == (("setup" if name in ONE_SHOT else name) if name in OURS else None)


def test_the_base_image_of_ours_has_a_version() -> None:
    assert re.search(r"^ARG PYTHON=python:3\.11\.\d+-slim$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)


def test_ports_are_open_on_the_loopback_address_alone() -> None:
    ports = {port for service in SERVICES.values() for port in service.get("ports", [])}
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert "ports" not in SERVICES["agent"]  # scaled


def test_the_example_names_every_variable_with_the_default_that_the_file_has() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    found = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text))
    assert set(re.findall(r"\$\{([A-Z_]+)", text)) == found.keys()
    assert found == example()


def test_redis_may_use_half_of_its_containers_memory_at_most_and_evicts_nothing() -> None:
    given = example()
    assert 2 * size_bytes(given["REDIS_MAXMEMORY"]) <= size_bytes(given["REDIS_MEMORY"])
    command = SERVICES["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert (options["--appendonly"], options["--appendfsync"]) == ("yes", "everysec")


def test_no_secret_is_written_in_it_and_each_service_reads_a_volume_of_keys_of_its_own() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    assert not re.search(r"(?i)(password|api_key|secret)\w*: *[\"']?\w+$", text.replace("_FILE", ""), re.MULTILINE)
    readers: dict[str, set[str]] = {}
    writers: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            if isinstance(volume, dict):
                assert volume["read_only"] is True
                readers.setdefault(volume["source"], set()).add(name)
            elif volume.startswith("keys-"):
                writers.setdefault(volume.split(":")[0], set()).add(name)
    named = {f"keys-{name}": {name} for name in SERVICES if name not in ONE_SHOT}
    assert readers == named | {"keys-setup": {"functions", "setup", "topics", "dashboard"}}
    shippers = {"keys-logshipper", "keys-logstash"}  # their keys come from Elasticsearch
    assert writers == {volume: {"keys", "setup"} if volume in shippers else {"keys"} for volume in readers}
    made = re.findall(r"/keys/(\w+)", (DEPLOY / "Dockerfile").read_text())
    assert {f"keys-{name}" for name in made} == readers.keys()


def test_services_wait_until_the_ones_they_need_are_healthy_or_done() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert how["condition"] == expected


def test_logstash_is_a_profile_and_nothing_else_is() -> None:
    assert {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service} == {
        "logstash": ["logstash"]
    }


def test_every_mounted_file_exists() -> None:
    assert all((DEPLOY / config["file"]).is_file() for config in FILE["configs"].values())


def test_the_root_file_is_the_same_project() -> None:
    root = yaml.safe_load((DEPLOY.parent / "compose.yaml").read_text())
    assert root == {"name": FILE["name"], "include": ["deploy/compose.yaml"]}
