"""The cache directory: what lies in it, and what others do to it."""

import os
import random
import time

from . import content


def files(cache):
    """Every file below the cache directory: its path, and whether it is in progress."""
    for directory, _, names in os.walk(cache):
        for name in names:
            yield os.path.join(directory, name), name.endswith(".in-progress")


def until_stored(path, seconds=10):
    """Whether the file is there: its name comes a moment after the last byte."""
    deadline = time.monotonic() + seconds
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def read(*parts):
    with open(os.path.join(*parts), "rb") as file:
        return file.read()


def wrong_files(cache):
    """Finished files that are not what belongs to their names."""
    for file, in_progress in files(cache):
        if in_progress:
            continue
        path = "/" + os.path.relpath(file, cache)
        try:
            data = read(file)
        except FileNotFoundError:
            continue
        if data != content.whole(path):
            yield f"{path}: {len(data)} bytes of {content.size_of(path)}"


class Meddler:
    """Does to the cache directory what others do: deletes files, leaves some behind, changes their times."""

    def __init__(self, cache, names, seed):
        self.cache, self.dice = cache, random.Random(f"{seed} meddler")
        self.names = [name for name in names if name.endswith(".tgz")]
        self.deleted = self.left = self.touched = 0

    def once(self):
        path = os.path.join(self.cache, self.dice.choice(self.names)[1:])
        way = self.dice.randrange(10)
        try:
            if way < 7:
                os.unlink(path)
                self.deleted += 1
            elif way < 8:
                self.leave(path + ".in-progress")
            else:
                os.utime(path, (time.time(), self.dice.randrange(1_000_000_000, 1_700_000_000)))
                self.touched += 1
        except OSError:
            pass

    def leave(self, path):
        """What a crash left behind: nobody holds it."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(self.dice.randbytes(self.dice.randrange(2000)))
        self.left += 1
