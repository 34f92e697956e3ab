"""The exporter beside a gunicorn server, as its master sees it: started, kept in step, handed over, ended."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

from web_prom.config.addresses import Address
from web_prom.config.exporter_settings import IMPORT_PATH_VARIABLE, OPTIONS, load_exporter_config
from web_prom.config.settings import PREFIX, Config
from web_prom.errors import ConfigError, ListenError
from web_prom.http_server.listener import adopt, listen, receive_listener, socket_timeout
from web_prom.multiprocess.directory.environment import unset_directory

_INHERITED = "WEB_PROM_LISTENER"
"""What an upgrade tells the new server: the address, and the descriptor of the socket that listens there."""

_ANSWER_SECONDS = 2.0
# More than the supervisor gives its exporter.
_END_SECONDS = 9.0
# From a supervisor's start to that of the next one, should it be gone: doubled each time, until a reload.
_FIRST_DELAY_SECONDS = 1.0
_LAST_DELAY_SECONDS = 60.0


class Plan(NamedTuple):
    """What exporter there should be; another one means another process."""

    bind: Address
    directory: Path
    user: tuple[int, int]
    log_file: str | None
    settings: tuple[tuple[str, str], ...]


class Companion:
    """The exporter process of a server, if the environment asks for one with ``PROM_BIND``.

    Used by the master process alone; workers inherit it and do not touch it. What it holds of the exporter is
    one end of a socket, and no process id: the master reaps children that it does not know, and the id may be
    another process's the moment after.
    """

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._channel: socket.socket | None = None
        # When to start the next one, should this one be gone.
        self._due = 0.0
        self._delay = _FIRST_DELAY_SECONDS

    def check(self) -> None:
        """Check the exporter's settings as the environment has them.

        Raises:
            ConfigError: One is not allowed.
        """
        _settings()

    def follow(self, server: Any, directory: Path) -> None:
        """Have the exporter that the environment asks for now: start one, replace it, or end it.

        An exporter that is replaced hands its port on. Errors are logged; the server goes on.
        """
        try:
            wanted = _plan(server, directory)
        except ConfigError as error:
            server.log.error("The exporter stays as it is: %s", error)
            return
        if wanted == self._plan and (wanted is None or self._is_alive()):
            return
        listener = self._listener() if wanted and self._plan and wanted.bind == self._plan.bind else None
        former, self._channel, self._plan = self._channel, None, None
        if former is not None:
            with contextlib.suppress(OSError), former:
                former.shutdown(socket.SHUT_WR)
        self._delay = _FIRST_DELAY_SECONDS
        if wanted is not None:
            self._start(server, wanted, listener)

    def watch(self, server: Any) -> None:
        """Have the master look after the exporter each time that it looks after its workers.

        gunicorn has no hook that it calls regularly, and none for a child that is no worker. A thread is out
        of the question in a process that forks. So the method that the main loop calls at least once a
        second, in each release from 21 to 27, is wrapped on this one server object.
        """
        manage = getattr(server, "manage_workers", None)
        if manage is None or getattr(manage, "_web_prom", False):
            return

        def manage_workers(*args: Any, **options: Any) -> Any:
            self.look_after(server)
            return manage(*args, **options)

        manage_workers._web_prom = True  # type: ignore[attr-defined]
        server.manage_workers = manage_workers

    def look_after(self, server: Any) -> None:
        """Start another exporter if its supervisor is gone. Never raises, and waits for nothing."""
        plan, now = self._plan, time.monotonic()
        if plan is None or self._is_alive():
            return
        try:
            if self._channel is not None:
                if now - self._due > _LAST_DELAY_SECONDS:
                    self._delay = _FIRST_DELAY_SECONDS
                # The exporter ends with its supervisor, and has the port until then.
                self._due = max(self._due, now + _FIRST_DELAY_SECONDS)
                server.log.error(
                    "The exporter's supervisor is gone; starting another one in %.0f s", self._due - now
                )
                self._channel.close()
                self._channel = None
            elif now >= self._due:
                self._start(server, plan, None)
        except Exception as error:
            server.log.error("The exporter cannot be started: %s", error)

    def hand_over(self, environ: MutableMapping[str, str]) -> None:
        """Hand the listening socket on to the server that is about to replace this process. Never raises."""
        environ.pop(_INHERITED, None)
        listener = self._listener()
        if listener is not None and self._plan is not None:
            listener.set_inheritable(True)
            environ[_INHERITED] = f"{listener.detach()} {self._plan.bind}"

    def end(self) -> None:
        """End the exporter and wait until it has ended. Never raises."""
        channel, self._channel, self._plan = self._channel, None, None
        if channel is None:
            return
        with contextlib.suppress(OSError), channel:
            # Forked workers have this end open as well: to close it here would tell the supervisor nothing.
            channel.shutdown(socket.SHUT_WR)
            with socket_timeout(channel, _END_SECONDS):
                while channel.recv(1):
                    pass

    def _is_alive(self) -> bool:
        if self._channel is None:
            return False
        try:
            return bool(self._channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _listener(self) -> socket.socket | None:
        """Return the exporter's listening socket."""
        if self._channel is None:
            return None
        with contextlib.suppress(OSError), socket_timeout(self._channel, _ANSWER_SECONDS):
            self._channel.sendall(b"?")
            return receive_listener(self._channel)
        return None

    def _start(self, server: Any, plan: Plan, listener: socket.socket | None) -> None:
        self._plan, self._due = plan, time.monotonic() + self._delay
        self._delay = min(2 * self._delay, _LAST_DELAY_SECONDS)
        listener = listener or _inherited(plan.bind)
        try:
            listener = listener or listen(plan.bind)
        except ListenError as error:
            server.log.error(
                "No exporter yet: %s; trying again every few seconds. The server goes on without it.", error
            )
        ours, theirs = socket.socketpair()
        try:
            _spawn(server, plan, theirs, listener)
            self._channel = ours
        except (OSError, subprocess.SubprocessError) as error:
            server.log.error("The exporter cannot be started: %s; trying again", error)
            ours.close()
        finally:
            theirs.close()
            if listener is not None:
                listener.close()


companion = Companion()
"""This process's; a server is one process, and gunicorn reads a configuration file again on HUP."""


def _settings() -> Config:
    # A callable may be in a module of the application, which the master is not to import.
    names = {PREFIX + name.upper() for name in OPTIONS if name != "allow_scrape"} | {f"{PREFIX}ENABLED"}
    return load_exporter_config({key: text for key, text in os.environ.items() if key in names})


def _plan(server: Any, directory: Path) -> Plan | None:
    config = _settings()
    if config.bind is None or not config.enabled:
        return None
    settings = tuple(sorted((key, text) for key, text in os.environ.items() if key.startswith(PREFIX)))
    return Plan(config.bind, directory, (server.cfg.uid, server.cfg.gid), _log_file(server), settings)


def _log_file(server: Any) -> str | None:
    """Return the file of the server's error log, if it is one."""
    for handler in server.log.error_log.handlers:
        path = getattr(handler, "baseFilename", None)
        if path is not None:
            return str(path)
    return None


def _inherited(bind: Address) -> socket.socket | None:
    """Return the listening socket that the server handed on which this one replaces."""
    descriptor, _, address = os.environ.pop(_INHERITED, "").partition(" ")
    if not descriptor:
        return None
    with contextlib.suppress(OSError, ValueError):
        listener = adopt(int(descriptor))
        if address == str(bind):
            return listener
        listener.close()
    return None


def _spawn(server: Any, plan: Plan, channel: socket.socket, listener: socket.socket | None) -> None:
    arguments = [f"--parent={os.getpid()}", f"--channel={channel.fileno()}", f"--bind={plan.bind}"]
    descriptors = [channel.fileno()]
    if listener is not None:
        arguments.append(f"--listener={listener.fileno()}")
        descriptors.append(listener.fileno())
    if plan.log_file is not None:
        arguments.append(f"--log-file={plan.log_file}")
    process = subprocess.Popen(  # noqa: S603 - what it runs is this package
        [
            *(sys.executable, "-m", "web_prom.exporter.supervisor"),
            *(*arguments, f"--dir={plan.directory}", f"--server={os.getpid()}"),
        ],
        stdin=subprocess.DEVNULL,
        pass_fds=descriptors,
        env=_environ(),
        **_identity(server),
    )
    # It is the master that reaps its children.
    process.returncode = 0


def _identity(server: Any) -> dict[str, Any]:
    """Return the user and groups that the workers have, for a child of a master that has others."""
    uid, gid = server.cfg.uid, server.cfg.gid
    if os.geteuid() != 0 or (uid, gid) == (os.geteuid(), os.getegid()):
        return {}
    groups = [gid]
    if server.cfg.initgroups:
        import pwd

        with contextlib.suppress(KeyError):
            groups = os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    return {"user": uid, "group": gid, "extra_groups": groups}


def _environ() -> dict[str, str]:
    """Return the environment of a child that finds this package, and no other in the working directory."""
    environ = {key: text for key, text in os.environ.items() if key != _INHERITED}
    unset_directory(environ)
    environ[IMPORT_PATH_VARIABLE] = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    # `-m` would put the application's directory first, and a module there before the standard library's.
    environ["PYTHONSAFEPATH"] = "1"
    import sysconfig  # which reads the environment

    home = str(Path(__file__).parents[2])
    if home not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        before = environ.get("PYTHONPATH")
        environ["PYTHONPATH"] = f"{home}{os.pathsep}{before}" if before else home
    return environ
