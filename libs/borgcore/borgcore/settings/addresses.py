"""What a Redis URL names, without its secrets.

A password that should have been percent-encoded splits a URL in unexpected places: what stands where the port, the
path or the query should be may be a piece of it. So nothing of a wrong URL is ever repeated.
"""

from urllib.parse import urlsplit

_SCHEMES = ("redis", "rediss", "unix")
_ENCODE = "give a password by BORG_REDIS_PASSWORD, or percent-encoded before the @"


def read_address(url: str) -> str:
    """Check a Redis URL and name its server, ``host:port`` or the socket's path, without user or password.

    Raises:
        ValueError: it is wrong; the text repeats nothing of it but a short scheme.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise ValueError("found a value that is no URL") from None
    if parts.scheme not in _SCHEMES or not url.startswith(f"{parts.scheme}://"):
        raise ValueError(
            f"scheme {parts.scheme if '://' in url and parts.scheme else 'missing'!r}, expected redis://host:port, "
            "rediss://host:port or unix:///path"
        )
    if "?" in url or "#" in url:  # redis-py would take any option from a query, a password among them
        raise ValueError(f"a query or fragment is not allowed; {_ENCODE}")
    if parts.scheme == "unix":
        if not parts.path or "@" in parts.path or (parts.netloc and "@" not in parts.netloc):
            raise ValueError(f"what follows unix:// is no socket's path; expected unix:///path; {_ENCODE}")
        return parts.path
    try:
        address = f"{host or 'localhost'}:{parts.port or 6379}"
    except ValueError:
        raise ValueError(f"the port is no number up to 65535; expected {parts.scheme}://host:port; {_ENCODE}") from None
    if "@" in parts.path:
        raise ValueError(f"an @ follows the server's address; {_ENCODE}")
    return address
