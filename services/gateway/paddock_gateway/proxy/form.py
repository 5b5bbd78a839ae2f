"""A form with a file (multipart/form-data), as /v1/audio/transcriptions takes it: its small fields, and one of them changed."""

from __future__ import annotations

import re

from paddock_gateway.errors import Failure

_BOUNDARY = re.compile(r'boundary="?([^";,\s]{1,70})"?', re.I)
_NAME = re.compile(rb'[;\s]name="([^"\r\n]{0,64})"', re.I)
_FILE = re.compile(rb"[;\s]filename\*?=", re.I)


class Form:
    """`fields` is name → value of every part that is no file and has at most 64 KiB."""

    def __init__(self, raw: bytes, content_type: str) -> None:
        """Raises Failure where it is no form."""
        found = _BOUNDARY.search(content_type)
        if not found:
            raise Failure(400, "The form has no boundary: see the header Content-Type.", "bad_form")
        self.raw = raw
        self._mark = b"--" + found[1].encode()
        self.fields: dict[str, str] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        self._parse()

    def _parse(self) -> None:
        raw, at = self.raw, self.raw.find(self._mark)
        while at >= 0:
            begins = at + len(self._mark)
            if raw[begins : begins + 2] == b"--":
                return
            ends = raw.find(b"\r\n" + self._mark, begins)
            head = raw.find(b"\r\n\r\n", begins, begins + 8192)
            if ends < 0 or head < 0 or head > ends:
                break
            name, headers = _NAME.search(raw, begins, head), raw[begins:head]
            if name and not _FILE.search(headers) and ends - head - 4 <= 65536:
                key = name[1].decode(errors="replace")
                if key in self._spans:
                    raise Failure(400, f'The form has "{key}" twice.', "bad_form", param=key)
                if len(self._spans) >= 64:
                    raise Failure(400, "The form has more than 64 fields.", "bad_form")
                self._spans[key] = head + 4, ends
                self.fields[key] = raw[head + 4 : ends].decode(errors="replace")
            at = ends + 2
        raise Failure(400, "The form ends early, or a part of it has no headers.", "bad_form")

    def with_model(self, model: str) -> bytes:
        """The form with `model` set; as it came where it says so already."""
        if self.fields.get("model") == model:
            return self.raw
        if "model" in self._spans:
            begins, ends = self._spans["model"]
            return b"".join([self.raw[:begins], model.encode(), self.raw[ends:]])
        part = b'\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + model.encode() + b"\r\n"
        return self._mark + part + self.raw[self.raw.find(self._mark) :]
