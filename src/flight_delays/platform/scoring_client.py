"""One request to a scoring service, whoever runs it."""

import asyncio
from collections.abc import Mapping

import aiohttp

from flight_delays.core.errors import UserError


def post(
    url: str, headers: Mapping[str, str], payload: Mapping[str, object], *, timeout_s: float = 60
) -> tuple[int, Mapping[str, object]]:
    """Status and answer. Raises UserError if there is none, or none in JSON."""

    async def ask() -> tuple[int, object]:
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        async with (
            aiohttp.ClientSession(headers=headers, timeout=timeout) as session,
            session.post(url, json=payload, allow_redirects=False) as answer,
        ):
            return answer.status, await answer.json(content_type=None)

    try:
        status, found = asyncio.run(ask())
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise UserError(f"{url} gave no answer in JSON: {error or type(error).__name__}; see the logs there") from error
    return status, found if isinstance(found, dict) else {}
