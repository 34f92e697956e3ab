"""The same metrics defined twice, with and without ``get_or_create``.

::

    python -m guide.twice
"""

import importlib.util
from pathlib import Path

import metrics
from prometheus_client import Counter

from web_prom import ConflictError, get_or_create


def import_again(path: str) -> None:
    """Import a module a second time with another name, as some reloaders and test suites do."""
    found = importlib.util.spec_from_file_location("shop.metrics", path)
    assert found is not None
    assert found.loader is not None
    found.loader.exec_module(importlib.util.module_from_spec(found))


def returns() -> Counter:
    return get_or_create(Counter, "shop_returns", "Orders that came back.", ["reason"])


def main() -> None:
    print("metrics.py, imported again as shop.metrics:")
    try:
        import_again(metrics.__file__)
    except ValueError as error:
        print(f"  {str(error).partition(':')[0]}: shop_orders ...")
    print("\nget_or_create, called twice, returns the same instrument:", returns() is returns())
    print("\nget_or_create, with another label:")
    try:
        get_or_create(Counter, "shop_returns", "Orders that came back.", ["country"])
    except ConflictError as error:
        print("  " + str(error).replace(f"{Path.cwd()}/", "").replace("\n", "\n  "))


if __name__ == "__main__":
    main()
