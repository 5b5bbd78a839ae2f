"""What every host needs."""

from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from roles.base.plan import plan
from roles.base.settings import BaseSettings

HOST = Host(name="pea", address="192.0.2.7")
FLEET = Fleet(name="home", domain="home.example", hosts={"pea": HOST})


def planned(**settings: object) -> list[str]:
    return [each.id for each in plan(HOST, BaseSettings.model_validate(settings), FLEET, Knowledge())]


def test_a_clock_that_is_set_elsewhere_is_left_alone() -> None:
    assert not [each for each in planned(time="elsewhere") if "service:" in each or "timesyncd" in each]


def test_one_of_the_two_clocks_is_installed_and_runs() -> None:
    assert {"package:systemd-timesyncd", "service:systemd-timesyncd.service"} < set(planned())
    assert {"package:chrony", "service:chrony.service"} < set(planned(time="chrony"))
    assert "package:systemd-timesyncd" not in planned(time="chrony")


def test_a_package_that_is_needed_anyway_may_be_named() -> None:
    assert planned(packages=["curl", "htop", "chrony"], time="chrony").count("package:chrony") == 1
    assert planned(packages=["curl", "htop"]).count("package:curl") == 1
    assert "package:htop" in planned(packages=["curl", "htop"])
