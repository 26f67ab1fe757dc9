"""`/v1/auth`: sign in, stay signed in, sign out."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(prefix="/v1/auth", tags=["auth"])
