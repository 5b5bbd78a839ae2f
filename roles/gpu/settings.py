from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from roles.role import Matches, RoleSettings, Settings

DriverPackage = Annotated[
    str,
    Matches(
        r"distribution|installed|(?=.*(nvidia|cuda-drivers))[a-z0-9][a-z0-9+.-]+",
        "is neither distribution, nor installed, nor a package of NVIDIA's driver such as nvidia-headless-580-server",
    ),
]


class Nvidia(Settings):
    """NVIDIA's cards."""

    driver: DriverPackage = "distribution"
    """`distribution`: the driver that the distribution carries, for machines without a screen, with the headers of the kernel that its
    module is compiled for; Debian's lies in contrib, non-free and non-free-firmware, which the host's apt sources must name. `installed`:
    somebody else has installed one, and Paddock only looks whether it fits. Else the name of a package, installed beside those headers.
    Whichever it is, it takes the machine a restart where another driver held the cards before."""


class GpuSettings(RoleSettings):
    """What drives the cards of a host. AMD's and Intel's need nothing: their drivers come with the kernel and with Mesa."""

    nvidia: Nvidia | None = None
    """NVIDIA's cards, and where their driver comes from: `{driver: distribution}`."""

    count_from: Literal[0, 1] = 0
    """The number of the first card, in the order of their PCI addresses: 0, as nvidia-smi counts, or 1, as people do."""

    @model_validator(mode="after")
    def _something(self) -> GpuSettings:
        if self.nvidia is None:
            raise ValueError("has nothing to do: say `nvidia: {driver: distribution}`, or leave the role off this host")
        return self
