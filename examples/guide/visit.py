"""Sends requests to a shop, and compares their number with its metrics.

::

    python -m guide.visit http://127.0.0.1:8000 400

Each request has its own connection, so that it can reach any of the workers.
"""

import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

SCRAPES = 6
SETTLE_SECONDS = 2.0


def visit(url: str) -> int:
    with urlopen(f"{url}/", timeout=30) as answer:
        answer.read()
        return int(answer.status)


def counted(url: str) -> int:
    """Return the number of requests for / with status 200 in one scrape."""
    with urlopen(f"{url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found = re.search(
        r'^http_requests_total\{method="GET",route="/",status="200"\} (\S+)$', text, re.MULTILINE
    )
    return int(float(found[1])) if found else 0


def main() -> None:
    url, times = sys.argv[1], int(sys.argv[2])
    before = counted(url)
    with ThreadPoolExecutor(8) as pool:
        answered = list(pool.map(visit, [url] * times)).count(200)
    print(f"{before} counted before; sent {times}, answered with 200: {answered}")
    # The client can have the answer before the server has counted the request.
    deadline = time.monotonic() + SETTLE_SECONDS
    while counted(url) != before + answered and time.monotonic() < deadline:
        time.sleep(0.2)
    found = [counted(url) for _ in range(SCRAPES)]
    verdict = "right" if set(found) == {before + answered} else f"WRONG, {before + answered} is right"
    print(f"counted, in {SCRAPES} scrapes:", *found, f"({verdict})")


if __name__ == "__main__":
    main()
