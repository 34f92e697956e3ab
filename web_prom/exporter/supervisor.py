"""The supervisor: a small process between gunicorn's master and the exporter. It restarts the exporter.

The supervisor is not a thread of the master, because the master forks. The exporter is not a child of the
master, because the master takes exit code 3 or 4 of any child for a worker that cannot boot, and stops.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from web_prom.config.addresses import Address, parse_address
from web_prom.errors import ListenError
from web_prom.exporter.heartbeat import HeartbeatMonitor
from web_prom.exporter.logging_setup import configure_logging
from web_prom.exporter.parent_watch import POLL_SECONDS, ParentWatch
from web_prom.http_server.listener import adopt, listen, send_listener

logger = logging.getLogger("web_prom")

# The time from an exporter's exit to the start of the next one. Each restart doubles it, until an exporter
# has run for as long as the last delay.
_FIRST_DELAY_SECONDS = 0.1
_LAST_DELAY_SECONDS = 60.0
# While another process uses the port.
_LISTEN_RETRY_SECONDS = 2.0
# More than the exporter gives its open requests.
_STOP_SECONDS = 7.0

# At a terminal these signals reach this process too, but they are meant for the master.
_IGNORED_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGQUIT)


class Supervisor:
    """Keeps one exporter running while the parent lives, and replaces an exporter that hangs.

    The listening socket stays open here while there is no exporter: scrapes wait and are not refused. The
    parent requests the socket by sending any byte on ``channel``, and stops the supervisor by shutting its
    end down.

    Args:
        channel: A Unix socket to the parent.
        parent_watch: Shows whether the parent is alive.
        bind: The address to listen at.
        listener: The listening socket; None to open it here as soon as the address is free.
        arguments: The exporter's command line, without the arguments that this class adds.
    """

    def __init__(
        self,
        channel: socket.socket,
        parent_watch: ParentWatch,
        bind: Address,
        listener: socket.socket | None,
        arguments: Sequence[str],
    ) -> None:
        self._channel = channel
        self._parent_watch = parent_watch
        self._bind = bind
        self._listener = listener
        self._arguments = arguments
        self._exporter: subprocess.Popen[bytes] | None = None
        self._heartbeat: HeartbeatMonitor | None = None
        self._started = 0.0
        self._delay = _FIRST_DELAY_SECONDS
        # When to listen or to start an exporter next.
        self._next_attempt = time.monotonic() if listener else time.monotonic() + _LISTEN_RETRY_SECONDS
        self._stopping = False

    def run(self) -> None:
        """Run until the parent dies, or requests the end."""
        self._install_signal_handlers()
        try:
            while not self._stopping and not self._parent_watch.has_exited:
                self._check_exporter()
                self._wait(min(POLL_SECONDS, max(0.0, self._next_attempt - time.monotonic())))
        finally:
            self._stop_exporter()

    def _install_signal_handlers(self) -> None:
        # Python runs a signal handler when select() returns. The wakeup descriptor makes it return.
        self._wakeup_read, self._wakeup_write = socket.socketpair()
        self._wakeup_read.setblocking(False)
        self._wakeup_write.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in _STOP_SIGNALS:
            signal.signal(number, self._request_stop)
        for number in _IGNORED_SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _request_stop(self, *_: object) -> None:
        self._stopping = True

    def _wait(self, seconds: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(self._wakeup_read, selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in selector.select(seconds)]
        if self._wakeup_read in ready:
            self._wakeup_read.recv(4096)
        if self._channel in ready:
            self._answer_parent()

    def _answer_parent(self) -> None:
        """Send the listening socket if the parent requests it; stop if the parent has shut its end down."""
        try:
            request = self._channel.recv(1)
            if request:
                send_listener(self._channel, self._listener)
        except OSError as error:
            logger.warning("the exporter's supervisor lost the connection to its server: %s", error)
            request = b""
        self._stopping = self._stopping or not request

    def _check_exporter(self) -> None:
        """Start the exporter if none is running and it is time; kill it if it hangs."""
        self._note_exit()
        now = time.monotonic()
        if self._exporter is not None:
            self._next_attempt = now + POLL_SECONDS
            self._kill_if_hung(self._exporter)
        elif now >= self._next_attempt:
            if self._listener is None:
                self._listen()
            if self._listener is not None:
                self._start(self._listener)

    def _note_exit(self) -> None:
        """Log that the exporter has exited, and schedule the next one."""
        if self._exporter is None or self._exporter.poll() is None:
            return
        now = time.monotonic()
        if now - self._started >= _LAST_DELAY_SECONDS:
            self._delay = _FIRST_DELAY_SECONDS
        logger.error(
            "the exporter (pid %d) %s; starting it again in %g s",
            self._exporter.pid,
            _describe_exit(self._exporter.returncode),
            self._delay,
        )
        self._exporter = None
        self._close_heartbeat()
        self._schedule_next()

    def _schedule_next(self) -> None:
        self._next_attempt = time.monotonic() + self._delay
        self._delay = min(2 * self._delay, _LAST_DELAY_SECONDS)

    def _kill_if_hung(self, exporter: subprocess.Popen[bytes]) -> None:
        if self._heartbeat is not None and self._heartbeat.is_overdue():
            logger.error("the exporter (pid %d) hangs; it is killed", exporter.pid)
            self._close_heartbeat()
            exporter.kill()

    def _close_heartbeat(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.close()
        self._heartbeat = None

    def _listen(self) -> None:
        try:
            self._listener = listen(self._bind)
        except ListenError:
            # The server has logged this already.
            self._next_attempt = time.monotonic() + _LISTEN_RETRY_SECONDS

    def _start(self, listener: socket.socket) -> None:
        descriptor = listener.fileno()
        command = [
            *(sys.executable, "-m", "web_prom", "serve"),
            *(f"--listener={descriptor}", f"--parent={os.getpid()}"),
        ]
        try:
            self._heartbeat = heartbeat = HeartbeatMonitor()
            try:
                command.append(f"--heartbeat={heartbeat.write_end}")
                self._exporter = subprocess.Popen(  # noqa: S603 - the program is this package
                    [*command, *self._arguments], pass_fds=[descriptor, heartbeat.write_end]
                )
            finally:
                os.close(heartbeat.write_end)
        except OSError as error:
            self._close_heartbeat()
            logger.error("the exporter cannot be started (%s); trying again in %g s", error, self._delay)
            self._schedule_next()
        self._started = time.monotonic()

    def _stop_exporter(self) -> None:
        # The next server can use the port at once, while the exporter still sends answers.
        if self._listener is not None:
            self._listener.close()
        if self._exporter is None:
            return
        self._exporter.terminate()
        try:
            self._exporter.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._exporter.kill()
            self._exporter.wait()


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the supervisor. Arguments that it does not define are passed to the exporter."""
    parser = argparse.ArgumentParser(prog="web_prom.exporter.supervisor", allow_abbrev=False)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--bind", type=parse_address, required=True)
    parser.add_argument("--listener", type=int)
    parser.add_argument("--log-file", type=Path)
    given, others = parser.parse_known_args(arguments)
    configure_logging(given.log_file)
    if given.log_file:
        others = [*others, f"--log-file={given.log_file}"]
    channel = socket.socket(fileno=given.channel)
    channel.set_inheritable(False)
    listener = None if given.listener is None else adopt(given.listener)
    Supervisor(channel, ParentWatch(given.parent), given.bind, listener, others).run()


if __name__ == "__main__":
    main()
