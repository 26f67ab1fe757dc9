"""Trusted contacts: as managers keep them, as she sees them on her own device, as the invitation's page asks."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, model_validator

from api.schemas.base import Body, Change, Language, Moment, Name, New, View, Words
from api.schemas.people import UNREADABLE
from core.domain.trusted_contact import masked

EMAIL: Final = re.compile(r"[^@\s<>,;:\"]{1,64}@[^@\s<>,;:\"]{1,190}\.[^@\s<>,;:\".]{2,63}")
NUMBER: Final = re.compile(r"\+[1-9]\d{6,14}")
DIGITS_APART: Final = re.compile(r"[\s().-]")

ContactState = Literal["entered", "invited", "verified", "active", "lapsed", "refused", "revoked"]
MaySee = Literal["position", "time", "status"]
Token = Annotated[str, Field(min_length=16, max_length=200)]
Way = Annotated[int, Field(ge=0, le=9)]


class ContactChannel(Body):
    """One way to reach a contact."""

    channel: Literal["email", "sms", "webhook", "log", "fcm"]
    address: Annotated[str, Field(min_length=1, max_length=500)]


Channels = Annotated[list[ContactChannel], Field(max_length=10)]


class NewContact(New):
    """Somebody a protected person wants told."""

    person_id: uuid.UUID
    name: Name
    relation: Name | None = None
    channels: Channels = Field(default_factory=list)
    language: Language | None = None
    verified_at: Moment | None = Field(None, description="Only where you know yourself that the addresses are his.")
    consented_at: Moment | None = Field(None, description="Only where he has consented before you.")
    may_see: Words = Field(default_factory=list, description="position, time, status")
    may_call_her: bool = False
    linked_to_aggressor: bool = False


class ContactChange(Change):
    """What of a contact may change. New channels are to be confirmed and consented to anew."""

    nullable: ClassVar[frozenset[str]] = frozenset({"relation", "verified_at", "consented_at", "revoked_at"})

    name: Name | None = None
    relation: Name | None = None
    channels: Channels | None = None
    language: Language | None = None
    verified_at: Moment | None = None
    consented_at: Moment | None = None
    revoked_at: Moment | None = None
    may_see: Words | None = None
    may_call_her: bool | None = None
    linked_to_aggressor: bool | None = None


class ContactView(View):
    """A contact, and where he stands."""

    id: uuid.UUID
    person_id: uuid.UUID
    name: str
    relation: str | None
    channels: list[dict[str, Any]]
    language: str
    state: ContactState
    invited_at: datetime | None
    verified_at: datetime | None
    consented_at: datetime | None
    revoked_at: datetime | None
    may_see: list[str]
    may_call_her: bool
    linked_to_aggressor: bool
    last_proved_at: datetime | None = Field(None, description="When it last opened the link of a test.")
    created_at: datetime
    updated_at: datetime
    unreadable: list[str] = Field(default_factory=list, description=UNREADABLE)


CalledHer = Annotated[str, Field(min_length=1, max_length=60)]


class Invitation(Body):
    """How somebody is asked."""

    as_name: CalledHer | None = Field(
        None, description="The name by which he knows her, if she wants it given; without one the message names nobody."
    )


class OwnChannel(Body):
    """One way to reach a contact of yours."""

    channel: Literal["email", "sms"]
    address: Annotated[str, Field(min_length=3, max_length=320)]

    @model_validator(mode="after")
    def _check_address(self) -> OwnChannel:
        if self.channel == "sms":
            self.address = DIGITS_APART.sub("", self.address)
            if not NUMBER.fullmatch(self.address):
                raise ValueError("a telephone number begins with + and the code of its country")
        elif not EMAIL.fullmatch(self.address):
            raise ValueError("this is no e-mail address")
        return self


class OwnContact(New):
    """Somebody you want told when you raise the alarm; he is asked at once."""

    name: Name
    relation: Name | None = None
    channels: Annotated[list[OwnChannel], Field(min_length=1, max_length=3)]
    language: Literal["kk", "ru", "en"] | None = None
    may_see: Annotated[list[MaySee], Field(max_length=3)] = Field(["time", "status"])
    as_name: CalledHer | None = Field(
        None, description="The name by which he knows you, if you want it given; without one the message names nobody."
    )


class OwnWay(View):
    """One way to reach a contact, as its owner knows it again."""

    channel: str
    masked: str


class OwnContactView(View):
    """A contact of yours. Whole addresses are not shown: somebody else may hold your device."""

    id: uuid.UUID
    name: str
    relation: str | None
    ways: list[OwnWay]
    language: str
    state: ContactState
    may_see: list[str]
    invited_at: datetime | None
    consented_at: datetime | None


class OwnContacts(View):
    """Your contacts."""

    items: list[OwnContactView]


def own_view(contact: dict[str, Any]) -> dict[str, Any]:
    """A contact with its addresses masked."""
    ways = [
        {"channel": way["channel"], "masked": masked(way["channel"], way["address"])} for way in contact["channels"]
    ]
    return {**contact, "ways": ways}


class InvitationOpening(Body):
    """What stands behind # in the link."""

    token: Token


class InvitationWay(InvitationOpening):
    """Which of the ways a code is wanted for."""

    way: Way


class InvitationCode(InvitationWay):
    """A code as it was typed."""

    code: Annotated[str, Field(max_length=20)]


class InvitationConsent(InvitationOpening):
    """Consent, and the language to be told in from now on."""

    language: Literal["kk", "ru", "en"] | None = None


class AskedWay(View):
    """A way by which he may be told; `way` names it."""

    way: int
    channel: str
    masked: str
    code_sent: bool
    verified: bool


class InvitationView(View):
    """What the page shows. A link that asks nothing says `ended`, whyever that is."""

    state: Literal["invited", "verified", "active", "ended"]
    language: str | None
    inviter: str | None = Field(description="Her name, if she gave one for this, once an address was confirmed.")
    may_see: list[str]
    ways: list[AskedWay]
    expires_at: datetime | None
    code_wrong: bool
