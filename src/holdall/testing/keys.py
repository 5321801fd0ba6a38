"""Keys that every store refuses, and awkward ones that every store takes."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from holdall.keys import MAX_KEY_BYTES


def split_words(*lines: str) -> list[str]:
    """Return the words of lines, which the formatter would put on a line each."""
    return " ".join(lines).split(" ")


def _bad_keys() -> tuple[object, ...]:
    bad: list[object] = ["", "/", "//", "///", "/a", "a/", "//a", "a//", "a//b", "/a/b", "a/b/", "a///b"]
    for dots in (".", ".."):
        bad += [
            shape.format(dots)
            for shape in split_words(
                "{} {}/ /{} {}/a a/{} a/{}/b a/b/{} {}/a/b {0}/{0} a/{0}/{0}/b",
                "{}/.git/config a/{}/.git/config {}/data-2/x {}/data2 v2.1/{}/v2.2 %2e/{}",
            )
        ]
    for depth in (1, 2, 3, 8, 64):
        up = "../" * depth
        bad += [up + "etc/passwd", "a/" + up + "etc/passwd", "/" + up + "etc/passwd", up + "..", up + "a/.."]
    controls = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
    surrogates = ["\ud800", "\udbff", "\udc00", "\udcff", "\udfff", "\ude00\ud83d"]
    for char in (*controls, *surrogates):
        bad += [char, char + "a", "a" + char + "b", "a" + char, "a/" + char + "/b", "a/b" + char]
    bad += ["a" * (MAX_KEY_BYTES + 1), "é" * (MAX_KEY_BYTES // 2 + 1), "水" * (MAX_KEY_BYTES // 3 + 1)]
    bad += ["😀" * (MAX_KEY_BYTES // 4 + 1), "a/" * (MAX_KEY_BYTES // 2) + "b", "a" * 100_000]
    bad += ["é" * (MAX_KEY_BYTES // 2) + "a", "😀" * (MAX_KEY_BYTES // 4) + "/a"]
    bad += [b"a", b"", bytearray(b"a"), memoryview(b"a"), None, 0, 1, -1, 1.5, True, False, ..., str]
    bad += [object(), (), ("a",), ["a"], [], {"a": 1}, {}, {"a"}, frozenset("a"), 1j]
    bad += [Path("a"), PurePosixPath("a")]
    return tuple(bad)


BAD_KEYS: tuple[object, ...] = _bad_keys()
"""What isn't a key; every call refuses each with `InvalidKeyError`."""


def _good_keys() -> tuple[str, ...]:
    segments = split_words(
        r"a. a.. ... .... .a ..a ~ ~a a.tmp .tmp .tmp-1 .holdall .holdall~tmp a~ - -rf -- a-b lock",
        r"a.lock a\b \ \\ ..\..\etc \.. C:\x C: a:b a:$DATA : :: c|d | < > ? * \" ' ` $HOME ${a}",
        r"$(a) a;b a&b ! # #a @ ^ = + , ( ) [ ] [a] [!a] { } _ % %% a_b axb a%b a*b a?b %2e%2e%2f",
        r"%2E%2E %2e %252e %252e%252e %00 %2f %5C %5c a%5Cb %41 %25 %2525 %zz %u002e =2e &amp;",
        r"&#46; \x2e \u002e +2e %C3%A9 ~2e CON con Con PRN AUX NUL nul nul.txt NUL.tar.gz COM1",
        r"com9 LPT1 con. COM¹ CONIN$ aux.h desktop.ini Thumbs.db .DS_Store lost+found A a README",
        r"Readme readme ß SS ss s S İ i̇ I i é ﬁ fi Ω 가 水 😀 🇺🇸 שלום مرحبا 0 00 1 -1 1e5 None null",
        r"true NaN key info rowid etag SELECT '; \0 \n <!-- <a> a.zip a.sqlite a.db-wal v2.1 v2.2",
        r"v2 data data2 data-2 logs.json .git .gitignore __init__.py META-INF mimetype index",
        r"manifest",
    )
    segments += ["a b", " a", "a ", "  ", " ", ".. "]
    segments += [" ..", ". .", "con ", "'; DROP TABLE blobs; --", 'a" "b']
    # Forms and cases that normalizing or folding would make equal, and lookalikes of separators.
    segments += ["\u017f", "\u0131", "\xc5", "A\u030a", "\u212b"]
    segments += ["e\u0301", "\u2126", "\u1100\u1161", "\uff0e\uff0e"]
    segments += ["\u202eabc", "\u200b", "\ufeff", "\ufeffa", "\xa0"]
    segments += ["\u2028", "\u2029", "\u3000", "\uff0f", "\uff0e"]
    segments += ["\ufffd", "\uffff", "\U0010ffff", "\ue000", "\uff71", "\U0001f469\u200d\U0001f467"]
    for letter in ("x", ".", "%", "A", " ", "\\"):
        segments += [letter * size for size in (251, 254, 255, 256, 257)]
    segments += ["é" * 127, "é" * 128, "水" * 85, "水" * 86, "😀" * 64, "y" * 1000, "\\" * 86]
    segments += ["z" * 250 + ".", "z" * 255 + ".", "CON" + "." * 252]
    keys = [*segments, *(f"in/{segment}/x" for segment in segments)]
    keys += [f"under/{segment}" for segment in segments]
    keys += [".git.d/config", ".holdall.d/x", ".holdall.d/.tmp/x", "k/" + "é" * 511]
    keys += ["deep/" + "/".join("d" * 500)]
    keys += [letter * MAX_KEY_BYTES for letter in ("x", "X", "\\", "%", ".", " ", "~", "_", "-")]
    keys += ["é" * (MAX_KEY_BYTES // 2), "水" * (MAX_KEY_BYTES // 3), "😀" * (MAX_KEY_BYTES // 4)]
    keys += ["q" * 255 + "/" + "q" * 255 + "/" + "q" * 512, "long/" + "/".join(["n" * 100] * 10)]
    keys += ["e/CON/PRN/aux.c", "e/a./b /c", "e/..a/b", "e/a\\..\\b", "e/%2e%2e/b", "e/ /  /b"]
    return tuple(dict.fromkeys(keys))


GOOD_KEYS: tuple[str, ...] = _good_keys()
"""Awkward keys that every store takes and gives back exactly; none is a folder of another."""
