"""Prometheus for the whole fleet: what it reads comes out of the inventory."""
