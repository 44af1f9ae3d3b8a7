"""Kafka as deploy/compose.yaml configures it: by the image's own set-up program, on other ports."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from borgcore.settings.sections import EventsSettings
from borgsetup.keys import KAFKA_PASSWORDS, SETUP, make_keys
from tests.limits import HANG_S, SCRIPT_S
from tests.ports import free_port
from tests.unit.deploy.stack_file import environment


@dataclass(frozen=True)
class DeployedKafka:
    """A broker, and the passwords of its users."""

    passwords: Mapping[str, str]
    port: int
    controller_port: int

    def settings(self, user: str, password: str | None = None) -> EventsSettings:
        """How a user of the stack connects."""
        word = SecretStr(password or self.passwords[user])
        return EventsSettings(url=f"kafka://127.0.0.1:{self.port}", user=user, password=word, sasl="PLAIN")


@contextmanager
def run_deployed_kafka(folder: Path, libs: Path) -> Iterator[DeployedKafka]:
    """Make keys, format and start a broker; it may not be up yet."""
    keys = folder / "keys"
    make_keys(keys)
    passwords = {user: (keys / SETUP / name).read_text() for user, name in KAFKA_PASSWORDS.items()}
    kafka = DeployedKafka(passwords, free_port(), free_port())
    variables = _variables(kafka, folder)
    java = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", f"{libs}/*"]
    for name in ("defaults", "mounted", "final"):
        (folder / name).mkdir()
    for name in ("log4j2.yaml", "tools-log4j2.yaml"):
        (folder / "defaults" / name).touch()
    wrapper = [*java, "kafka.docker.KafkaDockerWrapper", "setup", "--default-configs-dir", str(folder / "defaults")]
    wrapper += ["--mounted-configs-dir", str(folder / "mounted"), "--final-configs-dir", str(folder / "final")]
    subprocess.run(wrapper, env=variables, check=True, capture_output=True, timeout=SCRIPT_S)
    login = f"-Djava.security.auth.login.config={keys}/kafka/jaas.conf"
    with (folder / "kafka.log").open("wb") as log:
        command = [*java, login, "kafka.Kafka", str(folder / "final" / "server.properties")]
        broker = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
    try:
        yield kafka
    finally:
        broker.kill()
        broker.wait(HANG_S)


def _variables(kafka: DeployedKafka, folder: Path) -> dict[str, str]:
    found = {name: value for name, value in environment("kafka").items() if name.startswith("KAFKA_")}
    del found["KAFKA_OPTS"], found["KAFKA_HEAP_OPTS"]
    found["KAFKA_LOG_RETENTION_HOURS"] = "168"  # Compose puts a variable here
    for name, value in found.items():
        address = value.replace("://kafka:", "://127.0.0.1:").replace("://:", "://127.0.0.1:")
        found[name] = address.replace(":9092", f":{kafka.port}").replace(":9093", f":{kafka.controller_port}")
    found["KAFKA_LOG_DIRS"] = str(folder / "data")
    return {"PATH": os.environ["PATH"], "CLUSTER_ID": "5L6g3nShT-eMCtK--X86sw"} | found
