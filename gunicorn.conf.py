"""Settings for ``gunicorn -c gunicorn.conf.py shop:app``: copy the file, or only its import into your own.

The import makes the directory that the workers share, private and cleaned up at the end; or it uses the
one that PROMETHEUS_MULTIPROC_DIR names. There is nothing to prepare. To add something to a hook, call ours:

    from web_prom import gunicorn as metrics

    def child_exit(server, worker):
        metrics.child_exit(server, worker)
        ...
"""

from web_prom.gunicorn import (
    child_exit,
    nworkers_changed,
    on_exit,
    on_reload,
    on_starting,
    post_worker_init,
    pre_exec,
    when_ready,
)

__all__ = [
    "child_exit",
    "nworkers_changed",
    "on_exit",
    "on_reload",
    "on_starting",
    "post_worker_init",
    "pre_exec",
    "when_ready",
]

bind = "127.0.0.1:8000"
workers = 2
threads = 4
max_requests = 10_000  # restarts are free: a worker's counts outlive it
max_requests_jitter = 1_000
