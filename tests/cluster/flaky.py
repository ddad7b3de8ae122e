"""A TCP proxy before an HTTP server that fails on demand, as an object store does on a bad day."""

import random
import socket
import threading
import time
from contextlib import suppress

FAULTS = ("away", "busy", "slow", "cut")
BUSY = (b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: 87\r\n\r\n"
        b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Slow down</Message> </Error>\n")  # fmt: skip


class Flaky:
    """Passes connections on to `server`. A fault, one of FAULTS, also ends the connections that are open.

    away: nobody answers. busy: 503 to every request. slow: each answer takes 4 s longer, more than clients wait for.
    cut: the connection ends in the middle of an answer. (Of a request's first half moto makes one of its own.)
    """

    def __init__(self, server: tuple[str, int], listen: str = "127.0.0.1"):
        self._server, self._fault, self._until = server, "", 0.0
        self._socket = socket.create_server((listen, 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def fail(self, fault: str, seconds: float) -> None:
        """From now on for so long."""
        assert fault in FAULTS
        self._fault, self._until = fault, time.monotonic() + seconds

    @property
    def fault(self) -> str:
        """The fault of this moment; empty if there is none."""
        return self._fault if time.monotonic() < self._until else ""

    def close(self) -> None:
        """Take no more connections."""
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        fault = self.fault
        with client, suppress(OSError):
            if fault == "away":
                return
            if fault == "busy":
                client.recv(1 << 16)
                client.sendall(BUSY)
                return
            with socket.create_connection(self._server) as server:
                most = random.randrange(20, 2000) if fault == "cut" else 1 << 62
                back = threading.Thread(target=self._pass, args=(server, client, fault, most), daemon=True)
                back.start()
                self._pass(client, server, "" if fault == "slow" else fault)
                back.join()

    def _pass(self, source: socket.socket, target: socket.socket, fault: str, most: int = 1 << 62) -> None:
        """From one side to the other, until one ends, the fault changes, or so many bytes have passed."""
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if fault == "slow":
                    time.sleep(4)
                if self.fault not in ("", fault, "slow") or most <= 0:
                    break
                target.sendall(data[:most])
                most -= len(data)
        for side in (source, target):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
