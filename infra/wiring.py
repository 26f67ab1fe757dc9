"""The composition root: which objects make up each target, in the order they start.

A target's modules are imported when it is built: a notifier that never loads numpy starts in half the time.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from core.clock import utc_now
from core.errors import Misconfigured
from core.postgres.database import Database
from core.postgres.logins import GROUPS
from core.redis.client import Client, connect
from core.service import Service
from core.settings import Settings
from core.vault import load_vault

if TYPE_CHECKING:
    from api.operator_news import OperatorRoute
    from notifier.direct import DirectPost

log = structlog.get_logger(__name__)

TARGETS = ("api", "ingest", "geo", "historian", "notifier")
LOGINS = {"api": "api", "ingest": "device", "geo": "worker", "historian": "historian", "notifier": "worker"}
"""Target → what it does in PostgreSQL (`core.postgres.logins.GROUPS`); the api's device side besides as `device`."""


@dataclass
class Part:
    """A target put together: services in starting order, and what has to be closed at the end."""

    services: list[Service]
    database: Database
    device_database: Database
    """For what serves devices; in targets but the api the same as `database`."""
    redis: Client
    port: int = 0
    started: list[Service] = field(default_factory=list)

    async def start(self) -> None:
        """Start every service in order; on an error the ones started are stopped again."""
        try:
            for service in self.services:
                await service.start()
                self.started.append(service)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop in reverse order, then close both stores' connections; a second call does nothing."""
        while self.started:
            await self.started.pop().stop()
        await self.database.close()
        await self.device_database.close()
        if self.database.vault is not None:
            await self.database.vault.aclose()
        await self.redis.aclose()


def build(target: str, settings: Settings, index: int = 0) -> Part:
    """The part for one target; nothing of it runs yet. Raises Misconfigured (a busy port, no stores)."""
    if settings.database_url is None or settings.redis_url is None:
        raise Misconfigured("A target needs its stores; set QORGAN_DATABASE_URL and QORGAN_REDIS_URL.")
    if target not in LOGINS:
        raise Misconfigured(f"There is no target {target!r}; the targets are {', '.join(TARGETS)}.")
    database = Database(
        settings.database_url.get_secret_value(),
        size=settings.postgres_pool_size,
        application=f"qorgan-{target}-{index}",
        vault=load_vault(settings),
        role=GROUPS[LOGINS[target]],
    )
    redis = connect(settings.redis_url.get_secret_value(), cluster=settings.redis_cluster)
    instance = f"{target}-{os.uname().nodename}-{os.getpid()}"
    part = Part([], database, database, redis)
    if target == "api":
        _build_api(part, settings, index)
    elif target == "ingest":
        _build_ingest(part, settings, index)
    elif target == "geo":
        _build_geo(part, settings, instance)
    elif target == "historian":
        _build_historian(part, settings, index, instance)
    elif target == "notifier":
        _build_notifier(part, settings, index, instance)
    return part


def _build_historian(part: Part, settings: Settings, index: int, instance: str) -> None:
    from core.actions.retention import RetentionClock, Room
    from core.signing import load_signer
    from geo.historian import Historian

    part.services = [Historian(settings, part.database, part.redis, instance, utc_now)]
    if settings.retention_database_url is not None:
        erasing = Database(
            settings.retention_database_url.get_secret_value(),
            size=2,
            application=f"qorgan-retention-{index}",
            role=GROUPS["retention"],
            command_timeout_s=600,
        )
        room = Room(settings.victim_ping_days, settings.aggressor_ping_days)
        signer = functools.partial(load_signer, settings)
        part.services.append(RetentionClock(erasing, room, signer, utc_now, instance))


def _recording(part: Part, settings: Settings, instance: str) -> list[Service]:
    """The recorder, under leases of its own: beside the engine each of its statements would wait for a batch."""
    from geo.ownership import Ownership, nothing
    from geo.recorder import LEASES, Recorder

    share = Ownership(
        LEASES, instance, part.database, utc_now, shard_count=settings.shard_count, ttl_s=settings.lease_ttl_s,
        hold=nothing, drop=nothing,
    )  # fmt: skip
    return [share, Recorder(settings, part.database, part.redis, share, utc_now)]


def _build_notifier(part: Part, settings: Settings, index: int, instance: str) -> None:
    from notifier.channels import build as build_channels
    from notifier.escalator import Escalator
    from notifier.sealer import Sealer
    from notifier.sender import Sender

    part.services = [Sender(settings, part.database, build_channels(settings), utc_now)]
    part.services.append(Escalator(part.database, utc_now))
    if settings.geocoder is not None:
        from notifier.geocoder import Geocoder

        part.services.append(Geocoder(settings, part.database, utc_now))
    part.services += _recording(part, settings, instance)
    if settings.sealer_database_url is not None:
        sealing = Database(
            settings.sealer_database_url.get_secret_value(),
            size=2,
            application=f"qorgan-sealer-{index}",
            role=GROUPS["sealer"],
        )
        part.services.append(Sealer(settings, sealing, utc_now, instance))


def _build_api(part: Part, settings: Settings, index: int) -> None:
    from api.app import create_app
    from api.deps import ApiContext
    from api.drill_clock import DrillClock, SelfDrill
    from api.ingest.appender import Appender
    from api.ingest.asked import AskedIntervals
    from api.ingest.device_commands import DeviceCommands
    from api.ingest.health import IngestHealth
    from api.ingest.registry import Registry
    from api.ingest.registry_file import RegistryFile
    from api.last_known import LastKnown
    from api.ledger_gate import LedgerGate
    from api.live.own_news import OwnNews
    from api.live.tail import FeedTail
    from api.operator_news import OperatorNews
    from api.outage_clock import OutageClock
    from api.panic_desk import PanicDesk, PanicDrain
    from api.panic_outage import PanicOutage
    from api.sheet_keeper import SheetKeeper
    from core.actions.erasure import ErasureClock
    from core.actions.evidence_exports import ExportClock
    from core.actions.order_clock import OrderClock
    from core.actions.panic_places import PanicPlaces
    from core.actions.panic_timers import TimerClock
    from core.actions.upkeep import IncidentClock
    from core.erasure_ledger import load_ledger
    from core.signing import load_signer
    from core.tls import server_context
    from infra.server import HttpServer, bind

    if settings.device_database_url is None:
        raise Misconfigured("The api has its device side connect as a role of its own; set QORGAN_DEVICE_DATABASE_URL.")
    part.device_database = device_database = Database(
        settings.device_database_url.get_secret_value(),
        size=settings.postgres_pool_size,
        application=f"qorgan-api-{index}-devices",
        vault=part.database.vault,
        role=GROUPS["device"],
    )
    listener = bind(settings.host, settings.port, shared=settings.processes > 1)
    part.port = int(listener.getsockname()[1])
    settings = settings.model_copy(update={"port": part.port})
    registry = Registry(device_database, utc_now, RegistryFile(settings, "api", index))
    appender = Appender(settings, part.redis, utc_now, road="http")
    asked = AskedIntervals(settings, part.redis, device_database, utc_now)
    waiting = DeviceCommands(device_database, utc_now)
    gate = LedgerGate(settings, device_database, part.redis, utc_now)
    tail = FeedTail(settings, device_database, part.redis, utc_now)
    tail.may_read = gate.is_open
    known = LastKnown(settings, device_database, utc_now, index)
    post = _direct_post(settings)
    outage = PanicOutage(known, post, utc_now)
    desk = PanicDesk(settings, device_database, part.redis, registry, tail, utc_now, index, outage)
    own_news = OwnNews(device_database, registry, utc_now, desk.answered, gate.is_open)
    context = ApiContext(
        settings=settings,
        database=part.database,
        device_database=device_database,
        redis=part.redis,
        clock=utc_now,
        registry=registry,
        appender=appender,
        asked=asked,
        device_commands=waiting,
        tail=tail,
        own_news=own_news,
        panic_desk=desk,
        ledger_gate=gate,
        self_drill=SelfDrill(settings, device_database, tail, utc_now),
    )
    tls = server_context(settings)
    if tls is None and not settings.trusted_proxies.strip() and (settings.public_url or "").startswith("https:"):
        log.warning(
            "proxy_not_named",
            reason="QORGAN_PUBLIC_URL is https and this process has no certificate: a proxy is in front. Name it in"
            " QORGAN_TRUSTED_PROXIES, or all who come through it count as one (docs/edges.md).",
        )
    server = HttpServer(
        create_app(context),
        listener,
        settings.max_feed_connections + 1000,
        tls=tls,
        trusted_proxies=[proxy.strip() for proxy in settings.trusted_proxies.split(",") if proxy.strip()],
    )
    health = IngestHealth(settings, part.redis, appender, beats=False)
    clock = OrderClock(device_database, utc_now)
    upkeep = IncidentClock(device_database, utc_now)
    erasures = ErasureClock(device_database, part.redis, load_ledger(settings), utc_now)
    evidence = ExportClock(device_database, part.database, functools.partial(load_signer, settings), utc_now)
    ended = context.ended_sessions
    part.services = [registry, ended, asked, appender, health, tail, own_news, PanicDrain(desk), clock, upkeep, server]
    timers = TimerClock(device_database, utc_now)
    places = PanicPlaces(device_database, part.redis, utc_now)
    part.services[-1:-1] = [timers, places, erasures, evidence, waiting]
    part.services += [DrillClock(device_database, utc_now), context.self_drill]
    news = OperatorNews(_operator_routes(settings), settings.operator_language, post, part.redis, utc_now, index)
    part.services.append(OutageClock(device_database, context.watchdog, utc_now, news=news))
    part.services.append(SheetKeeper(settings, device_database, utc_now, index))
    part.services.insert(0, gate)
    part.services.insert(part.services.index(registry) + 1, known)


def _operator_routes(settings: Settings) -> list[OperatorRoute]:
    """Where the operator is told; a mistake in it keeps the api from taking no panic."""
    from api.operator_news import read_routes

    try:
        return read_routes(settings.operator)
    except Misconfigured as error:
        log.error("operator_not_told", reason=error.detail)
        return []


def _direct_post(settings: Settings) -> DirectPost:
    """The notifier's channels for the api in an outage; one that is badly set keeps it from taking no panic."""
    from notifier.channels import build as build_channels
    from notifier.direct import DirectPost

    try:
        channels = build_channels(settings)
    except Misconfigured as error:
        log.error("nobody_told_in_an_outage", reason=error.detail)
        channels = {}
    return DirectPost(settings, channels, utc_now)


def _build_ingest(part: Part, settings: Settings, index: int) -> None:
    from api.ingest.appender import Appender
    from api.ingest.asked import AskedIntervals
    from api.ingest.device_commands import DeviceCommands
    from api.ingest.health import IngestHealth
    from api.ingest.registry import Registry
    from api.ingest.registry_file import RegistryFile
    from api.ingest.stream import DeviceStream

    registry = Registry(part.database, utc_now, RegistryFile(settings, "ingest", index))
    appender = Appender(settings, part.redis, utc_now)
    asked = AskedIntervals(settings, part.redis, part.database, utc_now)
    waiting = DeviceCommands(part.database, utc_now)
    stream = DeviceStream(settings, registry, appender, asked, waiting)
    part.services = [registry, asked, appender, IngestHealth(settings, part.redis, appender), stream, waiting]


def _build_geo(part: Part, settings: Settings, instance: str) -> None:
    from geo.evidence_keeper import EvidenceKeeper
    from geo.worker import GeoWorker

    part.services = [
        GeoWorker(settings, part.database, part.redis, instance, utc_now), EvidenceKeeper(part.database, utc_now)
    ]  # fmt: skip
