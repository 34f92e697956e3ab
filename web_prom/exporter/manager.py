"""Starts and stops the exporter process of a gunicorn server, in the master process."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from web_prom.config.addresses import Address
from web_prom.config.exporter_settings import IMPORT_PATH_VARIABLE, load_exporter_config
from web_prom.errors import ConfigError, ListenError
from web_prom.exporter.specification import VARIABLES, ExporterSpec, exporter_variables, wanted_spec
from web_prom.gunicorn_types import GunicornServer
from web_prom.http_server.listener import adopt, listen, receive_listener, socket_timeout
from web_prom.multiprocess.directory.environment import unset_directory

_LISTENER_VARIABLE = "WEB_PROM_LISTENER"
"""Set for a server that replaces this one: the descriptor of the listening socket, and its address."""

_RESPONSE_SECONDS = 2.0
# More than the supervisor gives its exporter to end.
_STOP_SECONDS = 9.0
# The time from the start of a supervisor to the start of the next one, if it exits. Each start doubles it,
# until a reload.
_FIRST_DELAY_SECONDS = 1.0
_LAST_DELAY_SECONDS = 60.0


class ExporterManager:
    """Manages the exporter process of a server, if ``PROM_BIND`` is in the environment.

    Only the master process uses it. Workers inherit it and do not touch it. It has one end of a socket to the
    supervisor of the exporter, and no process id: the master waits for all its children, and the system may
    give the id to another process immediately afterwards.
    """

    def __init__(self) -> None:
        self._spec: ExporterSpec | None = None
        self._channel: socket.socket | None = None
        # When to start the next supervisor, if this one exits.
        self._next_start = 0.0
        self._delay = _FIRST_DELAY_SECONDS
        # The exporter's variables, when they were allowed last; None before a check.
        self._allowed: dict[str, str] | None = None

    def check_settings(self, environ: Mapping[str, str]) -> None:
        """Check the exporter's settings in the environment of the workers.

        Raises:
            ConfigError: A setting is not allowed.
        """
        variables = exporter_variables(environ)
        load_exporter_config(variables)
        self._allowed = variables

    def keep_allowed_settings(self, server: GunicornServer) -> None:
        """In a reload, put the former settings into ``raw_env`` if one is not allowed; log the error.

        Otherwise a measured application would refuse the settings, and gunicorn would end.
        """
        try:
            self.check_settings({**os.environ, **server.cfg.env})
        except ConfigError as error:
            server.log.error("The exporter is not changed: %s", error)
            if self._allowed is not None:
                others = [entry for entry in server.cfg.raw_env if entry.partition("=")[0] not in VARIABLES]
                # Only what the environment lacks: gunicorn may log raw_env.
                former = [f"{key}={text}" for key, text in self._allowed.items() - os.environ.items()]
                server.cfg.set("raw_env", [*others, *former])

    def reconcile(self, server: GunicornServer, directory: Path) -> None:
        """Start, replace or stop the exporter, according to the settings in the environment.

        An exporter that is replaced passes its port to the next one. Errors are logged, and the server
        continues.
        """
        try:
            wanted = wanted_spec(server, directory)
        except ConfigError as error:
            server.log.error("The exporter is not changed: %s", error)
            return
        if wanted == self._spec and (wanted is None or self._is_running()):
            return
        keeps_port = wanted is not None and self._spec is not None and wanted.bind == self._spec.bind
        listener = self._request_listener() if keeps_port else None
        former, self._channel, self._spec = self._channel, None, None
        if former is not None:
            with contextlib.suppress(OSError), former:
                former.shutdown(socket.SHUT_WR)
        self._delay = _FIRST_DELAY_SECONDS
        if wanted is not None:
            self._start(server, wanted, listener)

    def watch(self, server: GunicornServer) -> None:
        """Call :meth:`restart_if_exited` each time that the master manages its workers.

        gunicorn has no hook that it calls regularly, and none for a child that is not a worker. A process
        that forks should have no threads. So ``manage_workers`` of this one server object is wrapped: the
        main loop calls it at least once a second, in each release from 21 to 27.
        """
        manage = getattr(server, "manage_workers", None)
        if manage is None or getattr(manage, "_web_prom", False):
            return

        def manage_workers(*args: Any, **options: Any) -> Any:
            self.restart_if_exited(server)
            return manage(*args, **options)

        manage_workers._web_prom = True  # type: ignore[attr-defined]
        server.manage_workers = manage_workers  # type: ignore[attr-defined]

    def restart_if_exited(self, server: GunicornServer) -> None:
        """Start another supervisor if the present one has exited. Never raises, and never waits."""
        spec, now = self._spec, time.monotonic()
        if spec is None or self._is_running():
            return
        try:
            if self._channel is not None:
                if now - self._next_start > _LAST_DELAY_SECONDS:
                    self._delay = _FIRST_DELAY_SECONDS
                # The exporter ends with its supervisor. Until then it keeps the port.
                self._next_start = max(self._next_start, now + _FIRST_DELAY_SECONDS)
                server.log.error(
                    "The exporter's supervisor has exited; starting another one in %.0f s",
                    self._next_start - now,
                )
                self._channel.close()
                self._channel = None
            elif now >= self._next_start:
                self._start(server, spec, None)
        except Exception as error:
            server.log.error("The exporter cannot be started: %s", error)

    def export_listener(self, environ: MutableMapping[str, str]) -> None:
        """Pass the listening socket to the server that is about to replace this process. Never raises.

        Args:
            environ: The environment of that server.
        """
        environ.pop(_LISTENER_VARIABLE, None)
        listener = self._request_listener()
        if listener is not None and self._spec is not None:
            listener.set_inheritable(True)
            environ[_LISTENER_VARIABLE] = f"{listener.detach()} {self._spec.bind}"

    def stop(self) -> None:
        """Stop the exporter and wait until it has exited. Never raises."""
        channel, self._channel, self._spec = self._channel, None, None
        if channel is None:
            return
        with contextlib.suppress(OSError), channel:
            # Forked workers have this end open too. So the supervisor would not notice that it is closed
            # here.
            channel.shutdown(socket.SHUT_WR)
            with socket_timeout(channel, _STOP_SECONDS):
                while channel.recv(1):
                    pass

    def _is_running(self) -> bool:
        if self._channel is None:
            return False
        try:
            return bool(self._channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _request_listener(self) -> socket.socket | None:
        """Return the exporter's listening socket, which the supervisor sends."""
        if self._channel is None:
            return None
        with contextlib.suppress(OSError), socket_timeout(self._channel, _RESPONSE_SECONDS):
            self._channel.sendall(b"?")
            return receive_listener(self._channel)
        return None

    def _start(self, server: GunicornServer, spec: ExporterSpec, listener: socket.socket | None) -> None:
        self._spec, self._next_start = spec, time.monotonic() + self._delay
        self._delay = min(2 * self._delay, _LAST_DELAY_SECONDS)
        listener = listener or _inherited_listener(spec.bind)
        try:
            listener = listener or listen(spec.bind)
        except ListenError as error:
            server.log.error(
                "No exporter yet: %s; trying again every few seconds. The server continues without it.", error
            )
        own, other = socket.socketpair()
        try:
            _start_supervisor(server, spec, other, listener)
            self._channel = own
        except (OSError, subprocess.SubprocessError) as error:
            server.log.error("The exporter cannot be started: %s; trying again", error)
            own.close()
        finally:
            other.close()
            if listener is not None:
                listener.close()


manager = ExporterManager()
"""The manager of this process. It is global because gunicorn reads a configuration file again on HUP."""


def _inherited_listener(bind: Address) -> socket.socket | None:
    """Return the listening socket of the server that this one replaces."""
    descriptor, _, address = os.environ.pop(_LISTENER_VARIABLE, "").partition(" ")
    if not descriptor:
        return None
    with contextlib.suppress(OSError, ValueError):
        listener = adopt(int(descriptor))
        if address == str(bind):
            return listener
        listener.close()
    return None


def _start_supervisor(
    server: GunicornServer, spec: ExporterSpec, channel: socket.socket, listener: socket.socket | None
) -> None:
    arguments = [f"--parent={os.getpid()}", f"--channel={channel.fileno()}", f"--bind={spec.bind}"]
    descriptors = [channel.fileno()]
    if listener is not None:
        arguments.append(f"--listener={listener.fileno()}")
        descriptors.append(listener.fileno())
    if spec.log_file is not None:
        arguments.append(f"--log-file={spec.log_file}")
    process = subprocess.Popen(  # noqa: S603 - the program is this package
        [
            *(sys.executable, "-m", "web_prom.exporter.supervisor"),
            *(*arguments, f"--dir={spec.directory}", f"--server={os.getpid()}"),
        ],
        stdin=subprocess.DEVNULL,
        pass_fds=descriptors,
        env=_child_environ(),
        **_child_user(server),
    )
    # The master waits for its children itself: keep Popen from doing so.
    process.returncode = 0


def _child_user(server: GunicornServer) -> dict[str, Any]:
    """Return the user and the groups of the workers, as options of Popen, if the master has others."""
    uid, gid = server.cfg.uid, server.cfg.gid
    if os.geteuid() != 0 or (uid, gid) == (os.geteuid(), os.getegid()):
        return {}
    groups = [gid]
    if server.cfg.initgroups:
        import pwd

        with contextlib.suppress(KeyError):
            groups = os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    return {"user": uid, "group": gid, "extra_groups": groups}


def _child_environ() -> dict[str, str]:
    """Return an environment in which a child imports this package, and nothing from the working directory."""
    environ = {key: text for key, text in os.environ.items() if key != _LISTENER_VARIABLE}
    unset_directory(environ)
    environ[IMPORT_PATH_VARIABLE] = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    # With `-m`, Python would search the working directory before the standard library.
    environ["PYTHONSAFEPATH"] = "1"
    import sysconfig  # imported late, because it reads the environment

    root = str(Path(__file__).parents[2])
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        before = environ.get("PYTHONPATH")
        environ["PYTHONPATH"] = f"{root}{os.pathsep}{before}" if before else root
    return environ
