"""Signals that tell of the process's end: heard by the loop at once, whatever the main thread is doing."""

from __future__ import annotations

import os
import signal
import socket
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import FrameType

from ackpt.engine.threads.loop import LoopThread
from ackpt.errors import WrongThreadError

_NO_FD = -1

Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers


class SignalCatcher:
    """Call `notify` on the loop when one of `signals` arrives, until `release`.

    Python runs a signal's handler on the main thread between two of its own instructions, which may
    be long after the signal when that thread is in a training step. So the interpreter is asked to
    write the signal's number to a socket, too, which it does at once
    (https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd), and the loop reads there.
    `notify` may be called twice for one signal.
    """

    def __init__(
        self, signals: Sequence[signal.Signals], thread: LoopThread, notify: Callable[[int], None]
    ) -> None:
        """Catch from now on; on the main thread.

        Raises:
            WrongThreadError: on another thread, where Python lets nobody catch signals.
        """
        if threading.current_thread() is not threading.main_thread():
            raise WrongThreadError(
                "signals can be caught by the main thread only; begin there, or leave out 'preemption' and "
                "call preempt() from a handler of your own"
            )
        self._signals = frozenset(int(each) for each in signals)
        self._thread = thread
        self._notify = notify
        self._released = False
        self._mask: set[int] | None = None
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        thread.watch(self._reading, self._read)
        self._earlier_fd = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        self._earlier = {number: signal.signal(number, self._handle) for number in self._signals}
        # of another run's saver; it may go first, and its end of the socket with it
        owners = (getattr(handler, "__self__", None) for handler in self._earlier.values())
        self._previous = next((each for each in owners if isinstance(each, SignalCatcher)), None)
        # A fork has the handlers, and the socket; a signal to a data loader's worker is its own affair,
        # also one that comes before the worker has let go of them: it is held back until then.
        me = weakref.ref(self)
        os.register_at_fork(
            before=partial(_hold_back, me),
            after_in_parent=partial(_let_through, me),
            after_in_child=partial(_let_go, me),
        )

    def release(self) -> None:
        """Give the signals back to whom they belonged before; idempotent.

        On another thread than the main one they stay here, and are passed on.
        """
        if self._released or threading.current_thread() is not threading.main_thread():
            self._released = True
            return
        self._restore()
        self._thread.unwatch(self._reading)
        self._writing.close()

    def _restore(self) -> None:
        self._released = True
        for number in self._earlier:
            if signal.getsignal(number) == self._handle:
                signal.signal(number, self._handler_before(number))
        current = signal.set_wakeup_fd(self._fd_before(), warn_on_full_buffer=False)
        if current != self._writing.fileno():  # somebody else has taken the place meanwhile
            signal.set_wakeup_fd(current, warn_on_full_buffer=False)

    def _handler_before(self, number: int) -> Handler:
        """Return what handled the signal before, past all of ours that have been released since."""
        if self._previous is None or not self._previous._released:
            handler = self._earlier[number]
            return signal.SIG_DFL if handler is None else handler  # None: not set by Python
        return self._previous._handler_before(number)

    def _fd_before(self) -> int:
        """Return whose socket the interpreter wrote to before, past all that have been released since."""
        if self._previous is None or not self._previous._released:
            return self._earlier_fd
        return self._previous._fd_before()

    def redeliver(self, number: int) -> None:
        """Let the signal do what it would have done; after `release`, on the main thread.

        Raises:
            SystemExit: it would have ended the process; the status is that of a death by the signal.
        """
        self._pass_on(number, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._released:
            self._pass_on(number, frame)
            return
        self._thread.call_soon(self._notify, number)
        if self._previous is not None and not self._previous._released:
            self._previous._handle(number, frame)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        handler = self._earlier.get(number)
        if callable(handler):
            handler(number, frame)
        elif handler is not signal.SIG_IGN:
            raise SystemExit(128 + number)

    def _read(self) -> None:
        """Pass on what the interpreter wrote; on the loop."""
        numbers = self._reading.recv(4096)
        before = self._fd_before()
        if before != _NO_FD:
            with suppress(OSError):  # whoever it belongs to has closed it, or does not read
                os.write(before, numbers)
        for number in numbers:
            if number in self._signals:
                self._notify(number)

    def hold_back(self) -> None:
        """Hold the signals back from this thread, which is about to fork."""
        if not self._released:
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)

    def let_through(self) -> None:
        """Let them through again."""
        mask, self._mask = self._mask, None
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def let_go_in_fork(self) -> None:
        """Be nothing in a fork: give its signals back, and close its copies of the socket."""
        if not self._released:
            self._restore()
            self._reading.close()
            self._writing.close()
        self.let_through()


def _hold_back(catcher: weakref.ref[SignalCatcher]) -> None:
    alive = catcher()
    if alive is not None:
        alive.hold_back()


def _let_through(catcher: weakref.ref[SignalCatcher]) -> None:
    alive = catcher()
    if alive is not None:
        alive.let_through()


def _let_go(catcher: weakref.ref[SignalCatcher]) -> None:
    alive = catcher()
    if alive is not None:
        alive.let_go_in_fork()
