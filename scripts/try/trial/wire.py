"""HTTP on a socket, for clients and origins alike: heads, lines, chunks."""

PIECE = 64 * 1024


class Broken(Exception):
    """The transfer ended in a way that anybody notices."""


class Wrong(Exception):
    """It is not what it should be, and looks as if it were."""


class Wire:
    """A socket, and what has come on it but was not taken yet."""

    def __init__(self, socket):
        self.socket, self.input = socket, b""

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Broken(f"send: {error}") from None

    def receive(self):
        try:
            return self.socket.recv(PIECE)
        except OSError as error:
            raise Broken(f"receive: {type(error).__name__}") from None

    def more(self):
        data = self.receive()
        if not data:
            raise Broken("closed")
        self.input += data

    def until(self, mark):
        """What comes before the mark, which is left out."""
        while mark not in self.input:
            if len(self.input) > 1 << 16:
                raise Wrong("a head without an end")
            self.more()
        found, _, self.input = self.input.partition(mark)
        return found

    def head(self):
        """The first line, and the fields: names in small letters, and values."""
        first, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return first, [(name.lower(), value.strip()) for name, _, value in pairs]

    def counted(self, left):
        """So many bytes, as they come."""
        while left:
            if not self.input:
                self.more()
            piece, self.input = self.input[:left], self.input[left:]
            left -= len(piece)
            yield piece

    def chunks(self):
        while True:
            size = int(self.until(b"\r\n"), 16)
            yield from self.counted(size)
            if self.until(b"\r\n"):
                raise Wrong("a chunk that does not end where it should")
            if size == 0:
                return


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)
