"""Clients that ask again and again while something else goes on: what they got, and how long the worst waited."""

import time

from . import client

# Seconds after which an answer is too late, and after which it is given up.
WORST = 1.0
PATIENCE = 20


class Asked(list):
    """Of each answer, the status (or what came instead) and the seconds until its last byte."""

    def get(self, program, path, peer=None):
        """Asks over this connection, or over a new one; the connection, if it may be used again."""
        began = time.monotonic()
        try:
            peer = peer or program.connect(patience=PATIENCE)
            status = peer.get(path)[0].status
        except (client.Broken, client.Wrong) as error:
            status, peer = str(error), None
        self.append((status, time.monotonic() - began))
        return peer

    def failed(self):
        return [status for status, _ in self if status != 200]

    def worst(self):
        return max((took for _, took in self), default=0)

    def is_bad(self):
        return not self or bool(self.failed()) or self.worst() >= WORST

    def __str__(self):
        failed = self.failed()
        return f"{len(self)} asked, {len(failed)} failed {sorted(set(map(str, failed)))}, worst {self.worst():.3f} s"

    def fault(self):
        return f"{len(self.failed())} failed, worst {self.worst():.3f} s"


def together(threads):
    """Starts all, and waits until all have ended."""
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
