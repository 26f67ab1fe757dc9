"""`/v1/legal-grounds`: on what law an order may stand, with its usual issuer, term and restraints."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import Field

from api.auth import User
from api.schemas.base import View
from core.domain.legal_ground import GROUNDS, RESTRAINTS, ground_json

router = APIRouter(prefix="/v1/legal-grounds", tags=["orders"])


class GroundView(View):
    """A ground the catalogue knows; any other is entered in free words."""

    code: str
    country: str
    title: dict[str, str]
    law: str
    issuer: str
    term: dict[str, Any] | None = Field(description="The usual term; null: the decision says.")
    shortest: dict[str, Any] | None
    longest: dict[str, Any] | None
    restraints: list[str]


class Catalogue(View):
    """Grounds, and what the codes of restraints mean."""

    grounds: list[GroundView]
    restraints: dict[str, str]


@router.get("", response_model=Catalogue)
async def list_grounds(_: User, country: str | None = None) -> dict[str, Any]:
    """The catalogue of legal grounds, of one country (ISO 3166-1 alpha-2) or of all."""
    return {
        "grounds": [ground_json(one) for one in GROUNDS if country in (None, one.country)],
        "restraints": RESTRAINTS,
    }
