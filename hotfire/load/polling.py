"""What the loop waits on. The kernel's own epoll, to be imported before locust: gevent takes it out of `select`."""

import ctypes
import os
import struct
from select import EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, epoll

__all__ = ["EPOLLERR", "EPOLLET", "EPOLLHUP", "EPOLLIN", "EPOLLOUT", "EPOLLRDHUP", "Timer", "epoll"]
TFD_TIMER_ABSTIME, TFD_FLAGS = 1, 0o2004000  # nonblock, cloexec


class Timer:
    """A timerfd: epoll's own timeout is whole milliseconds."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.timerfd_create(1, TFD_FLAGS)  # CLOCK_MONOTONIC
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._set_to = -1

    def set(self, at_ns: int) -> None:
        if at_ns != self._set_to:
            self._set_to = at_ns
            self._libc.timerfd_settime(
                self.fd, TFD_TIMER_ABSTIME, struct.pack("qqqq", 0, 0, *divmod(max(at_ns, 1), 10**9)), None
            )

    def clear(self) -> None:
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return
        self._set_to = -1
