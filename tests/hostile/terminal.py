"""Runs a command at a terminal of its own, and prints what that terminal was sent. Whoever sits there says no to all questions.

python tests/hostile/terminal.py SECONDS COMMAND…         exits as the command does; after so many seconds that is killed
"""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import sys
import termios
import threading
import time
from contextlib import suppress


def main() -> int:
    leader, follower = pty.openpty()
    settings = termios.tcgetattr(follower)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(follower, termios.TCSANOW, settings)
    streams = {"stdin": follower, "stdout": follower, "stderr": follower}
    process = subprocess.Popen(sys.argv[2:], **streams, preexec_fn=at_its_terminal)  # type: ignore[call-overload]
    os.close(follower)
    end = threading.Timer(float(sys.argv[1]), process.kill)
    end.daemon = True
    end.start()
    threading.Thread(target=answering, args=(leader, process), daemon=True).start()
    with suppress(OSError):  # the last of its terminal was closed
        while data := os.read(leader, 1 << 16):
            sys.stdout.buffer.write(data)
    return process.wait() & 0xFF


def at_its_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def answering(leader: int, process: subprocess.Popen[bytes]) -> None:
    """Whoever asks for a password throws away what was typed before."""
    with suppress(OSError):
        while process.poll() is None:
            os.write(leader, b"n\n")
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
