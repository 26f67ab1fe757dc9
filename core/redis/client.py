"""Clients for Redis or Valkey, single node or cluster, and the errors that mean it is away."""

from __future__ import annotations

from typing import Any

import redis.asyncio as redis_asyncio
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

Client = Any
"""redis.asyncio.Redis or RedisCluster: the commands are the same, and none crosses a slot."""

AWAY = (RedisConnectionError, RedisTimeoutError, OSError)
"""Errors that mean Redis is away rather than that the command was wrong."""

__all__ = ["AWAY", "Client", "RedisCluster", "RedisError", "ResponseError", "connect"]


def connect(url: str, *, cluster: bool = False, timeout_s: float = 5.0, max_connections: int = 64) -> Client:
    """A client that connects at its first command. Answers are bytes.

    `timeout_s` bounds every command; a blocking read must ask for less than that. A connection found broken is
    made again once, at once; longer patience is the caller's (the client's own would hide an absence for seconds).
    """
    if cluster:
        return RedisCluster.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
    return redis_asyncio.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        max_connections=max_connections,
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )
