"""What duel asks of a spot machine's metadata service, IMDSv2 only: `python imds.py FILE HOST PORT`.

FILE is the spot notice; as long as it is missing there is none.
"""

import sys
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def service(notice: Path, host: str, port: int) -> ThreadingHTTPServer:
    """A server, bound and not yet serving."""
    tokens = set()

    class Answers(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            if self.path != "/latest/api/token" or "X-aws-ec2-metadata-token-ttl-seconds" not in self.headers:
                return self.send_error(400)
            tokens.add(token := uuid.uuid4().hex)
            return self._answer(token)

        def do_GET(self) -> None:
            if self.headers["X-aws-ec2-metadata-token"] not in tokens:
                return self.send_error(401)
            if self.path != "/latest/meta-data/spot/instance-action" or not notice.exists():
                return self.send_error(404)
            return self._answer(notice.read_text(encoding="utf-8"))

        def _answer(self, text: str) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    return ThreadingHTTPServer((host, port), Answers)


if __name__ == "__main__":
    service(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])).serve_forever()
