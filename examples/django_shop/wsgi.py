"""The WSGI application.

From the directory above ``examples``::

    gunicorn --config python:web_prom.gunicorn --workers 2 --chdir examples django_shop.wsgi
"""

import os

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_shop.settings")
application = get_wsgi_application()
call_command("migrate", verbosity=0)  # the database is in the memory of this worker
