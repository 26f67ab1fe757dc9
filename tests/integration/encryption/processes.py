"""One target as a process of its own, as the supervisor and a container start it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit

from core.postgres.logins import url_as
from core.settings import Settings

READY_S = 60.0


class Target:
    """A started target; `said` is its word to the supervisor, `base_url` where its API listens."""

    def __init__(self, target: str, settings: Settings, logins: dict[str, str], **environment: str) -> None:
        assert settings.database_url is not None
        assert settings.redis_url is not None
        self._target = target
        url = settings.database_url.get_secret_value()

        def as_login(kind: str) -> str:
            login = urlsplit(logins[kind])
            return url_as(url, str(login.username), str(login.password))

        kind = {"api": "api", "ingest": "device", "historian": "historian"}.get(target, "worker")
        self._environment = {
            **os.environ,
            "QORGAN_DATABASE_URL": as_login(kind),
            "QORGAN_DEVICE_DATABASE_URL": as_login("device"),
            "QORGAN_REDIS_URL": settings.redis_url.get_secret_value(),
            "QORGAN_DATA_DIR": str(settings.data_dir),
            "QORGAN_SHARD_COUNT": str(settings.shard_count),
            "QORGAN_PORT": "0",
            "QORGAN_LOG_FORMAT": "json",
            "QORGAN_FORBIDDEN_NETWORKS": "",
            **({"QORGAN_KEYS": settings.keys.get_secret_value()} if settings.keys is not None else {}),
            **environment,
        }
        self.said: dict[str, Any] = {}
        self.log = ""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.said['port']}"

    async def __aenter__(self) -> Target:
        reading, writing = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "infra.run", "--target", self._target, "--ready", str(writing)],
            env=self._environment, pass_fds=(writing,), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            line = await asyncio.wait_for(asyncio.to_thread(pipe.readline), READY_S)
        self.said = json.loads(line or b"{}")
        if self.said.get("error") != "":
            await self.__aexit__()
            raise AssertionError(f"{self._target} did not start: {self.said} {self.log}")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.terminate()
        _, log = await asyncio.to_thread(self._process.communicate, timeout=READY_S)
        self.log = log.decode(errors="replace")
