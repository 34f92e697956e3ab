"""The background tasks of the shop: plain functions, independent of queues and metrics."""

import time

from redis import Redis

from jobs.settings import REDIS_URL


def send_receipt(order: int) -> str:
    """Send a receipt, which always works."""
    return f"receipt of order {order}"


def charge(euros: float) -> float:
    """Charge a card. A price must be positive."""
    if euros <= 0:
        raise ValueError(f"{euros} is no price")
    return euros


def fetch_rates(day: str, failures: int) -> str:
    """Fetch exchange rates from a bank that does not answer the first attempts."""
    with Redis.from_url(REDIS_URL) as redis:
        attempt = int(redis.incr(f"attempts:{day}"))
    if attempt <= failures:
        raise ConnectionError("the bank does not answer")
    return f"rates of {day}"


def export(seconds: float) -> None:
    """Write a long report."""
    time.sleep(seconds)
