"""Throw-away hosts to deploy to: systemd containers on this machine."""
