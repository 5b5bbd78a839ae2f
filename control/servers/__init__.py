"""llama-servers that run: what they serve, read and changed over SSH."""

import control.ssh.cooperative  # first of all: models are fetched here too

assert control.ssh.cooperative
