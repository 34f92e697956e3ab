"""Programs in Python that tests start: forks of a process that has imported the libraries already.

Most of the time of a fresh interpreter is imports: 0.3 s for an application of Flask, and again in each
worker of its server. The template process, one for each pytest process, imports the larger modules of the
standard library, Flask and Django once. It imports nothing of web-prom, prometheus_client and the servers, so
each program imports these itself, in its own environment. The template has only read their code. At its end,
a program takes apart the modules that it has imported, and leaves those of the template. Programs with gevent
have a template of their own, which imports nothing.

:class:`Popen` and :func:`run` take what ``subprocess`` takes. They start a fresh interpreter where a fork
would not be the same: other options of Python, variables that the interpreter reads at its start, another
user. With ``FRESH_INTERPRETERS=1``, as in the version matrix, and where coverage is measured they
always do. For a program that imports nothing, ``subprocess`` is quicker.
"""

from __future__ import annotations

from tests.interpreters.client import Popen, run, started, template, template_pids

__all__ = ["Popen", "run", "started", "template", "template_pids"]
