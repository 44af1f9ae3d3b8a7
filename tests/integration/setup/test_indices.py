"""Templates and indices of the setup on a real Elasticsearch."""

import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from borgcore.events.elasticsearch_templates import index_template
from borgcore.events.template_changes import find_template
from borgsetup.indices import install_template, make_index
from borgsetup.server import RequestRefusedError, Server, open_server
from borgsetup.settings import SetupSettings
from tests.limits import HANG_S


@dataclass(frozen=True)
class Cluster:
    """Elasticsearch, and the name of a template and of an index that no other test uses."""

    server: Server
    name: str

    @property
    def wanted(self) -> dict[str, Any]:
        return index_template("training_log", self.name.removesuffix("training_log"), 0)

    @property
    def index(self) -> str:
        return f"{self.name}-2026.11"

    async def template(self) -> dict[str, Any]:
        found = find_template(await self.server.ask("GET", f"/_index_template/{self.name}"), self.name)
        assert found is not None
        return found

    async def change(self, template: dict[str, Any]) -> None:
        await self.server.ask("PUT", f"/_index_template/{self.name}", template)


@pytest.fixture
async def cluster(elasticsearch_url: str) -> AsyncIterator[Cluster]:
    name = f"test-setup-{uuid.uuid4().hex[:12]}-training_log"
    settings = SetupSettings.model_validate(
        {"step": "store", "elastic_password": SecretStr("none"), "wait_s": HANG_S, "timeout_s": HANG_S}
    )
    async with open_server("Elasticsearch", elasticsearch_url, settings) as server:
        yield Cluster(server, name)
        await server.ask("DELETE", f"/{name}-2026.11?ignore_unavailable=true")
        with suppress(RequestRefusedError):  # the test may have installed none
            await server.ask("DELETE", f"/_index_template/{name}")


async def test_a_template_is_installed_and_may_be_installed_again(cluster: Cluster) -> None:
    for _ in range(2):
        assert await install_template(cluster.server, cluster.name, cluster.wanted)
    found = await cluster.template()
    assert found["_meta"] == cluster.wanted["_meta"]
    assert found["template"]["mappings"] == cluster.wanted["template"]["mappings"]


async def test_settings_that_an_operator_changed_are_kept_at_every_start_and_logged(cluster: Cluster) -> None:
    await install_template(cluster.server, cluster.name, cluster.wanted)
    changed = await cluster.template()
    changed["template"]["settings"]["index"] |= {"number_of_replicas": 2, "refresh_interval": "30s"}
    await cluster.change(changed)
    for _ in range(2):
        with capture_logs() as logs:
            assert not await install_template(cluster.server, cluster.name, cluster.wanted)
        (kept,) = logs
        assert (kept["event"], kept["log_level"], kept["template"]) == ("index_template_kept", "warning", cluster.name)
        assert kept["changes"] == [
            "template.settings.index.number_of_replicas: 2 in place of 0",
            "template.settings.index.refresh_interval: 30s in place of nothing",
        ]
        assert kept["take_ours"] == f"DELETE /_index_template/{cluster.name}, then run again"
    assert (await cluster.template())["template"]["settings"]["index"]["number_of_replicas"] == "2"


async def test_a_deleted_template_is_taken_from_us(cluster: Cluster) -> None:
    await cluster.change({"index_patterns": [f"{cluster.name}-*"], "priority": 300})
    assert not await install_template(cluster.server, cluster.name, cluster.wanted)
    await cluster.server.ask("DELETE", f"/_index_template/{cluster.name}")
    assert await install_template(cluster.server, cluster.name, cluster.wanted)
    assert (await cluster.template())["priority"] == 200


async def test_an_older_template_of_ours_is_replaced(cluster: Cluster) -> None:
    older = index_template("memory_monitoring", cluster.name.removesuffix("training_log"), 1)
    await install_template(cluster.server, cluster.name, older)
    assert await install_template(cluster.server, cluster.name, cluster.wanted)
    found = await cluster.template()
    assert found["template"]["mappings"] == cluster.wanted["template"]["mappings"]
    assert found["template"]["settings"]["index"]["number_of_replicas"] == "0"


async def test_a_template_of_before_fingerprints_is_replaced_if_it_only_lacks_fields(cluster: Cluster) -> None:
    older = cluster.wanted
    del older["_meta"]["fingerprint"], older["template"]["mappings"]["properties"]["loss"]
    await cluster.change(older)
    assert await install_template(cluster.server, cluster.name, cluster.wanted)
    assert "loss" in (await cluster.template())["template"]["mappings"]["properties"]


async def test_an_index_that_is_made_early_has_the_fields_of_the_template(cluster: Cluster) -> None:
    await install_template(cluster.server, cluster.name, cluster.wanted)
    with capture_logs() as logs:
        for _ in range(2):
            await make_index(cluster.server, cluster.index)
    assert logs == []
    found = await cluster.server.ask("GET", f"/{cluster.name}-*/_field_caps?fields=@timestamp,loss,agent")
    assert found["indices"] == [cluster.index]
    assert {name: set(types) for name, types in found["fields"].items()} == {
        "@timestamp": {"date"},
        "loss": {"double"},
        "agent": {"long"},
    }


async def test_an_index_that_elasticsearch_refuses_is_logged_and_no_failure(cluster: Cluster) -> None:
    with capture_logs() as logs:
        await make_index(cluster.server, "Upper-Case")
    (refused,) = logs
    assert (refused["event"], refused["log_level"], refused["index"]) == ("index_not_made", "warning", "Upper-Case")
    assert "invalid_index_name_exception" in refused["reason"]
