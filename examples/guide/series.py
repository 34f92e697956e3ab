"""The number of series of the shop's instruments: computed from labels and buckets, and counted in a scrape.

::

    python -m guide.series
"""

import metrics
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Summary, generate_latest

PER_LABEL_SET = {Counter: "1", Gauge: "1", Summary: "sum + count"}

# A further example with both labels and buckets: 4 carriers, each with 10 buckets.
DELIVERY_HOURS = Histogram(
    "shop_delivery_hours",
    "Hours from an order to its delivery.",
    ["carrier"],
    buckets=(1, 2, 4, 8, 12, 24, 36, 48, 72, 96),
)
for carrier in ("bicycle", "courier", "post", "ship"):
    DELIVERY_HOURS.labels(carrier)


def computed(buckets: int, label_sets: int) -> int:
    """Return the number of series of a histogram: buckets, +Inf, _sum and _count for each label set."""
    return label_sets * (buckets + 1 + 2)


def counted(name: str, *, created: bool = False) -> int:
    """Return the number of samples of a name in a scrape, without or only with ``_created``."""
    lines = [line for line in generate_latest(REGISTRY).decode().splitlines() if line.startswith(name)]
    return sum(line.startswith(f"{name}_created") is created for line in lines)


def main() -> None:
    rows = [
        ("shop_orders", "Counter", "2 ways of payment x 1", 2 * 1),
        ("shop_checkouts_in_progress", "Gauge", "1", 1),
        ("shop_order_euros", "Histogram", "5 buckets + 1 + 2", computed(5, 1)),
        ("shop_payment_seconds", "Summary", "sum + count", 2),
        ("shop_delivery_hours", "Histogram", "4 carriers x (10 buckets + 1 + 2)", computed(10, 4)),
    ]
    print(f"{'metric':<28}{'type':<11}{'formula':<35}{'makes':>5}{'counted':>9}")
    for name, kind, formula, makes in rows:
        print(f"{name:<28}{kind:<11}{formula:<35}{makes:>5}{counted(name):>9}")
    created = counted("shop_delivery_hours", created=True)
    print(f"shop_delivery_hours_created, one for each carrier: {created} more")


if __name__ == "__main__":
    assert metrics.ORDERS
    main()
