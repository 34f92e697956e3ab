"""The shop for mod_wsgi: Apache's SetEnv does not reach os.environ, so that is done here, before other imports."""

import os

os.environ["PROMETHEUS_MULTIPROC_DIR"] = "/dev/shm/shop-metrics"
os.makedirs(os.environ["PROMETHEUS_MULTIPROC_DIR"], mode=0o700, exist_ok=True)

from flask_shop import app as application
