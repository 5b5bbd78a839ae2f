"""Throw-away hosts to deploy to: systemd containers and virtual machines on this machine."""
