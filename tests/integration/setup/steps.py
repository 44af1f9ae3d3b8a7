"""What the tests of the setup's steps share: settings, and the answers of a server that is told what to say."""

import base64
from pathlib import Path

import orjson
from pydantic import SecretStr

from borgcore.events.topics import TOPICS
from borgsetup.settings import SetupSettings
from borgsetup.store import SHIPPER_KEYS
from tests.limits import HANG_S
from tests.sink import Answer, Sink

LOGIN = "Basic " + base64.b64encode(b"elastic:of-elastic").decode()


def settings_of(sink: Sink, keys_dir: Path, **more: object) -> SetupSettings:
    url = f"http://{sink.address}"
    given = {"elastic_password": "of-elastic", "kibana_password": "of-kibana", "user_password": "of-people"}
    return SetupSettings.model_validate(
        {"step": "store", "elasticsearch_url": url, "kibana_url": url, "keys_dir": keys_dir, "wait_s": HANG_S}
        | {name: SecretStr(word) for name, word in given.items()}
        | more
    )


def answered(document: object) -> Answer:
    return Answer(body=orjson.dumps(document))


ABSENT = Answer(404, b"{}")
TOPIC = [ABSENT, answered({}), answered({})]  # its template is found missing and installed, and its index is made
PREPARED = [
    answered({"version": {"number": "8.19.21"}}),
    answered({}),
    ABSENT,
    answered({}),
    *TOPIC * len(TOPICS),
    ABSENT,
]
KEY = [answered({"invalidated_api_keys": []}), answered({"id": "id", "api_key": "word"})]
KEYS = KEY * len(SHIPPER_KEYS)
