from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from roles.role import CARD, Matches, RoleSettings, Settings, whole_address

DriverPackage = Annotated[
    str,
    Matches(
        r"distribution|installed|(?=.*(nvidia|cuda-drivers))[a-z0-9][a-z0-9+.-]+",
        "is neither distribution, nor installed, nor a package of NVIDIA's driver such as nvidia-headless-580-server",
    ),
]

CardName = Annotated[
    str,
    Matches(CARD, "is no card: give its PCI address such as 0000:01:00.0, or the UUID that nvidia-smi -L shows"),
    AfterValidator(whole_address),
]
Watts = Annotated[int, Field(ge=10, le=2000)]


def _some_card(limits: dict[str, int]) -> dict[str, int]:
    if not limits:
        raise ValueError("names no card: say `90` for every card, or leave it out")
    return limits


class Nvidia(Settings):
    """NVIDIA's cards."""

    driver: DriverPackage = "distribution"
    """`distribution`: the driver that the distribution carries, for machines without a screen, with the headers of the kernel that its
    module is compiled for; Debian's lies in contrib, non-free and non-free-firmware, which the host's apt sources must name. `installed`:
    somebody else has installed one, and Paddock only looks whether it fits. Else the name of a package, installed beside those headers.
    Whichever it is, it takes the machine a restart where another driver held the cards before."""

    power_limit_w: Watts | Annotated[dict[CardName, Watts], AfterValidator(_some_card)] | None = None
    """The most power that each card may take, in watts, `90`, or only the cards that are named, `{"0000:01:00.0": 90}`. It is set at each
    boot, and is the card's own again once this is taken out."""

    persistence: bool | None = None
    """Whether the driver keeps cards ready while nobody uses them, so that a server starts at once; by default where a power limit is
    set, which they would forget otherwise."""

    @property
    def persists(self) -> bool:
        return self.persistence if self.persistence is not None else self.power_limit_w is not None

    @model_validator(mode="after")
    def _limits_last(self) -> Nvidia:
        if self.power_limit_w is not None and self.persistence is False:
            raise ValueError("forgets a power limit as soon as nobody uses the card, with `persistence: false`: leave that out")
        return self


class Amd(Settings):
    """AMD's graphics in a processor, such as Strix Halo's."""

    gtt_mib: Annotated[int, Field(ge=1024, le=1048576)]
    """How much of the machine's memory the graphics may take, in MiB; without, the kernel gives half. Of 128 GiB, 122880 leave 8 GiB to
    the system. It takes a restart of the machine, and `paddock status` says so until then."""


class GpuSettings(RoleSettings):
    """What drives the cards of a host. AMD's and Intel's drivers come with the kernel and with Mesa, and need no package."""

    nvidia: Nvidia | None = None
    """NVIDIA's cards, and where their driver comes from: `{driver: distribution}`."""

    amd: Amd | None = None
    """AMD's graphics that shares the processor's memory: `{gtt_mib: 122880}`."""

    count_from: Literal[0, 1] = 0
    """The number of the first card, in the order of their PCI addresses: 0, as nvidia-smi counts, or 1, as people do."""

    @model_validator(mode="after")
    def _something(self) -> GpuSettings:
        if self.nvidia is None and self.amd is None:
            raise ValueError("has nothing to do: say `nvidia: {driver: distribution}`, or leave the role off this host")
        return self
