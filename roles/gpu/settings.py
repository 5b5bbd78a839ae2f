from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from roles.role import CARD, PACKAGE, Matches, RoleSettings, Settings, whole_address

if TYPE_CHECKING:
    from roles.rehearsal import Rehearsal

DriverPackage = Annotated[
    str,
    Matches(
        rf"distribution|installed|(?=.*(nvidia|cuda-drivers)){PACKAGE}",
        "is neither distribution, nor installed, nor a package of NVIDIA's driver such as nvidia-headless-580-server",
    ),
]

CardName = Annotated[
    str,
    Matches(CARD, "is not a card: give its PCI address such as 0000:01:00.0, or the UUID that nvidia-smi -L shows"),
    AfterValidator(whole_address),
]
Watts = Annotated[int, Field(ge=10, le=2000)]


def _some_card(limits: dict[str, int]) -> dict[str, int]:
    if not limits:
        raise ValueError("names no card: write `90` for every card, or leave it out")
    return limits


class Nvidia(Settings):
    """NVIDIA cards."""

    driver: DriverPackage = "distribution"
    """`distribution`: the distribution's headless driver, with the kernel headers to compile its module. On Debian the host's apt
    sources must contain contrib, non-free and non-free-firmware. `installed`: you have installed the driver, and Paddock only checks
    that it fits. Otherwise the name of a driver package, installed with those headers. If another driver was loaded before, the machine
    needs a reboot."""

    power_limit_w: Watts | Annotated[dict[CardName, Watts], AfterValidator(_some_card)] | None = None
    """Power limit in watts: of every card, `90`, or of named cards, `{"0000:01:00.0": 90}`. Set at each boot. Without it, a card has its
    own default limit again."""

    persistence: bool | None = None
    """Persistence mode: the driver keeps idle cards initialized, so a server starts faster. By default on if a power limit is set, because
    cards forget the limit without it."""

    @property
    def persists(self) -> bool:
        return self.persistence if self.persistence is not None else self.power_limit_w is not None

    @model_validator(mode="after")
    def _limits_last(self) -> Nvidia:
        if self.power_limit_w is not None and self.persistence is False:
            raise ValueError("an idle card would forget its power limit with `persistence: false`: leave that out")
        return self


class Amd(Settings):
    """AMD graphics integrated in a processor, such as Strix Halo."""

    gtt_mib: Annotated[int, Field(ge=1024, le=1048576)]
    """The most system memory that the graphics may use, in MiB. The kernel's default is half of it. Of 128 GiB, 122880 leaves 8 GiB for the
    system. A change takes effect at the next reboot; until then `paddock status` says so."""


class GpuSettings(RoleSettings):
    """GPU drivers and limits. AMD's and Intel's drivers come with the kernel and Mesa and need no extra package."""

    rolls_back = True

    nvidia: Nvidia | None = None
    """NVIDIA cards: driver, power limits: `{driver: distribution}`."""

    amd: Amd | None = None
    """AMD graphics that share the system memory: `{gtt_mib: 122880}`."""

    count_from: Literal[0, 1] = 0
    """The number of the first card, in the order of PCI addresses: 0, as in nvidia-smi, or 1."""

    @model_validator(mode="after")
    def _something(self) -> GpuSettings:
        if self.nvidia is None and self.amd is None:
            raise ValueError("has no settings: set `nvidia: {driver: distribution}`, or remove the role: cards of AMD and Intel need none")
        return self

    def rehearsed(self, here: Rehearsal) -> tuple[None, list[str]]:
        return None, [f"{here.host}: the role gpu is left out: there is no card to drive."]

    def first_card(self) -> int:
        return self.count_from

    def graphics_mib(self) -> int:
        return self.amd.gtt_mib if self.amd else 0
