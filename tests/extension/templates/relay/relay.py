"""Answers those that show the key: with its own name, or with what the relay behind it says. python3 relay.py CONFIGURATION"""

import hmac
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

CONFIGURATION = json.loads(Path(sys.argv[1]).read_text())


def bearer(name):
    return f"Bearer {Path(CONFIGURATION[name]).read_text().strip()}"


class Relay(BaseHTTPRequestHandler):
    def do_GET(self):
        if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), bearer("key").encode()):
            self.answer(401, b"")
        elif "upstream" in CONFIGURATION:
            try:
                with urlopen(Request(CONFIGURATION["upstream"], headers={"Authorization": bearer("upstream_key")}), timeout=10) as said:
                    self.answer(200, said.read())
            except OSError as error:
                self.answer(502, str(error).encode())
        else:
            self.answer(200, CONFIGURATION["name"].encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(tuple(CONFIGURATION["listen"]), Relay).serve_forever()
