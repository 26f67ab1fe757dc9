"""`qorgan logins`: the users of PostgreSQL that services connect as where nobody supervises them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from core.errors import Misconfigured
from infra.stores import open_stores
from infra.terminal import load_settings, out


def _passwords() -> dict[str, str]:
    """Kind of service → password, out of `QORGAN_LOGIN_<KIND>` or the file that `QORGAN_LOGIN_<KIND>_FILE` names."""
    from core.postgres.logins import GROUPS

    found = {}
    for kind in GROUPS:
        variable = f"QORGAN_LOGIN_{kind.upper()}"
        path = os.environ.get(f"{variable}_FILE")
        try:
            password = os.environ.get(variable) or (Path(path).read_text().rstrip("\r\n") if path else "")
        except OSError as error:
            raise Misconfigured(f"{variable}_FILE names a file that cannot be read: {error.strerror}.") from None
        if password:
            found[kind] = password
    return found


def logins() -> None:
    """Make the users the services connect as: qorgan_login_api and so on, with the passwords in QORGAN_LOGIN_API ….

    Kinds: api, device, worker, historian, sealer, retention; each password may be in a file named by
    QORGAN_LOGIN_API_FILE instead. One that is there gets the new password. Run it as the database's owner, after
    `qorgan migrate`.
    """
    from core.postgres.logins import set_logins

    passwords = _passwords()
    if not passwords:
        raise Misconfigured("There is no password; set QORGAN_LOGIN_API, QORGAN_LOGIN_DEVICE and the others.")
    with open_stores(load_settings()) as settings:
        assert settings.database_url is not None
        names = asyncio.run(set_logins(settings.database_url.get_secret_value(), passwords))
    out().print(f"These users may connect: {', '.join(names)}.")
