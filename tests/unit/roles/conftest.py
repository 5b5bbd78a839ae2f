import pytest
from small_fleet import Small


@pytest.fixture
def small() -> Small:
    return Small()
