"""What a request holds of its limits, here and of those that several gateways share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from paddock_gateway.contract import Ask, Lender
from paddock_gateway.fair.leases import Borrowed, Leases
from paddock_gateway.fair.limits import Held, Limiter
from paddock_gateway.settings import Configuration


@dataclass(slots=True)
class Allowance:
    held: Held = field(default_factory=list)
    borrowed: Borrowed = field(default_factory=list)


class Admission:
    def __init__(self, configuration: Configuration, lender: Lender | None, clock: Callable[[], float]) -> None:
        self.limited: dict[str, int] = {}
        """Refusals by kind."""
        self.limiter = Limiter(configuration.models, configuration.global_limits, self.limited)
        self.leases = Leases(lender, self.limiter, clock) if lender else None
        self.entering = 0
        """Requests for which the database is asked just now."""

    async def allow(self, ask: Ask, now: float, soon_s: Callable[[], float]) -> Allowance:
        """Within every limit, or nothing is held and Failure is raised. Waits only where a lease has to be had."""
        claims = self.limiter.claims(ask)
        if not claims:
            return Allowance()
        allowance = Allowance(self.limiter.take(ask, claims, now, soon_s))
        if self.leases is not None:
            self.entering += 1
            try:
                allowance.borrowed = await self.leases.take(claims, ask.tokens)
            except BaseException:
                self.limiter.give_back(allowance.held)
                raise
            finally:
                self.entering -= 1
        return allowance

    def settle(self, allowance: Allowance, tokens: int | None, now: float) -> None:
        """It has run. None: what it took is not known, the reservation stands."""
        self.limiter.settle(allowance.held, tokens, now)
        if self.leases is not None and tokens is not None:
            self.leases.settle(allowance.borrowed, tokens)

    def give_back(self, allowance: Allowance) -> None:
        """It has not run."""
        self.limiter.give_back(allowance.held)
        if self.leases is not None:
            self.leases.give_back(allowance.borrowed)
