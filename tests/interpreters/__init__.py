"""Programs in Python that tests start: forks of a process that has imported the libraries already.

Most of the time of a fresh interpreter is imports: 0.3 s for an application of Flask, and again in each
worker of its server. The template process, one for each pytest process, imports the larger modules of the
standard library and the frameworks once. It imports nothing of web-prom or prometheus_client, so each program
imports these itself. It has only read their code. At its end, a program takes apart the modules that it has
imported, and leaves those of the template.

:class:`Popen` and :func:`run` take what ``subprocess`` takes. They start a fresh interpreter where a fork
would not be the same: other options of Python, variables that an interpreter or a library reads at its start,
another user. With ``FRESH_INTERPRETERS=1``, as in the version matrix, and where coverage is measured they
always do. For a program that imports nothing, ``subprocess`` is quicker.
"""

from __future__ import annotations

from tests.interpreters.client import Popen, run, template

__all__ = ["Popen", "run", "template"]
