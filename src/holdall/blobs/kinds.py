"""The type of blob for a name or a media type."""

from __future__ import annotations

from os.path import splitext

from holdall.blobs.audio import AudioBlob
from holdall.blobs.bytes import BytesBlob
from holdall.blobs.image import ImageBlob
from holdall.blobs.json import JsonDictBlob
from holdall.blobs.text import StrBlob
from holdall.blobs.video import VideoBlob
from holdall.blobs.yaml import YamlDictBlob

_BY_MEDIA_TYPE: dict[str, type[BytesBlob]] = {
    "application/json": JsonDictBlob,
    "application/yaml": YamlDictBlob,
    "application/x-yaml": YamlDictBlob,
    "text/yaml": YamlDictBlob,
    "text/x-yaml": YamlDictBlob,
    "application/xml": StrBlob,
    "application/javascript": StrBlob,
    "application/x-sh": StrBlob,
    "application/x-tex": StrBlob,
    "application/toml": StrBlob,
    "application/jsonl": StrBlob,
    "application/x-ndjson": StrBlob,
    "application/sql": StrBlob,
    "image/svg+xml": StrBlob,
}
_BY_TYPE: dict[str, type[BytesBlob]] = {
    "text": StrBlob,
    "image": ImageBlob,
    "audio": AudioBlob,
    "video": VideoBlob,
}
ENDINGS: dict[type[BytesBlob], str] = {
    StrBlob: (
        ".txt .text .log .md .markdown .rst .adoc .org .tex .bib .html .htm .xml .xsl .svg .css .js .mjs "
        ".csv .tsv .jsonl .ndjson .jsonc .json5 .toml .ini .cfg .conf .env .properties .diff .patch .srt "
        ".vtt .vcf .ics .m3u .m3u8 .py .pyi .sh .bash .zsh .bat .ps1 .sql .r .jl .lua .pl .rb .php .go .rs "
        ".java .kt .swift .c .h .cc .cpp .hpp .cs .scala .tf .dot .graphql .proto"
    ),
    JsonDictBlob: ".json .geojson .topojson .jsonld .ipynb .webmanifest .har",
    YamlDictBlob: ".yaml .yml",
    ImageBlob: (
        ".png .apng .jpg .jpeg .jpe .jfif .webp .gif .tiff .tif .bmp .dib .avif .ico .jp2 .ppm .pgm .pbm "
        ".pnm .tga .qoi"
    ),
    AudioBlob: (
        ".wav .wave .flac .ogg .oga .opus .mp3 .mp2 .m4a .aac .aif .aiff .aifc .au .snd .wma .mid .midi"
    ),
    VideoBlob: ".mp4 .m4v .webm .mkv .mov .avi .mpg .mpeg .ogv .3gp .3g2 .wmv .flv",
}
"""The ends of names that say which type of blob a key has, whatever the version of Python knows of them."""

_BY_ENDING = {ending: kind for kind, endings in ENDINGS.items() for ending in endings.split()}


def blob_class(key: str, media_type: str | None = None) -> type[BytesBlob]:
    """Return the type of blob for a key, by its media type, or without one by the suffix of the key. If
    neither is known, it is `BytesBlob`.

    Args:
        key: A key, or the name of a file.
        media_type: Such as `image/png`; its parameters don't matter.

    >>> blob_class("photos/oma.jpg").__name__, blob_class("x", "text/plain; charset=utf-8").__name__
    ('ImageBlob', 'StrBlob')
    >>> blob_class("app.log").__name__, blob_class("data.bin").__name__
    ('StrBlob', 'BytesBlob')
    """
    if media_type is None:
        # Compressed files, such as `data.json.gz`, hold other bytes than their first suffix says.
        return _BY_ENDING.get(splitext(key.rpartition("/")[2])[1].lower(), BytesBlob)
    kind = media_type.partition(";")[0].strip().lower()
    if kind.endswith("+json"):
        return JsonDictBlob
    return _BY_MEDIA_TYPE.get(kind) or _BY_TYPE.get(kind.partition("/")[0]) or BytesBlob
