import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.containers import image_of, why_missing
from tests.named_servers import MISSING, SERVERS, Named

EXAMPLE = Path(__file__).parents[2] / "deploy" / ".env.example"


@pytest.mark.parametrize(
    ("service", "variable", "image"),
    [
        ("redis", "REDIS_VERSION", "redis"),
        ("kafka", "KAFKA_VERSION", "apache/kafka"),
        ("elasticsearch", "STACK_VERSION", "elasticsearch"),
    ],
)
def test_an_image_has_the_version_of_the_full_stack_unless_its_variable_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, service: str, variable: str, image: str
) -> None:
    monkeypatch.delenv(variable, raising=False)
    (version,) = re.findall(rf"^{variable}=(\S+)", EXAMPLE.read_text(), re.MULTILINE)
    assert image_of(service) == f"{image}:{version}"
    monkeypatch.setenv(variable, "1.2.3")
    assert image_of(service) == f"{image}:1.2.3"


def test_docker_that_does_not_answer_is_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert (why_missing("redis") or "").startswith("Docker does not answer: ")


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_a_test_without_its_server_is_skipped_and_says_what_to_set(server: Named) -> None:
    request = SimpleNamespace(config=SimpleNamespace(stash=pytest.Stash()))
    request.config.stash[MISSING] = {server.service: "Docker does not answer: no such file"}
    with pytest.raises(pytest.skip.Exception) as skipped:
        server.expect_docker(request)  # type: ignore[arg-type]  # of a request, it needs the stash
    expected = f"no {server.what}: set {server.variable}, or start Docker (Docker does not answer: no such file)"
    assert skipped.value.msg == expected
