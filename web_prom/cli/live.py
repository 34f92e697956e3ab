"""``web-prom live URL...``: the live page beside running services."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from web_prom.cli.options import UnreadableTokenError, add_scrape_options, headers_of, positive_seconds
from web_prom.config.addresses import Address, parse_address
from web_prom.multiprocess.directory.environment import unset_directory

if TYPE_CHECKING:
    from web_prom.exposition.http import Response
    from web_prom.live.access import Access
    from web_prom.live.app import LiveApp
    from web_prom.live.source import SnapshotSource

HELP = "show the live page of running services in a browser"
DESCRIPTION = (
    "Serve the live page beside running services, and print its address with a token. The first browser that "
    "opens the address sees the page; the token is then used up. The services need nothing but an address "
    "that answers in Prometheus' text format."
)
EPILOG = """\
The page is served on this machine only, unless --bind says otherwise; over ssh, forward its port. Exit code:
0 after Ctrl-C or SIGTERM, 1 if the process cannot listen, 2 if an option is not allowed, 3 if an argument is
no URL or the token cannot be read."""

UNREADABLE = 3
_DEFAULT_BIND = Address("127.0.0.1", 0)
# The page itself waits for 10 s.
_TIMEOUT_SECONDS = 5.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument(
        "urls",
        metavar="URL",
        nargs="+",
        help="where the metrics are, for example http://127.0.0.1:8000/metrics; several services have a page "
        "each, and a list of them",
    )
    parser.add_argument(
        "--bind",
        type=_address,
        default=_DEFAULT_BIND,
        metavar="HOST:PORT",
        help="where the page is served; default: a free port of 127.0.0.1",
    )
    parser.add_argument(
        "--interval",
        type=positive_seconds,
        default=5.0,
        metavar="SECONDS",
        help="the time between two scrapes; default: 5",
    )
    add_scrape_options(parser, _TIMEOUT_SECONDS)


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Serve the page until a signal arrives; return the exit code."""
    unset_directory()
    # prometheus_client reads the environment when it is imported.
    from web_prom.errors import ListenError, SnapshotError
    from web_prom.http_server.listener import address_of, listen
    from web_prom.http_server.server import ScrapeServer
    from web_prom.live.access import OneTimeAccess
    from web_prom.live.app import LiveApp
    from web_prom.live.session import OneTimeToken
    from web_prom.live.taking import remote_source

    try:
        headers = headers_of(given)
        sources = [
            remote_source(url, headers=headers, timeout=given.timeout, interval_seconds=given.interval)
            for url in given.urls
        ]
        listener = listen(given.bind)
    except (SnapshotError, UnreadableTokenError) as error:
        print(f"cannot show: {error}", file=sys.stderr)
        return UNREADABLE
    except ListenError as error:
        print(error, file=sys.stderr)
        return 1
    token = OneTimeToken()
    access = OneTimeAccess(token)
    pages = LivePages([LiveApp(source, access) for source in sources], given.urls, access)
    server = ScrapeServer(listener, pages)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    address = address_of(listener)
    print(f"http://{address}/#token={token.text}", flush=True)
    print("Open this address in a browser. The token works once. Ctrl-C ends the page.", flush=True)
    if not given.bind.is_loopback:
        print(
            f"Others can reach {address}, and the page is not encrypted: use a loopback address and ssh.",
            file=sys.stderr,
        )
    stop = threading.Event()
    for url, source in zip(given.urls, sources, strict=True):
        threading.Thread(target=_keep, args=(url, source, given.interval, stop), daemon=True).start()
    try:
        server.run()
    finally:
        stop.set()
    return 0


class LivePages:
    """Answers the requests for the pages of several services. Safe to share between threads.

    One service has its page at ``/``. Several have theirs at ``/1/``, ``/2/`` and so on, and a list at ``/``.

    Args:
        apps: The pages.
        titles: What the list calls the services.
        access: Decides who may see the list; the same as that of the pages.
    """

    def __init__(self, apps: Sequence[LiveApp], titles: Sequence[str], access: Access) -> None:
        self._apps = apps
        self._access = access
        self._list = _list_of(titles)

    def __call__(self, environ: Mapping[str, Any]) -> Response:
        """Answer one request, which is described by a WSGI environ. Never raises."""
        from web_prom.exposition.http import text_response

        path = environ.get("PATH_INFO", "")
        if len(self._apps) == 1:
            return self._apps[0].respond(environ, path)
        number, slash, rest = path[1:].partition("/")
        if number.isascii() and number.isdigit() and 0 < int(number[:6]) <= len(self._apps):
            return self._apps[int(number[:6]) - 1].respond(environ, slash + rest)
        # The session begins at the list: the browser then sends its cookie to all pages.
        if path not in ("/", "/session") and not path.startswith("/assets/"):
            return text_response("404 Not Found", "there is no such page; the list of pages is at /\n")
        response = self._apps[0].respond(environ, path)
        if path != "/" or not response.status.startswith("200") or self._access.refusal_for(environ):
            return response
        return self._answer_list(environ, response)

    def _answer_list(self, environ: Mapping[str, Any], page: Response) -> Response:
        """Return the list with the headers of a page."""
        body = b"" if environ.get("REQUEST_METHOD") == "HEAD" else self._list
        left_out = ("Content-Length", "Content-Encoding")
        headers = [header for header in page.headers if header[0] not in left_out]
        return page._replace(headers=[*headers, ("Content-Length", str(len(self._list)))], body=body)


def _list_of(titles: Sequence[str]) -> bytes:
    import html

    from web_prom.live.assets import assets_hash

    links = "".join(
        f'<li><a href="{number}/">{html.escape(title)}</a></li>\n' for number, title in enumerate(titles, 1)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<title>Services - web-prom</title>\n'
        f'<link rel="icon" href="assets/{assets_hash()}/icon.svg">\n'
        f'<link rel="stylesheet" href="assets/{assets_hash()}/live.css">\n</head>\n<body>\n'
        f'<main id="content">\n<h1>Services</h1>\n<ul>\n{links}</ul>\n</main>\n</body>\n</html>\n'
    ).encode()


def _keep(url: str, source: SnapshotSource, interval_seconds: float, stop: threading.Event) -> None:
    """Keep the history of a service. Write to the standard error stream when it fails and when it is back."""
    from web_prom.cli.fetch import reason

    failed = ""
    while not stop.is_set():
        try:
            source.keep_history()
        except Exception as error:
            message = reason(url, error)
            if message != failed:
                print(message, file=sys.stderr, flush=True)
            failed = message
        else:
            if failed:
                print(f"{url} answers again", file=sys.stderr, flush=True)
            failed = ""
        stop.wait(min(interval_seconds, 1.0))


def _address(text: str) -> Address:
    try:
        address = parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no address; allowed: {error}") from None
    assert address is not None
    return address
