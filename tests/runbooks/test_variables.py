from __future__ import annotations

import pytest

from runbooks.detectors.variables import duplicate_variables, removed_variables, stale_configmaps, undefined_variables
from tests.runbooks.specimens import CRASHING, configmap, deployment, pod, replica_set
from tests.runbooks.worlds import codes, world


@pytest.mark.parametrize(("second", "found"), [("localhost", {"config.duplicate-env"}), ("api", set())])
def test_a_variable_that_is_set_twice(second: str, found: set[str]) -> None:
    env = [{"name": "API_HOST", "value": "api"}, {"name": "API_HOST", "value": second}]
    assert codes(duplicate_variables(world(pod(ready=True, container={"env": env})))) == found


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ([{"name": "URL", "value": "http://$(API_HOST)/"}], {"config.missing-env"}),
        ([{"name": "API_HOST", "value": "api"}, {"name": "URL", "value": "http://$(API_HOST)/"}], set()),
        ([{"name": "URL", "value": "http://$(API_SERVICE_HOST)/"}], set()),
    ],
)
def test_a_reference_to_a_variable_that_is_set_nowhere(env: list[dict[str, str]], found: set[str]) -> None:
    assert codes(undefined_variables(world(pod(**CRASHING, container={"env": env})))) == found


@pytest.mark.parametrize(("revision", "found"), [(2, {"config.removed-env"}), (1, set())])
def test_a_variable_that_the_last_revision_dropped(revision: int, found: set[str]) -> None:
    made = world(
        deployment()
        + replica_set("web-1111", 3 - revision, {"env": [{"name": "API_ADDR", "value": "api:80"}]})
        + replica_set("web-5d4f8", revision, {})
        + pod(**CRASHING)
    )
    assert codes(removed_variables(made)) == found


@pytest.mark.parametrize(("written", "found"), [("2026-01-15T11:50:00Z", {"config.stale-configmap"}), ("2026-01-15T10:00:00Z", set())])
def test_a_configmap_that_changed_after_it_was_read(written: str, found: set[str]) -> None:
    env = [{"name": "URL", "valueFrom": {"configMapKeyRef": {"name": "app-config", "key": "url"}}}]
    made = world(configmap("app-config", {"url": "x"}, managedFields=[{"time": written}]) + pod(container={"env": env}))
    assert codes(stale_configmaps(made)) == found
