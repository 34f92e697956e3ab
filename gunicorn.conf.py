"""Settings for ``gunicorn -c gunicorn.conf.py shop:app``. Copy this file, or its import, into your own file.

The import creates the directory that the workers share. The directory is private and removed when the server
ends. If PROMETHEUS_MULTIPROC_DIR is set, the server uses that directory. No other preparation is necessary.
To extend a hook, call the hook of web-prom in it:

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
max_requests = 10_000  # a worker that is replaced keeps its counts
max_requests_jitter = 1_000
