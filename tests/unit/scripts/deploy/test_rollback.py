"""`make rollback`: every caller is back on the version before, at once."""

import pytest

from scripts.deploy.rollback import rollback
from scripts.deploy.target import DeployError
from tests.unit.scripts.deploy.cloud import HERE, Cloud


@pytest.fixture
def cloud() -> Cloud:
    made = Cloud("a" * 64)
    made.versions = {"complete": [4, 7], "embed": [2, 3], "migrate": [8, 9]}
    made.published = {"complete": 7, "embed": 3, "migrate": 9}
    made.live = dict(made.published)
    return made


def test_every_function_but_migrate_goes_back_to_the_version_before(cloud: Cloud) -> None:
    rollback(HERE, cloud)
    assert cloud.live == {"complete": 4, "embed": 2, "migrate": 9}
    assert "wait complete" in cloud.steps and not [
        step for step in cloud.steps if step.startswith(("sam", "terraform"))
    ]


def test_once_more_changes_nothing_and_what_was_interrupted_is_completed(cloud: Cloud) -> None:
    cloud.live["embed"] = 2
    rollback(HERE, cloud)
    rollback(HERE, cloud)
    assert cloud.live == {"complete": 4, "embed": 2, "migrate": 9}


def test_where_one_has_no_version_before_none_is_moved(cloud: Cloud) -> None:
    cloud.versions["embed"] = [3]
    with pytest.raises(DeployError, match="embed has no version before 3"):
        rollback(HERE, cloud)
    assert cloud.live == cloud.published


def test_a_version_of_a_deployment_that_failed_is_none_to_go_back_to(cloud: Cloud) -> None:
    cloud.versions["complete"].append(8)
    rollback(HERE, cloud)
    assert cloud.live["complete"] == 4


def test_a_deployment_under_way_is_cancelled(cloud: Cloud) -> None:
    cloud.status = "UPDATE_IN_PROGRESS"
    rollback(HERE, cloud)
    assert cloud.steps == ["cancel fusewire-prod"] and cloud.live == cloud.published


def test_without_a_stack_it_says_so() -> None:
    with pytest.raises(DeployError, match="no stack fusewire-prod"):
        rollback(HERE, Cloud(None))
