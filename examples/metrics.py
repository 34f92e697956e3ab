"""The shop's own instruments: one of each of prometheus_client's four types.

They are ordinary prometheus_client instruments, made once, where a module is imported. Nothing tells
web-prom about them: they appear at /metrics beside the ``http_*`` families, with one worker or many.

A name says what is counted and in which unit (``_seconds``, ``_bytes``, ``_euros``); the shop's name stands
first, so that nobody confuses it with somebody else's.

A module that is imported twice (by a test suite, or under two names) makes prometheus_client raise
"Duplicated timeseries". ``web_prom.get_or_create(Counter, "shop_orders", ...)`` returns the first one there.
"""

from prometheus_client import Counter, Gauge, Histogram, Summary

# Counter: what only ever grows, such as events, errors, bytes. Ask for its growth, never for its height:
# rate(shop_orders_total[5m]). The name at /metrics ends in _total.
#
# A label splits the counter, and each combination of values is a series that Prometheus keeps. So let a
# label's values come from a short list that you know: a way to pay, never a user, an e-mail or a path.
ORDERS = Counter("shop_orders", "Orders placed.", ["payment"])

# A series begins with its first use. Begun here, at 0, even the very first order is seen as growth.
PAYMENTS = ("card", "invoice")
for payment in PAYMENTS:
    ORDERS.labels(payment)

# Gauge: what goes up and down, such as a queue's length or a temperature. It is worth what it is now.
#
# Each worker has a value of its own, and `multiprocess_mode` says which number they make together:
#   "livesum"      the sum over workers that are alive: things in progress, open connections
#   "max", "min"   the largest, the smallest: the longest queue, the oldest version
#   "mostrecent"   the one set last, by whichever worker: the time of the last import (set() only)
#   "all"          the default: a series for each process, told apart by `pid`, which is seldom what you
#                  want, as each new worker brings a new series
# "livemax", "livemin", "livemostrecent" and "liveall" forget a worker when it dies, as "livesum" does.
CHECKOUTS = Gauge("shop_checkouts_in_progress", "Checkouts in progress.", multiprocess_mode="livesum")

# Histogram: how a quantity is spread, such as durations or sizes. It counts into buckets, which can be added
# over workers and servers, and then asked for a percentile:
# histogram_quantile(0.95, sum by (le) (rate(shop_order_euros_bucket[5m]))).
# Choose bounds where you will ask questions. Each is a series, once for each combination of labels.
ORDER_EUROS = Histogram("shop_order_euros", "Value of an order in euros.", buckets=(10, 25, 50, 100, 250))

# Summary: how often, and how much in all, for two series instead of a dozen. That gives the mean, and only
# the mean: a quantile cannot be made from it, nor could quantiles of several workers be added to one. If
# somebody may ever ask for the slowest 5 %, take a Histogram.
PAYMENT_SECONDS = Summary("shop_payment_seconds", "Seconds that the payment provider took.")
