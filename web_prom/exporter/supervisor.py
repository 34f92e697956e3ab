"""The small process between gunicorn's master and the exporter: holds the port, restarts the exporter.

It is no thread of the master, which forks, and the exporter is not the master's own child: the master would
take exit code 3 or 4 of any child for a worker that cannot boot, and stop.
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
from web_prom.exporter import logging_setup
from web_prom.exporter.heartbeat import Pulse
from web_prom.exporter.parent_watch import POLL_SECONDS, Lifeline
from web_prom.http_server.listener import adopt, listen, send_listener

logger = logging.getLogger("web_prom")

# From an exporter's death to the next one's start: doubled each time, until one lived as long as the last.
_FIRST_DELAY_SECONDS = 0.1
_LAST_DELAY_SECONDS = 60.0
# While the port is somebody else's.
_LISTEN_AGAIN_SECONDS = 2.0
# More than the exporter gives what is under way.
_GRACE_SECONDS = 7.0

# For the master, in one process group with this process at a terminal.
_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_ENDING = (signal.SIGTERM, signal.SIGQUIT)


class Supervisor:
    """Keeps one exporter running for as long as its parent lives, and replaces one that hangs.

    The listening socket stays open here while there is no exporter: scrapes wait instead of being refused.
    The parent's end of ``channel`` asks for it with any byte, and ends the supervisor by shutting it down.

    Args:
        channel: A Unix socket to the parent.
        lifeline: The tie to the parent.
        bind: Where to listen.
        listener: The listening socket; None to open it here as soon as the address is free.
        arguments: The exporter's command line, but for what it gets from here.
    """

    def __init__(
        self,
        channel: socket.socket,
        lifeline: Lifeline,
        bind: Address,
        listener: socket.socket | None,
        arguments: Sequence[str],
    ) -> None:
        self._channel = channel
        self._lifeline = lifeline
        self._bind = bind
        self._listener = listener
        self._arguments = arguments
        self._exporter: subprocess.Popen[bytes] | None = None
        self._pulse: Pulse | None = None
        self._started = 0.0
        self._delay = _FIRST_DELAY_SECONDS
        # When to listen or start next.
        self._due = time.monotonic() if listener else time.monotonic() + _LISTEN_AGAIN_SECONDS
        self._ending = False

    def run(self) -> None:
        """Work until the parent is gone, or wants it."""
        self._heed_signals()
        try:
            while not self._ending and not self._lifeline.cut:
                self._look_after_the_exporter()
                self._wait(min(POLL_SECONDS, max(0.0, self._due - time.monotonic())))
        finally:
            self._end()

    def _heed_signals(self) -> None:
        # A handler written in Python runs when select() returns, and this makes it return.
        self._wakes, wake = socket.socketpair()
        self._wakes.setblocking(False)
        wake.setblocking(False)
        self._wake = wake
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in _ENDING:
            signal.signal(number, self._stop)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)

    def _stop(self, *_: object) -> None:
        self._ending = True

    def _wait(self, seconds: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(self._wakes, selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in selector.select(seconds)]
        if self._wakes in ready:
            self._wakes.recv(4096)
        if self._channel in ready:
            self._answer()

    def _answer(self) -> None:
        try:
            asked = self._channel.recv(1)
            if asked:
                send_listener(self._channel, self._listener)
        except OSError as error:
            logger.warning("the exporter's supervisor lost its server: %s", error)
            asked = b""
        self._ending = self._ending or not asked

    def _look_after_the_exporter(self) -> None:
        now = time.monotonic()
        if self._exporter is not None and self._exporter.poll() is not None:
            if now - self._started >= _LAST_DELAY_SECONDS:
                self._delay = _FIRST_DELAY_SECONDS
            logger.error(
                "the exporter (pid %d) %s; starting it again in %g s",
                self._exporter.pid,
                _how_it_ended(self._exporter.returncode),
                self._delay,
            )
            self._exporter = None
            self._forget_pulse()
            self._due = now + self._delay
            self._delay = min(2 * self._delay, _LAST_DELAY_SECONDS)
        if self._exporter is not None:
            self._due = now + POLL_SECONDS
            self._kill_if_hung(self._exporter)
        elif now >= self._due:
            if self._listener is None:
                self._listen()
            if self._listener is not None:
                self._start(self._listener)

    def _kill_if_hung(self, exporter: subprocess.Popen[bytes]) -> None:
        if self._pulse is not None and self._pulse.is_missing():
            logger.error("the exporter (pid %d) hangs; it is killed", exporter.pid)
            self._forget_pulse()
            exporter.kill()

    def _forget_pulse(self) -> None:
        if self._pulse is not None:
            self._pulse.close()
        self._pulse = None

    def _listen(self) -> None:
        try:
            self._listener = listen(self._bind)
        except ListenError:
            self._due = time.monotonic() + _LISTEN_AGAIN_SECONDS  # the server has told it already

    def _start(self, listener: socket.socket) -> None:
        descriptor = listener.fileno()
        command = [
            sys.executable,
            "-m",
            "web_prom",
            "serve",
            f"--listener={descriptor}",
            f"--parent={os.getpid()}",
        ]
        try:
            self._pulse = pulse = Pulse()
            try:
                command.append(f"--heartbeat={pulse.heart}")
                self._exporter = subprocess.Popen(  # noqa: S603 - what it runs is this package
                    [*command, *self._arguments], pass_fds=[descriptor, pulse.heart]
                )
            finally:
                os.close(pulse.heart)
        except OSError as error:
            self._forget_pulse()
            logger.error("the exporter cannot be started (%s); again in %g s", error, self._delay)
            self._due = time.monotonic() + self._delay
            self._delay = min(2 * self._delay, _LAST_DELAY_SECONDS)
        self._started = time.monotonic()

    def _end(self) -> None:
        # The port is free for the next server at once, whatever the exporter has still to send.
        if self._listener is not None:
            self._listener.close()
        if self._exporter is None:
            return
        self._exporter.terminate()
        try:
            self._exporter.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._exporter.kill()
            self._exporter.wait()


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the supervisor; the arguments that it does not know are the exporter's."""
    parser = argparse.ArgumentParser(prog="web_prom.exporter.supervisor", allow_abbrev=False)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--bind", type=parse_address, required=True)
    parser.add_argument("--listener", type=int)
    parser.add_argument("--log-file", type=Path)
    given, others = parser.parse_known_args(arguments)
    logging_setup.configure(given.log_file)
    if given.log_file:
        others = [*others, f"--log-file={given.log_file}"]
    channel = socket.socket(fileno=given.channel)
    channel.set_inheritable(False)
    listener = None if given.listener is None else adopt(given.listener)
    Supervisor(channel, Lifeline(given.parent), given.bind, listener, others).run()


if __name__ == "__main__":
    main()
