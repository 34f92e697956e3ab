"""``web-prom serve``: the exporter as a separate process."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from web_prom.config.exporter_settings import IMPORT_PATH_VARIABLE, OPTIONS, load_exporter_config
from web_prom.errors import ConfigError, ListenError
from web_prom.exporter.logging_setup import configure_logging
from web_prom.multiprocess.directory.environment import (
    DIR_VARIABLE,
    configured_directory,
    unset_directory,
)

logger = logging.getLogger("web_prom")

HELP = "answer scrapes for all workers that share a directory"
DESCRIPTION = "Answer scrapes on a separate port, for all workers that share a directory."
EPILOG = """\
Every option except --dir can also be set in the environment (PROM_BIND, PROM_BEARER_TOKEN_FILE and so on).
Options have precedence. The exit code is 0 after SIGTERM or SIGINT, 1 if the process cannot listen, and 2 if
an option is not allowed."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument(
        "--dir",
        metavar="DIR",
        help=f"the directory that the workers share; default: ${DIR_VARIABLE}",
    )
    for name, (metavar, text) in OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, help=text)
    # Options that the supervisor passes.
    parser.add_argument("--listener", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--heartbeat", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--server", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--log-file", type=Path, help=argparse.SUPPRESS)


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Answer scrapes until a signal arrives; return the exit code."""
    directory = configured_directory() if given.dir is None else given.dir
    if not directory:
        parser.error(
            f"name the directory that the workers share: --dir DIR, or {DIR_VARIABLE} in the environment"
        )
    configure_logging(given.log_file)
    # These entries are for a callable of the application. They come last, so that none hides a standard
    # module.
    entries = os.environ.pop(IMPORT_PATH_VARIABLE, "").split(os.pathsep)
    sys.path += [entry for entry in entries if entry and entry not in sys.path]
    # prometheus_client reads the variable when it is imported. Without it, no instrument of this process
    # can write to the directory.
    unset_directory()
    options = {name: getattr(given, name) for name in OPTIONS if getattr(given, name) is not None}
    try:
        config = load_exporter_config(os.environ, options)
        if config.bind is None and given.listener is None:
            parser.error("name the address to listen at: --bind HOST:PORT, or PROM_BIND in the environment")
        from web_prom.exporter.run import serve
        from web_prom.multiprocess.directory.server_directory import set_server_pid

        if given.server is not None:
            set_server_pid(given.server)
        serve(
            Path(directory),
            config,
            listener=given.listener,
            parent=given.parent,
            heartbeat=given.heartbeat,
        )
    except (ConfigError, ListenError) as error:
        logger.error("%s", error)
        return 2 if isinstance(error, ConfigError) else 1
    return 0
