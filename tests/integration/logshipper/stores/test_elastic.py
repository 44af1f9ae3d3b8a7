from typing import Any

import anyio
import orjson
import pytest
from structlog.testing import capture_logs

from borgcore.events.elasticsearch_templates import index_template
from borgcore.events.reference import ENVELOPE, list_events, list_fields
from borgcore.events.topics import TOPICS
from borgcore.eventstore.settings import StoreSettings
from borglogshipper.stores.open import open_store
from borglogshipper.stores.store import Documents, Outcome, Store, StoreHeldError, StoreRefusedError, Verdict
from tests.limits import HANG_S

from .conftest import Server
from .samples import make_documents, report

INDEX, OTHER = "training_log-2026.11", "training_log-2026.12"


def one(index: str = INDEX, id_: str = "a") -> Documents:
    return Documents([index], [id_], [report()])


async def test_the_check_names_version_address_and_whether_security_is_on(
    elastic: Store, elasticsearch_url: str
) -> None:
    with anyio.fail_after(HANG_S):
        found = await elastic.check()
    address = elasticsearch_url.removeprefix("http://").rstrip("/")
    assert found.startswith("Elasticsearch 8.19.")
    assert found.endswith(f" at {address}, security is off")


async def test_installed_templates_and_the_indices_made_from_them_have_the_generated_mappings(
    elastic: Store, server: Server
) -> None:
    with anyio.fail_after(HANG_S):
        for _ in range(2):
            await elastic.prepare()
        assert await elastic.write(make_documents()) == {}
        for topic in TOPICS:
            wanted = index_template(topic, server.prefix, 0)
            found = (await server.ask("GET", f"/_index_template/{server.prefix}{topic}"))["index_templates"]
            assert [one["name"] for one in found] == [f"{server.prefix}{topic}"]
            template = found[0]["index_template"]
            assert template["template"]["mappings"] == wanted["template"]["mappings"]
            assert {name: template[name] for name in ("priority", "_meta", "index_patterns", "version")} == {
                name: wanted[name] for name in ("priority", "_meta", "index_patterns", "version")
            }
            index = f"{server.prefix}{topic}-2026.11"
            properties = (await server.ask("GET", f"/{index}/_mapping"))[index]["mappings"]["properties"]
            fields = {field.name for event in list_events(topic) for field in list_fields(event)}
            assert set(properties) == fields | {field.name for field in ENVELOPE}


async def test_fields_that_no_event_has_are_kept_and_not_indexed(elastic: Store, server: Server) -> None:
    body = orjson.dumps({"@timestamp": "2026-11-22T10:00:00.000Z", "new": {"deep": [1, {"a": "b"}]}, "loss": 0.5})
    with anyio.fail_after(HANG_S):
        await elastic.prepare()
        assert await elastic.write(Documents([INDEX], ["a"], [body])) == {}
        assert await elastic.read([INDEX], ["a"]) == [body]
        index = f"{server.prefix}{INDEX}"
        assert "new" not in (await server.ask("GET", f"/{index}/_mapping"))[index]["mappings"]["properties"]


async def test_copies_of_a_shard_are_as_many_as_the_settings_say(server: Server, elasticsearch_url: str) -> None:
    with anyio.fail_after(HANG_S):
        async with open_store(StoreSettings(prefix=server.prefix, replicas=1), elasticsearch_url) as store:
            await store.prepare()
        found = await server.ask("GET", f"/_index_template/{server.prefix}training_log")
    settings = found["index_templates"][0]["index_template"]["template"]["settings"]["index"]
    assert (settings["number_of_shards"], settings["number_of_replicas"]) == ("1", "1")


async def test_a_template_that_an_operator_changed_is_kept_and_logged(elastic: Store, server: Server) -> None:
    path = f"/_index_template/{server.prefix}training_log"
    with anyio.fail_after(HANG_S):
        await elastic.prepare()
        changed = (await server.ask("GET", path))["index_templates"][0]["index_template"]
        changed["template"]["settings"]["index"]["refresh_interval"] = "30s"
        await server.ask("PUT", path, changed)
        with capture_logs() as logs:
            await elastic.prepare()
        found = (await server.ask("GET", path))["index_templates"][0]["index_template"]
    assert found["template"]["settings"]["index"]["refresh_interval"] == "30s"
    (kept,) = logs
    assert (kept["event"], kept["log_level"]) == ("index_template_kept", "warning")
    assert kept["template"] == f"{server.prefix}training_log"
    assert kept["changes"] == ["template.settings.index.refresh_interval: 30s in place of nothing"]


async def test_templates_are_left_to_somebody_else_where_the_settings_say_so(
    server: Server, elasticsearch_url: str
) -> None:
    with anyio.fail_after(HANG_S):
        async with open_store(StoreSettings(prefix=server.prefix, templates=False), elasticsearch_url) as store:
            await store.prepare()
        assert (await server.ask("GET", f"/_index_template/{server.prefix}*")) == {"index_templates": []}


async def test_in_one_request_some_are_created_some_present_some_refused_and_some_held(
    elastic: Store, server: Server
) -> None:
    bodies = [report(), report(), report('"abc"'), report(), report("7.5"), b'{"steps":1.5}', b'{"@timestamp":"noon"}']
    with anyio.fail_after(HANG_S):
        await elastic.prepare()
        assert await elastic.write(one()) == {}
        assert await elastic.write(one(OTHER)) == {}
        await server.block(OTHER, "write", on=True)
        verdicts = await elastic.write(
            Documents([INDEX, INDEX, INDEX, OTHER, INDEX, INDEX, INDEX], ["b", "a", "c", "d", "e", "f", "g"], bodies)
        )
        assert {row: verdict.outcome for row, verdict in verdicts.items()} == {
            1: Outcome.PRESENT,
            2: Outcome.REFUSED,
            3: Outcome.HELD,
            5: Outcome.REFUSED,
            6: Outcome.REFUSED,
        }
        refused = verdicts[2].reason
        assert refused.startswith(f"{server.prefix}{INDEX} answered 400 document_parsing_exception: ")
        assert "failed to parse field [loss] of type [double]" in refused
        assert await elastic.read([INDEX] * 3, ["b", "e", "c"]) == [report(), report("7.5"), None]


@pytest.mark.parametrize("block", ["write", "read_only", "read_only_allow_delete"])  # a full disk sets the last
async def test_a_read_only_index_is_held_by_name_and_takes_documents_once_it_is_mended(
    elastic: Store, server: Server, block: str
) -> None:
    with anyio.fail_after(HANG_S):
        await elastic.prepare()
        assert await elastic.write(one()) == {}
        await server.block(INDEX, block, on=True)
        verdicts = await elastic.write(one(id_="b"))
        await server.block(INDEX, block, on=False)
        assert await elastic.write(one(id_="b")) == {}
    assert verdicts[0].outcome is Outcome.HELD
    assert f"{server.prefix}{INDEX} answered " in verdicts[0].reason
    assert "cluster_block_exception: index [" in verdicts[0].reason


async def test_a_closed_index_is_held_by_name(elastic: Store, server: Server) -> None:
    with anyio.fail_after(HANG_S):
        await elastic.prepare()
        assert await elastic.write(one()) == {}
        await server.ask("POST", f"/{server.prefix}{INDEX}/_close")
        verdicts = await elastic.write(one(id_="b"))
        with pytest.raises(StoreHeldError, match=r"refused to read: .*closed"):
            await elastic.read([INDEX], ["a"])
    assert verdicts[0].outcome is Outcome.HELD
    assert verdicts[0].reason.startswith(f"{server.prefix}{INDEX} answered 400 index_closed_exception: ")


async def test_an_alias_without_an_index_to_write_to_is_held(elastic: Store, server: Server) -> None:
    alias: dict[str, Any] = {"aliases": {f"{server.prefix}{INDEX}": {"is_write_index": False}}}
    with anyio.fail_after(HANG_S):
        await server.ask("PUT", f"/{server.prefix}behind", alias)
        verdicts = await elastic.write(one())
    assert verdicts[0].outcome is Outcome.HELD
    assert "no write index is defined for alias" in verdicts[0].reason


async def test_where_indices_are_not_made_by_themselves_documents_are_held(elastic: Store, server: Server) -> None:
    setting = "action.auto_create_index"
    with anyio.fail_after(HANG_S):
        await elastic.prepare()
        await server.ask("PUT", "/_cluster/settings", {"persistent": {setting: f"-{server.prefix}*,+*"}})
        try:
            verdicts = await elastic.write(one())
        finally:
            await server.ask("PUT", "/_cluster/settings", {"persistent": {setting: None}})
        assert await elastic.write(one()) == {}
    assert verdicts[0].outcome is Outcome.HELD
    assert verdicts[0].reason.startswith(
        f"{server.prefix}{INDEX} answered 404 index_not_found_exception: no such index"
    )


async def test_a_name_that_no_index_can_have_is_held(elastic: Store, server: Server) -> None:
    with anyio.fail_after(HANG_S):
        verdicts = await elastic.write(one("UPPER-2026.11"))
    assert verdicts == {
        0: Verdict(
            Outcome.HELD,
            f"{server.prefix}UPPER-2026.11 answered 400 invalid_index_name_exception: Invalid index name "
            f"[{server.prefix}UPPER-2026.11], must be lowercase",
        )
    }


async def test_a_document_that_breaks_a_whole_request_is_refused_and_the_look_for_who_is_to_blame_stores_nothing(
    elastic: Store, server: Server
) -> None:
    with anyio.fail_after(HANG_S):
        await elastic.prepare()
        with pytest.raises(StoreRefusedError, match=r"answered 400 action_request_validation_exception: .*: id "):
            await elastic.write(one(id_="x" * 513))
        await server.ask("POST", f"/{server.prefix}{INDEX}/_refresh")
        assert (await server.ask("GET", f"/{server.prefix}{INDEX}/_count"))["count"] == 0


async def test_a_foreign_template_for_the_same_indices_holds_the_preparation(elastic: Store, server: Server) -> None:
    foreign = {"index_patterns": [f"{server.prefix}training_log-*"], "priority": 200, "template": {}}
    with anyio.fail_after(HANG_S):
        await server.ask("PUT", f"/_index_template/{server.prefix}foreign", foreign)
        with pytest.raises(StoreHeldError) as held:
            await elastic.prepare()
    assert "answered 400 illegal_argument_exception: index template" in str(held.value)
    assert f"{server.prefix}foreign" in str(held.value)
