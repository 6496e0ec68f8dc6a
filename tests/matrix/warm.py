"""A Python that has imported everything: programs that are started with it are forks of one server.

A verb that starts others, such as `tune`, starts them with `sys.executable`. The matrix names a script there
that hands its arguments, environment and open files to the server, and ends as the fork does.
"""

import atexit
import inspect
import json
import os
import runpy
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

from tests.matrix.inside import PACKAGE, remember_pictures

MOST_BYTES = 200_000  # of a message: arguments and environment
FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
NO_FILES = {"<frozen runpy>": "runpy", "<string>": "__main__"}  # whose frames `inspect.stack`, which torchrun
# calls all the time, would look for in all modules, again and again

SCRIPT = """\
#!{python} -IS
import json, os, signal, socket, sys
if "-m" not in sys.argv[1:3]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({address!r})
    message = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()])
    socket.send_fds(server, [message.encode()], [0, 1, 2])
    for number in {forwarded}:
        signal.signal(number, lambda number, _: server.send(str(number).encode()))
    code = server.recv(16)
sys.exit(int(code) if code else 137)
"""


def write_script(folder: Path) -> Path:
    """The program that stands for Python; the server listens at `warm.socket` beside it."""
    script = folder / "python"
    forwarded = [int(number) for number in FORWARDED]
    address = str(folder / "warm.socket")
    script.write_text(SCRIPT.format(python=sys.executable, address=address, forwarded=forwarded))
    script.chmod(0o755)
    return script


def seconds_of(script: Path) -> list[tuple[str, float]]:
    """What each program that has ended was part of, and how long it computed."""
    notes = script.with_name("warm.seconds")
    lines = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
    return [("serve" if name == f"{PACKAGE}.serve" else "tune", float(seconds)) for name, seconds in lines]


def serve(script: Path, pictures: Path) -> None:
    """Fork for each program that is started, until this process is ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks for the ends of forks here
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(script.with_name("warm.socket")))
        listener.listen(64)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                run(connection, script, pictures)
            connection.close()


def run(connection: socket.socket, script: Path, pictures: Path) -> NoReturn:
    """Be the program that was asked for."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    atexit._clear()  # what imports clean up at the end is the server's, such as wandb's folder for media
    message, files, _, _ = socket.recv_fds(connection, MOST_BYTES, 3)
    arguments, environment, folder = json.loads(message)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for frame, name in NO_FILES.items():
        inspect.modulesbyfile[str(Path(frame).absolute())] = name
    sys.executable = str(script)
    sys.path[:0] = ["", *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    threading.Thread(target=listen, args=(connection,), daemon=True).start()
    module, *rest = arguments[arguments.index("-m") + 1 :]
    if module.startswith(f"{PACKAGE}."):
        remember_pictures(pictures)
    code = run_module([module, *rest])
    times = os.times()
    with script.with_name("warm.seconds").open("a") as notes:
        notes.write(f"{module} {sum(times[:4])}\n")  # with those of programs that are no forks
    connection.send(str(code).encode())
    os._exit(code)


def listen(connection: socket.socket) -> None:
    """Take signals from whoever stands for this program, and end with it."""
    while number := connection.recv(16):
        os.kill(os.getpid(), int(number))
    os._exit(137)


def run_module(arguments: list[str]) -> int:
    """Do what `python -m` does; return the exit code."""
    sys.argv = arguments
    code = 0
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code
