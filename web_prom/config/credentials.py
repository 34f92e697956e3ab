"""Secrets in settings: a class that hides them when it is printed, and their parsers.

Each parser raises ValueError with a text that says which values are allowed.
"""

from __future__ import annotations

import hmac
import re
from pathlib import Path


class Secret:
    """A token or a password that is hidden when the object is printed.

    Immutable, and safe to share between threads. ``repr()``, ``str()``, ``dataclasses.asdict()`` and the
    local variables of a traceback show ``Secret('***')``.

    Args:
        value: The secret. White space around it is ignored.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def matches(self, given: bytes) -> bool:
        """Tell whether a client sent this secret. The time of the comparison does not depend on the bytes."""
        return hmac.compare_digest(given, self._value.strip().encode("utf-8", "surrogateescape"))

    def reveal(self) -> str:
        """Return the secret as it was configured."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "Secret('***')"


def parse_secret(value: object) -> Secret | None:
    """Accept a string that is not empty, a :class:`Secret`, or None."""
    if value is None:
        return None
    secret = _to_secret(value)
    if secret is None or not secret.reveal().strip():
        raise ValueError("a string that is not empty")
    return secret


def parse_credentials(value: object) -> Secret | None:
    """Accept ``user:password`` as a string or a :class:`Secret`, or None."""
    if value is None:
        return None
    secret = _to_secret(value)
    if secret is None or not _is_user_and_password(secret.reveal()):
        raise ValueError("'user:password'")
    return secret


def parse_secret_file(value: object) -> Path | None:
    """Accept the path of a readable file that is not empty, or None."""
    if value is None:
        return None
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("the path of a file that contains the secret")
    path = Path(value)
    try:
        content = read_secret(path)
    except OSError as error:
        # The message does not contain the path, which may be the secret itself by mistake.
        raise ValueError(f"the path of a file that this process can read ({error.strerror})") from None
    except ValueError:
        raise ValueError("the path of a file that contains the secret in UTF-8") from None
    if not content:
        raise ValueError("a file that is not empty")
    return path


def parse_credentials_file(value: object) -> Path | None:
    """Accept the path of a readable file that contains ``user:password``, or None."""
    path = parse_secret_file(value)
    if path is not None and not _is_user_and_password(read_secret(path)):
        raise ValueError("a file that contains 'user:password'")
    return path


def read_secret(path: Path) -> str:
    """Return the secret in a file, without white space around it and without a byte order mark.

    Raises:
        OSError: The file cannot be read.
        UnicodeDecodeError: It is not in UTF-8.
    """
    return path.read_text("utf-8-sig").strip()


def looks_like_path(value: object) -> bool:
    """Tell whether a value is probably a path, not a secret that was set in the place of its path.

    A value is a path if it begins with a directory that exists, or if it is absolute, has at least two names
    and contains only small letters, digits, dots, underscores and hyphens.
    """
    if not isinstance(value, str | Path) or len(str(value)) > 4096 or "\0" in str(value):
        return False
    if isinstance(value, Path) or re.fullmatch(r"(/[a-z0-9_.-]{1,64}){2,}", value):
        return True
    folders = Path(value).parent.parts
    first = Path(*folders[: 2 if Path(value).is_absolute() else 1])
    try:
        return len(first.parts) > Path(value).is_absolute() and first.is_dir()
    except (OSError, ValueError):
        return False


def _to_secret(value: object) -> Secret | None:
    if isinstance(value, Secret):
        return value
    return Secret(value) if isinstance(value, str) else None


def _is_user_and_password(text: str) -> bool:
    return re.fullmatch(r"[^:]+:.+", text) is not None
