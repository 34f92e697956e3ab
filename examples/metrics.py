"""The shop's own instruments: one of each of prometheus_client's four types.

They are ordinary prometheus_client instruments, created once when the module is imported. They need no code
of web-prom: they appear at /metrics with the ``http_*`` families, with one worker or many.

A name says what is counted and in which unit (``_seconds``, ``_bytes``, ``_euros``). It starts with the name
of the shop, so that it differs from the names of other libraries.

If a module is imported twice (by a test suite, or under two names), prometheus_client raises "Duplicated
timeseries". ``web_prom.get_or_create(Counter, "shop_orders", ...)`` returns the existing instrument instead.
"""

from prometheus_client import Counter, Gauge, Histogram, Summary

# Counter: a number that only grows, for example of events, errors or bytes. Query its growth, not its value:
# rate(shop_orders_total[5m]). The name at /metrics ends in _total.
#
# A label splits the counter, and Prometheus stores one series for each combination of label values. So use a
# short list of known values: the kind of payment, but never a user, an e-mail address or a path.
ORDERS = Counter("shop_orders", "Orders placed.", ["payment"])

# A series exists from its first use. It is created here with 0, so that rate() sees the first order.
PAYMENTS = ("card", "invoice")
for payment in PAYMENTS:
    ORDERS.labels(payment)

# Gauge: a number that goes up and down, for example the length of a queue or a temperature.
#
# Each worker has its own value, and `multiprocess_mode` says how they are combined:
#   "livesum"      the sum over living workers: operations in progress, open connections
#   "max", "min"   the largest or the smallest value: the longest queue, the oldest version
#   "mostrecent"   the value that was set last, by any worker: the time of the last import (set() only)
#   "all"          the default: a series for each process with the label `pid`. This is seldom useful, because
#                  each new worker adds a new series
# "livemax", "livemin", "livemostrecent" and "liveall" drop the value of a dead worker, like "livesum".
CHECKOUTS = Gauge("shop_checkouts_in_progress", "Checkouts in progress.", multiprocess_mode="livesum")

# Histogram: the distribution of a quantity, for example of durations or sizes. It counts in buckets. Buckets
# of workers and servers can be added, and then a percentile can be computed:
# histogram_quantile(0.95, sum by (le) (rate(shop_order_euros_bucket[5m]))).
# Choose bounds near the values of interest. Each bound is one series for each combination of label values.
ORDER_EUROS = Histogram("shop_order_euros", "Value of an order in euros.", buckets=(10, 25, 50, 100, 250))

# Summary: a count and a sum, so two series instead of a dozen. They give only the mean, and no quantile.
# Quantiles of several workers could not be added either. For the slowest 5 %, use a Histogram.
PAYMENT_SECONDS = Summary("shop_payment_seconds", "Seconds that the payment provider took.")
