"""A Python that has imported everything: programs that it starts are forks of one server. A script, no test:

    python -m tests.support.forkserver FOLDER PRELOAD

Importing torch and a framework takes seconds, a fork a few hundredths; PRELOAD is a module that imports them.
The server listens at `FOLDER/socket`; `tests.support.forks` asks it. `FOLDER/python` stands for Python:
whoever starts that gets a fork, with its own arguments, environment, folder and streams; signals reach it,
and it ends as the fork does. What each of them computed is noted in `FOLDER/used`.

A fork is a process with a session of its own. Other than a program that a user starts it ends without taking
the interpreter down, does not say what an import says, compiles a module and renders a picture only if none
before was like it, and does not wait until what Python writes is on the disk.
"""

import _imp
import atexit
import gc
import hashlib
import importlib
import inspect
import json
import marshal
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import traceback
import types
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from multiprocessing import util
from pathlib import Path
from typing import Any, NoReturn

MARK = "MLSCAFFOLD_TEST_RUN"  # an environment variable that all processes of a run have
LABEL = "PYTEST_CURRENT_TEST"  # an environment variable that says what a fork is part of
MOST_BYTES = 200_000  # of a request: arguments and environment
FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
NO_FILES = {"<frozen runpy>": "runpy", "<string>": "__main__"}  # whose frames `inspect.stack`, which torchrun
# calls all the time, would look for in all modules, again and again

SCRIPT = """\
#!{python} -IS
import json, os, signal, socket, sys
arguments = sys.argv[2:] if sys.argv[1:2] == ["-u"] else sys.argv[1:]
first, *others = arguments or [""]
if first not in ("-m", "-c") and not first.endswith(".py") or "multiprocessing" in "".join(others[:1]):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({address!r})
    message = json.dumps([arguments, dict(os.environ), os.getcwd()])
    socket.send_fds(server, [message.encode()], [0, 1, 2])
    server.recv(16)
    for number in {forwarded}:
        signal.signal(number, lambda number, _: server.send(str(number).encode()))
    code = int((server.recv(64) or b"137").split()[0])
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if code != -9 else None
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def main() -> None:
    folder = Path(sys.argv[1])
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        (folder / "socket.new").unlink(missing_ok=True)  # of a server that was too slow
        listener.bind(str(folder / "socket.new"))
        listener.listen(64)
        importlib.import_module(sys.argv[2])
        if "matplotlib" in sys.modules:
            importlib.import_module("tests.support.pictures").remember(folder / "pictures")
        remember_code(folder / "code")
        os.fsync = sync_nothing  # type: ignore[assignment]
        script, forwarded = folder / "python", [int(number) for number in FORWARDED]
        address = str(folder / "socket")
        script.write_text(SCRIPT.format(python=sys.executable, address=address, forwarded=forwarded))
        script.chmod(0o755)
        gc.collect()
        gc.freeze()  # what is here is neither looked through nor copied in a child
        (folder / "socket.new").rename(address)
        Server(listener, script).serve()


def remember_code(folder: Path) -> None:
    """Let forks keep what they compile in a folder: projects of many tests have the same modules."""
    folder.mkdir(parents=True, exist_ok=True)
    compile_ = SourceFileLoader.source_to_code

    def source_to_code(self: SourceFileLoader, data: Any, path: Any, **options: Any) -> types.CodeType:
        known = folder / hashlib.sha256(bytes(data)).hexdigest()
        if not known.exists():
            code: types.CodeType = compile_(self, data, path, **options)
            copy = folder / f"{known.name}.{os.getpid()}"
            copy.write_bytes(marshal.dumps(code))
            copy.replace(known)
            return code
        code = marshal.loads(known.read_bytes())
        getattr(_imp, "_fix_co_filename")(code, path)  # noqa: B009 (as Python does; no type knows it)
        return code

    SourceFileLoader.source_to_code = source_to_code  # type: ignore[assignment, method-assign]


def sync_nothing(_: object) -> None:
    """Whether a file outlives the machine, no test sees."""


class Server:
    """Forks for each program that is asked for, and tells how it ended."""

    def __init__(self, listener: socket.socket, script: Path) -> None:
        self.listener, self.script = listener, script
        self.running: dict[int, socket.socket] = {}  # by process
        self.labels: dict[int, str] = {}
        self.used = script.with_name("used")
        self.woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self.wake = wake

    def serve(self) -> NoReturn:
        while True:
            waited: list[Any] = [self.listener, self.woken, *self.running.values()]
            ready, _, _ = select.select(waited, [], [])
            if self.woken in ready:
                os.read(self.woken, 4096)
                self.reap()
            if self.listener in ready:
                self.start(self.listener.accept()[0])
            for process, connection in list(self.running.items()):
                if connection in ready and process in self.running:
                    self.hear(process, connection)

    def start(self, connection: socket.socket) -> None:
        message, files, _, _ = socket.recv_fds(connection, MOST_BYTES, 3)
        if message:
            arguments, environment, folder = json.loads(message)
            process = os.fork()
            if process == 0:
                for other in (self.listener, connection, *self.running.values()):
                    other.close()
                signal.set_wakeup_fd(-1)
                for number in (self.woken, self.wake):
                    os.close(number)
                be_program(arguments, environment, folder, files, self.script)
            self.running[process] = connection
            self.labels[process] = environment.get(LABEL, "")
            connection.send(str(process).encode())
        else:
            connection.close()
        for file in files:
            os.close(file)

    def hear(self, process: int, connection: socket.socket) -> None:
        """Forward a signal; a program whose caller is gone is killed, with all of its session's group."""
        try:
            number = connection.recv(16)
        except ConnectionError:
            number = b""
        try:
            if number:
                os.kill(process, int(number))
            else:
                os.killpg(process, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended just now, or has not begun its session
        if not number:
            self.running.pop(process).close()

    def reap(self) -> None:
        while True:
            try:
                process, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not process:
                return
            seconds = used.ru_utime + used.ru_stime
            with self.used.open("a") as file:
                print(self.labels.pop(process), f"{seconds:.3f}", sep="\t", file=file)
            if connection := self.running.pop(process, None):
                with suppress(OSError):  # nobody may wait for it any more
                    connection.send(f"{os.waitstatus_to_exitcode(status)} {seconds:.3f}".encode())
                connection.close()


def be_program(
    arguments: list[str], environment: dict[str, str], folder: str, files: list[int], script: Path
) -> NoReturn:
    """Be `python *arguments`."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()  # so that what it starts can be ended with it
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    open_streams(environment.get("PYTHONIOENCODING", "utf-8"))
    atexit._clear()  # what imports clean up at the end is the server's, such as wandb's folder for media
    atexit.register(util._exit_function)  # type: ignore[attr-defined]
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # as the environment says
    os.chdir(folder)
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.pycache_prefix = environment.get("PYTHONPYCACHEPREFIX")
    if mark := environment.get(MARK):  # forks of this process have the open file, others the variable
        os.memfd_create(mark, 0)
    for frame, name in NO_FILES.items():
        inspect.modulesbyfile[str(Path(frame).absolute())] = name
    sys.executable = str(script)
    sys.orig_argv = [sys.executable, *arguments]
    code = end_of(arguments)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def open_streams(encoding: str) -> None:
    """As Python does at its start: a stream asks once whether it is a terminal, or can be sought in."""
    sys.stdin = open(0, encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding, "backslashreplace", closefd=False)  # noqa: SIM115


def end_of(arguments: list[str]) -> int:
    """Run a program; return its exit code, or the signal that it ends by, as a negative number."""
    try:
        run(arguments)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        traceback.print_exc()
        return -signal.SIGINT
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def run(arguments: list[str]) -> None:
    """Do what `python *arguments` does."""
    first, *others = arguments
    sys.argv = {"-m": others, "-c": ["-c", *others[1:]]}.get(first, arguments)
    beside = str(Path.cwd()) if first == "-m" else "" if first == "-c" else str(Path(first).resolve().parent)
    sys.path[:0] = [beside, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if first == "-m":
        runpy.run_module(others[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(others[0], "<string>", "exec"), main.__dict__)
    else:
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    main()
