"""The names of the exceptions of databases."""

from __future__ import annotations


def error_name(error: BaseException) -> str:
    """Return the name of an exception's class, or of the class of PEP 249 that it is derived from.

    So psycopg's ``UniqueViolation`` is an ``IntegrityError``, as Django and SQLAlchemy call it. A name has no
    class around it: SQLAlchemy's adapter of asyncpg has the exceptions inside a class.
    """
    kinds = type(error).__mro__
    return next((kind.__name__ for kind in kinds if kind.__name__ in _PEP_249), type(error).__name__)


def driver_error_name(error: BaseException) -> str:
    """Return the name of the driver's own class of an exception. Only some namings have a label for it.

    Django raises an exception of its own, with the driver's as its cause.
    """
    cause = error.__cause__
    is_of_driver = cause is not None and error_name(cause) == error_name(error)
    return type(cause if is_of_driver else error).__name__


_PEP_249 = frozenset(
    {
        "DataError",
        "DatabaseError",
        "IntegrityError",
        "InterfaceError",
        "InternalError",
        "NotSupportedError",
        "OperationalError",
        "ProgrammingError",
    }
)
