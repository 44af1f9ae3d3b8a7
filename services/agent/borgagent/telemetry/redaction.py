"""Settings as events may show them: without secrets."""

from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from borgcore.errors import SettingsError
from borgcore.settings.addresses import is_kafka, read_address, read_kafka_url

HIDDEN = "not shown"


def redact(settings: BaseModel) -> dict[str, Any]:
    """Return every setting, nested, as JSON values; without secrets, and URLs reduced to scheme and address."""
    plain = settings.model_dump(mode="json")
    shown: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if _is_secret(field, value):
            continue
        if isinstance(value, BaseModel):
            shown[name] = redact(value)
        elif isinstance(value, dict):
            shown[name] = {str(key): _redact_value(one, plain[name][str(key)]) for key, one in value.items()}
        elif isinstance(value, str) and (name == "url" or name.endswith("_url")):
            shown[name] = redact_url(value)
        else:
            shown[name] = plain[name]
    return shown


def redact_url(url: str) -> str:
    """Return scheme and address of a server; :data:`HIDDEN` for a URL that may contain a login elsewhere."""
    try:
        address = read_kafka_url(url).address if is_kafka(url) else read_address(url)
    except (SettingsError, ValueError):
        return HIDDEN
    return f"{url.partition('://')[0]}://{address}"


def _redact_value(value: object, plain: object) -> object:
    return redact(value) if isinstance(value, BaseModel) else plain


def _is_secret(field: FieldInfo, value: object) -> bool:
    return isinstance(value, SecretStr) or SecretStr in (field.annotation, *get_args(field.annotation))
