"""A release is judged by what was measured beside the one that serves: noise does not fail it, a slower one is told with its figures."""

from __future__ import annotations

import base64
import json
import re

import pytest

from control.lifecycle.judgement import SHORT_OF_MEMORY, Judgement, judge
from control.lifecycle.measurements import Measurements
from control.lifecycle.measuring import judged
from control.lifecycle.requests import LIKELY, LONG, SHORT
from inventory.upgrade import UpgradeLimits, UpgradeSettings
from resources import on_trial
from tests.unit.lifecycle.simulated import OTHERS, Release, Simulated

SETTINGS = UpgradeSettings()
SLOWER = Release(prompts=400 * 0.7, generation=40 * 0.7)


def decided(simulated: Simulated) -> Judgement:
    return judged("ai", simulated.lines, SETTINGS, "0.3.34")


def once(canary: Release, **limits: str) -> Judgement:
    """Without noise."""
    return judge(Simulated(canary, noise=0, load=0).measured(), UpgradeLimits(**limits), "0.3.34")


def words(judgement: Judgement, verdict: str) -> list[str]:
    return [each.words for each in judgement.findings if each.verdict == verdict]


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.08])
def test_a_release_that_is_5_percent_slower_passes_20_of_20(noise: float) -> None:
    canary = Release(prompts=400 * 0.95, generation=40 * 0.95, start_s=3.15, memory_mib=4200)
    verdicts = [decided(Simulated(canary, noise=noise, seed=seed)).verdict for seed in range(20)]
    assert verdicts == ["pass"] * 20


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.08])
def test_one_that_is_30_percent_slower_always_fails(noise: float) -> None:
    assert {decided(Simulated(SLOWER, noise=noise, seed=seed)).verdict for seed in range(20)} == {"fail"}


def test_one_that_is_as_slow_as_the_limit_is_measured_again_and_may_stay_undecided() -> None:
    told: list[Judgement] = []
    judgement = judged("ai", Simulated(Release(generation=40 * 0.85), seed=1).lines, SETTINGS, "0.3.34", told.append)
    assert judgement.verdict == "inconclusive" and [each.verdict for each in told] == ["inconclusive"] * 3
    values = r"generation: \d\d(\.\d)? tokens/s against \d\d(\.\d)? of 0\.3\.34"
    assert re.fullmatch(rf"{values}, between -\d+ % and -\d+ % \(limit -15 %\): 64 pairs do not decide it", judgement.causes[0])


def test_what_is_decided_is_not_measured_again() -> None:
    asked: list[int] = []

    def lines(rounds: int) -> list[str]:
        asked.append(rounds)
        return list(Simulated(Release(), noise=0).lines(rounds))

    assert judged("ai", lines, SETTINGS, "0.3.34").verdict == "pass"
    assert asked == [SETTINGS.rounds]


def test_one_that_is_slower_only_in_prompts_fails_with_their_speeds() -> None:
    (cause,) = once(Release(prompts=400 * 0.66)).causes
    assert cause == "prompts: 264 tokens/s against 400 of 0.3.34 (-34 %, limit -15 %)"


def test_one_that_is_slower_only_in_generation_fails_by_that_alone() -> None:
    causes = once(Release(generation=30)).causes
    assert causes == (
        "generation: 30 tokens/s against 40 of 0.3.34 (-25 %, limit -15 %)",
        "generation after a long prompt: 30 tokens/s against 40 of 0.3.34 (-25 %, limit -15 %)",
    )


def test_a_faster_one_passes_whatever_the_limit() -> None:
    judgement = once(Release(prompts=4000, generation=400, start_s=0.1, memory_mib=10), slower="0%", start="0%", memory="0%")
    assert (judgement.verdict, judgement.causes) == ("pass", ())


def test_memory_and_starts_have_limits_of_their_own() -> None:
    assert once(Release(memory_mib=5000)).causes == ("memory of the host: 5,000 MiB against 4,000 of 0.3.34 (+25 %, limit +20 %)",)
    late = Simulated(Release(start_s=5), noise=0, load=0)
    assert judge(late.measured(), UpgradeLimits(), "0.3.34").verdict == "inconclusive"  # of two starts
    assert decided(late).causes == ("start: 5 s against 3 of 0.3.34 (+67 %, limit +50 %)",)


def test_one_that_has_lost_its_card_is_told_by_what_it_holds_there() -> None:
    lost = Simulated(Release(generation=4), Release(card_mib=3000), noise=0, load=0).measured()
    causes = judge(lost, UpgradeLimits(), "0.3.34").causes
    assert causes[0] == "cards: it holds nothing on them, 0.3.34 holds 3,000 MiB: it computes on the processor"
    more = Simulated(Release(card_mib=4000), Release(card_mib=3000), noise=0, load=0).measured()
    assert judge(more, UpgradeLimits(), "0.3.34").causes == ("memory of the cards: 4,000 MiB against 3,000 of 0.3.34 (+33 %, limit +20 %)",)


def test_a_difference_that_nobody_waits_for_never_counts() -> None:
    fast = Release(prompts=400_000, generation=40_000, start_s=0.2, memory_mib=40)
    slower = Release(prompts=200_000, generation=20_000, start_s=0.9, memory_mib=80)
    judgement = judge(Simulated(slower, fast, noise=0, load=0).measured(), UpgradeLimits(), "0.3.34")
    assert judgement.verdict == "pass"


def test_nonsense_is_found_although_other_texts_are_only_told() -> None:
    other = once(Release(text="other"))
    assert other.verdict == "pass" and words(other, "told") == ["text: 16 of 16 seeded answers are not those of 0.3.34"]
    nonsense = once(Release(text="other", said={LIKELY: {"completion_probabilities": OTHERS}}))
    assert nonsense.causes == ("nonsense: 95% of what it thinks likely is not what 0.3.34 does",)


def test_what_fails_with_both_is_told_and_what_fails_with_the_new_one_alone_fails_it() -> None:
    broken = Release(status={LIKELY: 501})
    assert once(broken).causes == (
        f'{LIKELY}: HTTP 501 ({{"completion_probabilities": [{{"id": 7, "top_logprobs": [{{"i…) (2 of 2 times); 0.3.34 does it',
    )
    both = judge(Simulated(broken, Release(status={LIKELY: 501}), noise=0).measured(), UpgradeLimits(), "0.3.34")
    assert both.verdict == "pass" and words(both, "told")[0].startswith(f"{LIKELY}: fails with 0.3.34 too: HTTP 501")


def test_answers_that_fail_once_are_counted() -> None:
    (cause,) = once(Release(said={SHORT: "data: {}\n\n"})).causes
    assert cause == f"{SHORT}: its stream ends without timings (10 of 10 times); 0.3.34 does it"


def test_timings_that_boast_are_told() -> None:
    judgement = once(Release(claims=2.0))
    assert judgement.verdict == "pass"
    assert words(judgement, "told") == [
        "timings: it says 800 tokens/s of prompts, 400 were measured",
        "timings: it says 80 tokens/s of generation, 40 were measured",
    ]


def test_what_was_reached_is_kept_for_a_floor() -> None:
    reached = once(Release(prompts=390)).reached
    assert reached["prompts"].middle == pytest.approx(390) and reached["generation"].middle == pytest.approx(40)


@pytest.mark.parametrize(
    ("side", "verdict", "cause"),
    [("canary", "fail", "start: it ends with 1"), ("baseline", "inconclusive", "0.3.34 itself cannot be measured: start: it ends with 1")],
)
def test_a_server_that_ends_is_the_cause_whatever_else_was_measured(side: str, verdict: str, cause: str) -> None:
    found = Simulated(SLOWER).measured()
    why = base64.b64encode(b"start: it ends with 1").decode()
    gone = {"event": "gone", "side": side, "pass": 2, "ask": "start", "why": why}
    found.add("ai", [json.dumps(gone), '{"event": "end"}'])
    judgement = judge(found, UpgradeLimits(), "0.3.34")
    assert (judgement.verdict, judgement.causes) == (verdict, (cause,))


@pytest.mark.parametrize("words", SHORT_OF_MEMORY)
def test_a_canary_for_which_no_memory_was_free_is_not_judged(words: str) -> None:
    assert words in on_trial("measure.sh").decode()
    found = Measurements()
    why = base64.b64encode(f"start: {words} beside what serves now".encode()).decode()
    found.add("ai", [json.dumps({"event": "gone", "side": "canary", "pass": 1, "ask": "start", "why": why}), '{"event": "end"}'])
    assert judge(found, UpgradeLimits(), "0.3.34").verdict == "inconclusive"


def test_nothing_measured_decides_nothing() -> None:
    found = Measurements()
    found.add("ai", ['{"event": "end"}'])
    assert judge(found, UpgradeLimits(), "0.3.34").verdict == "inconclusive"


def test_the_warm_up_does_not_count() -> None:
    lines = [json.loads(each) for each in Simulated(Release(), noise=0, load=0).lines(8)]
    for each in lines:
        if each["event"] == "answer" and each["round"] == 0 and each["side"] == "canary" and each["ask"] == LONG:
            each["first_s"], each["last_s"] = 100.0, 200.0
    found = Measurements()
    found.add("ai", map(json.dumps, lines))
    assert judge(found, UpgradeLimits(), "0.3.34").verdict == "pass"
