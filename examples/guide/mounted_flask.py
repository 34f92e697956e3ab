"""Metrics mounted beside a Flask application.

::

    gunicorn --bind 127.0.0.1:8000 guide.mounted_flask:app
"""

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from flask_prom import FlaskProm
from web_prom import make_wsgi_app

app = Flask(__name__)
FlaskProm(app, path="")  # measures, and answers no path itself
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/internal/metrics": make_wsgi_app()})  # type: ignore[method-assign]


@app.get("/teapots/<int:number>")
def teapot(number: int) -> dict[str, int]:
    return {"teapot": number}
