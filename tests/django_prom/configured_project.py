"""The test project, set up in the process of pytest when this module is imported."""

import os

import django
from django.test.utils import setup_test_environment

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.django_prom.settings"
django.setup()
setup_test_environment(debug=False)
