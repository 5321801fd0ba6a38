"""Every key has one spelling, and comes back from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall.stores.spelling import are_plain, is_plain, read_names, segment_of, spell, spell_segment

_segments = st.one_of(
    st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/"), min_size=1, max_size=400),
    st.text("%~.AaFf0 259:\\", min_size=1, max_size=12),
    st.text("x%~", min_size=240, max_size=320),
    st.sampled_from(
        ["CON", "nul.txt", "COM¹", ".holdall~x", ".HOLDALL~", "a.", "a ", "%41", "%2541", "%C3%A9"]
    ),
).filter(lambda segment: segment not in (".", ".."))


@given(_segments, st.booleans())
def test_a_segment_comes_back(segment: str, fold: bool) -> None:
    names = spell_segment(segment, fold)
    assert read_names(names) == segment
    assert segment_of(names, fold) == segment
    for name in names:
        assert 0 < len(name.encode()) <= 255
        assert not name.lower().startswith(".holdall~")
        assert name not in (".", "..")
        assert name[-1] not in ". "
        assert not set(name) & set('/\\:*?"<>|')
        assert not fold or (
            name.isascii() and not any(c.isupper() for c in name.replace("%", " ") if c > "F")
        )


@given(_segments, st.booleans())
def test_two_segments_never_share_a_name(segment: str, fold: bool) -> None:
    # What a literal name stands for is never spelled as that name by another segment.
    literal = segment_of([segment], fold)
    assert literal is not None
    assert literal == segment or spell_segment(literal, fold) == [segment]


@given(st.lists(_segments, min_size=1, max_size=5))
def test_what_is_said_to_be_plain_is(names: list[str]) -> None:
    for name in names:
        if is_plain(name) and len(name) < 256:
            assert spell(name) == name
    if are_plain(names) and all(len(name) < 256 for name in names):
        assert [spell(name) for name in names] == names


@pytest.mark.parametrize("key", ["a", "run-7/weights.npy", "logs/2026-11-21.txt", "_x/y.z"])
def test_usual_keys_are_plain(key: str) -> None:
    assert is_plain(key)
    assert are_plain(key.split("/"))
