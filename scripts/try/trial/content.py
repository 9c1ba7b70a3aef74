"""Names, and the bytes that belong to each."""

import functools
import hashlib
import random

BLOCK = 1024
HEAD = 16
FILL = random.Random(20150516).randbytes(4 * BLOCK)
SIZES = (0, 1, 100, 4096, 16384, 16385, 65536, 200_000, 1 << 20)
LARGE = 4 << 20


def path_of(kind, number, size, extension="tgz"):
    """What the origin does with it, which one it is, how long it is."""
    return f"/{kind}/{number}-{size}.{extension}"


def kind_of(path):
    return path.split("/")[1]


def size_of(path):
    return int(path.rsplit("-", 1)[1].split(".")[0])


@functools.lru_cache(4096)
def tag_of(path):
    return hashlib.blake2b(path.encode(), digest_size=8).digest()


def number_of(path):
    return int.from_bytes(tag_of(path), "big")


def etag_of(path):
    return f'"{tag_of(path).hex()}"'


def modified_of(path):
    """Seconds since 1970."""
    return 1_400_000_000 + number_of(path) % 100_000_000


def part(path, first, end):
    """Bytes `first` to `end` (not included). Each block names its path and its place."""
    end = min(end, size_of(path))
    if first >= end:
        return b""
    tag, number = tag_of(path), number_of(path)
    blocks = []
    for index in range(first // BLOCK, (end - 1) // BLOCK + 1):
        start = (number + index * 37) % (3 * BLOCK)
        blocks += (tag, index.to_bytes(8, "big"), FILL[start : start + BLOCK - HEAD])
    skipped = first % BLOCK
    return b"".join(blocks)[skipped : skipped + end - first]


def whole(path):
    return part(path, 0, size_of(path))
