"""Addresses of servers, in which passwords and tokens can stand, as they may be shown and written down."""

import re
from urllib.parse import unquote

# A password after a name, or a value in the query whose name tells that it is one.
SECRET = re.compile(r"://[^/@]*:[^@]+@|[?&;][^=&;]*(pass|pwd|token|secret|key)[^=&;]*=", re.IGNORECASE)


def show(address: str) -> str:
    """An address without what stands before its last @, and without its query."""
    scheme, mark, rest = address.partition("://") if "://" in address else ("", "", address)
    rest = f"***@{rest.rpartition('@')[2]}" if "@" in rest else rest
    return scheme + mark + re.sub(r"[?#].*", "?***", rest, flags=re.DOTALL)


def hide(text: str, address: str) -> str:
    """A text, such as an error, without the secrets of an address; also where it repeats one decoded, or in part."""
    login = address.rpartition("@")[0].partition("://")[2] or address.rpartition("@")[0]
    secrets = [login.partition(":")[2] or login, *re.findall(r"[?&;][^=&;]*=([^&;#]+)", address)]
    whole = {form for secret in secrets for form in (secret, unquote(secret)) if form}
    parts = {part for form in whole for part in re.split(r"\W+", form) if len(part) > 3}
    for secret in sorted(whole | parts, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
