"""What routes are handed: the context that the composition root built, and who is asking."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from api.bounds import AttemptLimiter
from api.ended_sessions import EndedSessions
from api.link_gate import LinkGate
from api.oidc_provider import OidcClient
from api.sign_in_gate import SignInGate
from api.watchdog import Watchdog
from core.clock import Clock, utc_now
from core.passwords import PasswordDesk
from core.pin_hashes import PinHasher
from core.postgres.database import Database
from core.redis.client import Client
from core.secret_box import SecretBox
from core.settings import Settings
from core.token_key import load_token_key


@dataclass
class ApiContext:
    """Everything the API works with; services in it are started and stopped by whoever built it."""

    settings: Settings
    database: Database
    """For what users ask, each transaction in the scope of one of them."""
    redis: Client
    clock: Clock = utc_now
    device_database: Any = None
    """A Database for what serves devices, and every agency's feed; none: `database`."""
    registry: Any = None
    """api.ingest.registry.Registry: device and gateway tokens, in memory."""
    appender: Any = None
    """api.ingest.appender.Appender: pings on their way into the log."""
    asked: Any = None
    """api.ingest.asked.AskedIntervals: how long each device is asked to wait; none: as is expected of it."""
    device_commands: Any = None
    """api.ingest.device_commands.DeviceCommands: what devices are told with an acknowledgement; none: nothing."""
    tail: Any = None
    """api.live.tail.FeedTail: the dispatchers' feed."""
    own_news: Any = None
    """api.live.own_news.OwnNews: devices' own news."""
    self_drill: Any = None
    """api.drill_clock.SelfDrill: the server's own drill; none: it makes none."""
    panic_desk: Any = None
    """Takes panics, whatever stores are away."""
    ledger_gate: Any = None
    """api.ledger_gate.LedgerGate: whether what is kept may be read; none: it may."""
    token_key: bytes = field(init=False, repr=False)
    passwords: PasswordDesk = field(init=False, repr=False)
    pins: PinHasher = field(init=False, repr=False)
    logins: AttemptLimiter = field(init=False, repr=False)
    gate: SignInGate = field(init=False, repr=False)
    box: SecretBox = field(init=False, repr=False)
    oidc: OidcClient = field(init=False, repr=False)
    watchdog: Watchdog = field(init=False, repr=False)
    links: LinkGate = field(default_factory=LinkGate, repr=False)
    """How often live links are asked for."""
    ended_sessions: EndedSessions = field(init=False, repr=False)
    """A service; until it is started it knows of no session's end."""

    def __post_init__(self) -> None:
        self.device_database = self.device_database or self.database
        self.token_key = load_token_key(self.settings)
        self.watchdog = Watchdog(self)
        self.passwords = PasswordDesk()
        self.pins = PinHasher()
        self.logins = AttemptLimiter(self.settings.login_attempts_per_minute)
        gate_key = hmac.digest(self.token_key, b"qorgan:sign-in gate", "sha256")
        self.gate = SignInGate(self.settings, self.redis, gate_key, self.clock)
        self.box = SecretBox(self.token_key)
        self.oidc = OidcClient(plain_loopback=self.settings.oidc_plain_http)
        self.ended_sessions = EndedSessions(self.database, self.clock, self.settings.access_token_s)


async def get_context(connection: HTTPConnection) -> ApiContext:
    """The context of the application that serves this request or socket; not awaiting, and yet no function for a
    thread, as FastAPI would have it: a request, a panic too, would wait for one."""
    context: ApiContext = connection.app.state.context
    return context


Context = Annotated[ApiContext, Depends(get_context)]
