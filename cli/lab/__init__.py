"""Manage throw-away hosts for an inventory: systemd containers, or virtual machines.

examples:
  paddock lab up                  starts one for each host of the inventory
  paddock up --lab --yes          deploys to them
  paddock lab ssh ai              opens a shell on one
  paddock lab list                lists all lab hosts on this machine
  paddock lab down

Containers need Docker; if it is missing or not running, Paddock says so, installs it and starts it. They run Debian 13; a host with
`lab: {suite: sid}` runs that suite. A host with `lab: {cpu: no-avx}` or `lab: {arch: arm64}` is a virtual machine, emulated by QEMU.
"""

ACTIONS = ("up", "down", "list", "ssh")
