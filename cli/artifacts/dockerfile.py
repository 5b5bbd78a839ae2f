"""Write the Dockerfile that compiles a host's llama.cpp, with just the options of its profile. Connects to no host.

examples:
  paddock artifacts dockerfile rig                          shows it
  paddock artifacts dockerfile rig --to build               writes it, with the script and the source that it copies
  docker build --tag llama.cpp build
  paddock artifacts dockerfile rig --to build \\
    --builder-image nvidia/cuda:12.4.1-devel-ubuntu22.04 \\
    --runtime-image nvidia/cuda:12.4.1-runtime-ubuntu22.04

For CUDA it builds on NVIDIA's images, otherwise on the host's own distribution.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from cli.arguments import inventory_path, opened
from cli.artifacts.names import lab_argument
from inventory.errors import UsageError
from inventory.load import load
from roles.wording import did_you_mean, quoted

IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._/:@-]*")


def arguments(command: argparse.ArgumentParser) -> None:
    host = command.add_argument("host", help="a host with the role llama_cpp")
    host.completer = _hosts  # type: ignore[attr-defined]
    command.add_argument("--to", type=Path, metavar="DIRECTORY", help="the output directory; without it the Dockerfile is shown")
    command.add_argument("--builder-image", default="", metavar="IMAGE", help="the image to compile in; for CUDA with nvcc")
    command.add_argument("--runtime-image", default="", metavar="IMAGE", help="the image to run in: as new, or newer")
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    this = opened(options, only_read=True)
    from control.fetching.progress import Download
    from control.llama_cpp.dockerfile import context_of, write

    names = [host.name for host in this.fleet.hosts_with("llama_cpp")]
    if options.host not in names:
        raise UsageError(f"no host with the role llama_cpp is called {quoted(options.host)}{did_you_mean(options.host, names)}")
    for option, image in (("--builder-image", options.builder_image), ("--runtime-image", options.runtime_image)):
        if image and not IMAGE.fullmatch(image):
            raise UsageError(f"{option}: {quoted(image)} is no image, such as debian:13")
    made = context_of(options.host, this.fleet, this.state, options.builder_image, options.runtime_image)
    if not options.to:
        print(made.dockerfile, end="")
        return 0
    write(made, options.to, options.host, this.fleet, this.path.absolute().parent, Download())
    print(f"docker build --tag {made.image} {options.to}")
    print(f"{options.to}: Dockerfile, build.sh and source.tar.gz", file=sys.stderr)
    return 0


def _hosts(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    return [host.name for host in load(inventory_path(parsed_args)).hosts_with("llama_cpp") if host.name.startswith(prefix)]
