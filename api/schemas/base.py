"""What every body and answer of the management API has in common."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Generic, TypeVar

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from core.postgres.table import MAX_PAGE, Record

MAX_TEXT_CHARS: Final = 10_000
MAX_LIST_ITEMS: Final = 100
MAX_JSON_DEPTH: Final = 32
FIRST_YEAR: Final = 1900
LAST_YEAR: Final = 2200

Item = TypeVar("Item", bound=BaseModel)


def _sane(moment: datetime) -> datetime:
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f"must be between the years {FIRST_YEAR} and {LAST_YEAR}")
    return moment.astimezone(UTC)


Moment = Annotated[AwareDatetime, AfterValidator(_sane)]
"""RFC 3339 with an offset, in a year that a clock may show."""
Metres = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Latitude = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
Longitude = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$", description="ISO 639 code, such as kk, ru or en.")]
Words = Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=MAX_LIST_ITEMS)]
People = Annotated[list[uuid.UUID], Field(max_length=MAX_LIST_ITEMS)]


def check_storable(value: Any, depth: int = 0) -> None:
    """Raise ValueError for text no store can hold (NUL, lone surrogates) and for JSON nested beyond reason."""
    if depth > MAX_JSON_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_JSON_DEPTH}")
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError("has a character that is no text")
    elif isinstance(value, dict):
        for name, member in value.items():
            check_storable(name, depth + 1)
            check_storable(member, depth + 1)
    elif isinstance(value, list):
        for member in value:
            check_storable(member, depth + 1)
    elif isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        raise ValueError("has a number that is not finite")


class Body(BaseModel):
    """What is sent: unknown fields are refused, text is trimmed and bounded."""

    model_config = ConfigDict(
        extra="forbid", allow_inf_nan=False, str_strip_whitespace=True, str_max_length=MAX_TEXT_CHARS
    )

    @model_validator(mode="before")
    @classmethod
    def _check_storable(cls, data: Any) -> Any:
        check_storable(data)
        return data


class New(Body):
    """What creates a record; `id` is the client's own and makes the create repeatable."""

    id: uuid.UUID | None = Field(None, description="Your own UUID: the same create again is answered, not repeated.")

    def values(self) -> Record:
        """The record's columns, without its id."""
        return self.model_dump(exclude={"id"}, exclude_none=True)


class Change(Body):
    """What changes a record: only the fields that are sent; null only where it means "no longer"."""

    nullable: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="after")
    def _refuse_null(self) -> Change:
        for name in self.model_fields_set - self.nullable:
            if getattr(self, name) is None:
                raise ValueError(f"{name} must not be null")
        return self

    def values(self) -> Record:
        """The columns to set."""
        return self.model_dump(exclude_unset=True)


class View(BaseModel):
    """What is answered; a record's columns that a view does not name stay inside."""

    model_config = ConfigDict(extra="ignore")


class Page(View, Generic[Item]):
    """One page of a list in the order of ids."""

    items: list[Item]
    next: uuid.UUID | None = Field(None, description="Give it as `after` for the next page; null: this is the last.")


class PageQuery(BaseModel):
    """Where a page begins and how long it is."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=MAX_PAGE)
    after: uuid.UUID | None = None


Paging = Annotated[PageQuery, Query()]
"""A list without filters; one with filters has its own subclass, so that an unknown filter is refused too."""


def page_of(records: list[Record], limit: int) -> dict[str, Any]:
    """A page as its view reads it."""
    return {"items": records, "next": records[-1]["id"] if len(records) == limit else None}


class Problem(View):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
