"""The text message of a phone without data: what is documented is what is read, and nothing in it refuses a panic."""

from __future__ import annotations

import re
import string
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain import sms_report
from core.ids import token_digest
from device_sim.text_message import TextMessage, compose

DEVICE = uuid.UUID("01968c0d-8c8b-7a5a-b5d5-5ad35f60c6f0")
TOKEN = "qd_test-vector-token"
PAGE = Path(__file__).parents[2] / "docs/inbound-sms.md"

kinds = st.sampled_from(["panic", "audible_panic", "location", "check_in"])
messages = st.builds(
    TextMessage,
    kind=kinds,
    device_id=st.uuids(),
    seq=st.integers(0, 2**63 - 1),
    at_s=st.none() | st.integers(0, 2**33),
    lat=st.floats(-90, 90),
    lon=st.floats(-180, 180),
    accuracy_m=st.none() | st.floats(0, 1e6),
    battery_pct=st.none() | st.floats(0, 100),
)


@given(messages)
def test_what_is_composed_fits_one_segment_and_is_read_as_it_was_meant(message: TextMessage) -> None:
    text = compose(message, TOKEN)
    assert len(text) <= 160
    assert set(text) <= set(string.ascii_uppercase + string.digits + " .,-"), "each is one letter in GSM 7-bit"
    report = sms_report.read(text)
    assert report is not None
    assert (report.kind, report.device_id, report.seq) == (message.kind, message.device_id, message.seq)
    assert report.at_ms == (message.at_s * 1000 if message.at_s is not None else None)
    assert report.lat == pytest.approx(message.lat, abs=1e-5)
    assert report.lon == pytest.approx(message.lon, abs=1e-5)
    assert report.is_signed_by(token_digest(TOKEN))
    assert not report.is_signed_by(token_digest("another"))


@given(messages, st.integers(0, 100), st.characters(codec="ascii"))
def test_a_changed_letter_breaks_the_signature(message: TextMessage, place: int, letter: str) -> None:
    text = compose(message, TOKEN)
    end = text.rindex(" ")
    at = place % end
    changed = text[:at] + letter + text[at + 1 :]
    report = sms_report.read(changed)
    if report is not None and " ".join(changed.upper().split()) != text:
        assert not report.is_signed_by(token_digest(TOKEN))


def test_gateways_may_change_case_and_spaces_and_put_words_around() -> None:
    text = compose(TextMessage("panic", DEVICE, 17, 1777636800, 43.2389, 76.9455, 12, 86), TOKEN)
    for written in (text.lower(), text.replace(" ", "  "), f"\n{text}\r\n", f"KEYWORD {text} -- sent by a friend"):
        report = sms_report.read(written)
        assert report is not None
        assert report.is_signed_by(token_digest(TOKEN)), written


@given(st.text(max_size=600))
def test_any_text_is_read_without_harm(text: str) -> None:
    sms_report.read(text)
    sms_report.is_plain_call(text)
    report = sms_report.read(f"Q1 P {text}")
    assert report is not None, "a panic is never refused for its content"
    assert report.kind == "panic"


@pytest.mark.parametrize("text", ["", "hello", "Q1", "Q1 X", "Q2 P", "QP 1", "SOS now please"])
def test_other_texts_are_none(text: str) -> None:
    assert sms_report.read(text) is None


@pytest.mark.parametrize("text", ["SOS", " sos!", "102", "Көмек!!!", "ПОМОГИТЕ", "Спасите.", "help"])
def test_a_call_in_words(text: str) -> None:
    assert sms_report.is_plain_call(text)
    assert not sms_report.is_plain_call(f"{text} me with homework")


def test_the_documented_vectors_are_right() -> None:
    page = PAGE.read_text()
    vectors = {
        "panic": TextMessage("panic", DEVICE, 17, 1777636800, 43.2389, 76.9455, 12, 86),
        "audible_panic": TextMessage("audible_panic", DEVICE, 18),
        "location": TextMessage("location", DEVICE, 19, 1777636860, -33.86882, 151.20929, None, 5),
        "check_in": TextMessage("check_in", DEVICE, 20, 1777636920, battery_pct=100),
    }
    assert f"`{TOKEN}`" in page
    assert str(DEVICE) in page
    assert token_digest(TOKEN).hex() in page
    for kind, message in vectors.items():
        assert f"`{compose(message, TOKEN)}`" in page, kind
    told = re.findall(r"`(Q1 [PALC] [^`]+)`", page)
    assert len(told) == len(vectors)
