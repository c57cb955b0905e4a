"""Run as a program: shuts this process off from every network, then runs featstore's commands in it.

Two fault injectors: an audit hook refuses sockets that Python opens and says where; on Linux a filter in the kernel
ends the process when anything else, such as a thread of a native library, asks for one.
"""

from __future__ import annotations

import ctypes
import json
import platform
import socket
import struct
import sys
import time

__all__ = ["main", "shut"]

_EVENTS = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
_NUMBERS = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}  # audit architecture, number of socket()
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_LATER = 10.0  # seconds; ONNX Runtime's own reports began after 8
_ALLOW, _KILL = 0x7FFF0000, 0x80000000


def shut() -> bool:
    """Forbids internet sockets; returns whether the kernel forbids them too."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "socket.__new__" and arguments[1] in (socket.AF_INET, socket.AF_INET6, -1):
            raise AssertionError("a socket was opened")
        if event in _EVENTS and not (event in ("socket.connect", "socket.bind") and isinstance(arguments[1], str)):
            raise AssertionError(f"the network was used: {event} {arguments[1:]}")

    sys.addaudithook(hook)
    return _filtered()


def _filtered() -> bool:
    if sys.platform != "linux" or platform.machine() not in _NUMBERS:
        return False
    architecture, number = _NUMBERS[platform.machine()]
    family = 16  # offset of the first argument in struct seccomp_data
    program = [
        (_LOAD, 0, 0, 4), (_EQUAL, 0, 6, architecture), (_LOAD, 0, 0, 0), (_EQUAL, 0, 4, number),
        (_LOAD, 0, 0, family), (_EQUAL, 1, 0, socket.AF_INET), (_EQUAL, 0, 1, socket.AF_INET6),
        (_RETURN, 0, 0, _KILL), (_RETURN, 0, 0, _ALLOW),
    ]  # fmt: skip
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *line) for line in program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    own = Program(len(program), ctypes.cast(code, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, seccomp, filter_mode = 38, 22, 2
    zero = ctypes.c_ulong(0)
    if libc.prctl(no_new_privileges, ctypes.c_ulong(1), zero, zero, zero) != 0:
        return False
    return bool(libc.prctl(seccomp, ctypes.c_ulong(filter_mode), ctypes.byref(own), zero, zero) == 0)


def main(commands: list[list[str]]) -> None:
    """Runs each command; the first that fails ends all. Waits then for what reports from a thread, some time later."""
    from featstore.cli import main as featstore

    for command in commands:
        print("$ featstore", *command, file=sys.stderr)
        try:
            featstore(command)
        except SystemExit as error:
            if error.code:
                raise
    time.sleep(_LATER)


if __name__ == "__main__":
    shut()
    main(json.loads(sys.argv[1]))
