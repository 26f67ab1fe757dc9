"""The QR code the console draws says what it was given: read back here, bit by bit, without the drawing's own code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

BLOCKS = {  # version: error correction bytes a block, (blocks, data bytes) of each kind; level M of ISO/IEC 18004
    1: (10, [(1, 16)]), 2: (16, [(1, 28)]), 3: (26, [(1, 44)]), 4: (18, [(2, 32)]), 5: (24, [(2, 43)]),
    6: (16, [(4, 27)]), 7: (18, [(4, 31)]), 8: (22, [(2, 38), (2, 39)]), 9: (22, [(3, 36), (2, 37)]),
    10: (26, [(4, 43), (1, 44)]), 11: (30, [(1, 50), (4, 51)]), 12: (22, [(6, 36), (2, 37)]),
    13: (22, [(8, 37), (1, 38)]),
}  # fmt: skip
MASKS = [
    lambda x, y: (x + y) % 2 == 0, lambda _, y: y % 2 == 0, lambda x, _: x % 3 == 0, lambda x, y: (x + y) % 3 == 0,
    lambda x, y: (x // 3 + y // 2) % 2 == 0, lambda x, y: (x * y) % 2 + (x * y) % 3 == 0,
    lambda x, y: ((x * y) % 2 + (x * y) % 3) % 2 == 0, lambda x, y: ((x + y) % 2 + (x * y) % 3) % 2 == 0,
]  # fmt: skip


def centres(version: int) -> list[int]:
    if version == 1:
        return []
    count, last = version // 7 + 2, version * 4 + 10
    step = -(-(last - 6) // (2 * (count - 1))) * 2 if version != 32 else 26
    return [6, *sorted(last - step * index for index in range(count - 1))]


def is_function(x: int, y: int, version: int) -> bool:
    size = version * 4 + 17
    if x == 6 or y == 6 or (x < 9 and y < 9) or (x >= size - 8 and y < 9) or (x < 9 and y >= size - 8):
        return True
    if version >= 7 and ((x < 6 and y >= size - 11) or (y < 6 and x >= size - 11)):
        return True
    places = centres(version)
    corners = {(6, 6), (6, size - 7), (size - 7, 6)}
    return any(abs(x - cx) <= 2 and abs(y - cy) <= 2 for cx in places for cy in places if (cx, cy) not in corners)


def path(size: int) -> Iterator[tuple[int, int]]:
    upward = True
    for right in [*range(size - 1, 6, -2), 5, 3, 1]:
        for step in range(size):
            y = size - 1 - step if upward else step
            yield right, y
            yield right - 1, y
        upward = not upward


def read(rows: list[list[bool]]) -> str:
    """The text of a QR code; asserts that its format, and every block's error correction, is right."""
    size = len(rows)
    version = (size - 17) // 4
    format_bits = "".join(str(int(rows[8][x])) for x in (0, 1, 2, 3, 4, 5, 7, 8))
    format_bits += "".join(str(int(rows[y][8])) for y in (7, 5, 4, 3, 2, 1, 0))
    plain = int(format_bits, 2) ^ 0b101010000010010
    level, mask = plain >> 13, plain >> 10 & 7
    assert level == 0, "level M"
    bits = [rows[y][x] != MASKS[mask](x, y) for x, y in path(size) if not is_function(x, y, version)]
    stream = [int("".join(str(int(bit)) for bit in bits[at : at + 8]), 2) for at in range(0, len(bits) // 8 * 8, 8)]
    ecc, kinds = BLOCKS[version]
    lengths = [data for count, data in kinds for _ in range(count)]
    blocks: list[list[int]] = [[] for _ in lengths]
    taken = iter(stream)
    for place in range(max(lengths)):
        for block, length in zip(blocks, lengths, strict=True):
            if place < length:
                block.append(next(taken))
    data = [byte for block in blocks for byte in block]
    for _ in range(ecc):
        for block in blocks:
            block.append(next(taken))
    for block in blocks:
        assert all(evaluated(block, power) == 0 for power in range(ecc)), "a code word of Reed and Solomon"
    text = "".join(f"{byte:08b}" for byte in data)
    assert text[:4] == "0100", "bytes"
    width = 8 if version < 10 else 16
    length = int(text[4 : 4 + width], 2)
    body = text[4 + width : 4 + width + 8 * length]
    return bytes(int(body[at : at + 8], 2) for at in range(0, len(body), 8)).decode()


def evaluated(block: list[int], power: int) -> int:
    """The block as a polynomial over GF(256), at the power of its generator."""
    total = 0
    for byte in block:
        for _ in range(power):
            total = (total << 1) ^ (0x11D if total & 0x80 else 0)
        total ^= byte
    return total


@pytest.mark.parametrize("length", [1, 14, 15, 26, 40, 60, 84, 106, 122, 150, 180, 210, 250, 287, 331])
async def test_a_text_is_read_back_from_the_drawn_code(page: Any, address: str, length: int) -> None:
    await page.goto(f"{address}/console/")
    text = ("otpauth://totp/Qorgan:әлия?secret=" + "JBSWY3DPEHPK3PXP" * 30).encode()[:length].decode(errors="ignore")
    rows = await page.evaluate("async (text) => (await import('/console/js/qr.js')).qrMatrix(text)", text)
    assert read(rows) == text


async def test_what_is_too_long_is_refused(page: Any, address: str) -> None:
    await page.goto(f"{address}/console/")
    refused = await page.evaluate(
        "import('/console/js/qr.js').then((qr) => { try { qr.qrMatrix('x'.repeat(332)); return 'made'; }"
        " catch (error) { return error.name; } })"
    )
    assert refused == "RangeError"
