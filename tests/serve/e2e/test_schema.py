"""/openapi.json is true: schemathesis asks what it allows, and what it does not."""

from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from conftest import end
from heartmula_server import SHORT, Server

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
EXAMPLES = 40
ENDLESS = "/v1/events"
QUICK_STEPS = 2


class World:
    """A server whose songs are short, and one song that stays."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.song = server.api.make()["id"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    flags = ("--max_audio_length_ms", "800", "--queue", "100000", "--codec_steps", "1")
    server = Server(tmp_path_factory.mktemp("schema"), *flags).ready()
    yield World(server)
    end(server)


@pytest.fixture
def described(world: World) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{world.server.url}/openapi.json")


schema = schemathesis.pytest.from_fixture("described").exclude(path=ENDLESS)


@schema.parametrize()
@seed(16)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_what_is_described_is_what_is(case: schemathesis.Case, world: World) -> None:
    # Half of the songs that are asked for as they should be are there; what is generated never is.
    is_good = case.meta is not None and case.meta.generation.mode.is_positive
    if is_good and case.method == "GET" and len((case.path_parameters or {}).get("id", "")) % 2:
        case.path_parameters["id"] = world.song
    # A thousand steps are allowed, and take half a minute.
    if isinstance(case.body, dict) and isinstance(steps := case.body.get("codec_steps"), int) and 0 < steps <= 1000:
        case.body["codec_steps"] = min(steps, QUICK_STEPS)
    response = case.call(timeout=60)
    case.validate_response(response, checks=CHECKS)
    if response.status_code == 202 and "songs" in response.json():
        for song in response.json()["songs"]:
            world.server.api.http.post(f"/v1/songs/{song['id']}/cancel")


def test_every_status_that_is_told_of_is_a_form_of_errors(world: World) -> None:
    """Whatever a client may be told in a refusal, it reads the same way."""
    description = world.server.api.get("/openapi.json").json()
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            for status, response in operation["responses"].items():
                if status >= "400" and path != "/ready":
                    assert "application/json" in response["content"], (method, path, status)
            assert {"operationId", "summary"} <= operation.keys(), (method, path)


def test_the_fields_of_orders_are_those_of_the_program(world: World) -> None:
    """One table parses, describes and answers."""
    api = world.server.api
    fields = api.get("/openapi.json").json()["paths"]["/v1/songs"]["post"]["requestBody"]["content"]
    properties = fields["application/json"]["schema"]["properties"]
    resolved = api.song(world.song)["request"]
    assert set(resolved) <= set(properties)
    for name, field in properties.items():
        if name in ("songs", "begin"):
            continue
        value = resolved.get(name, field.get("default"))
        if value is not None and name != "max_audio_length_ms":
            answer = api.http.post("/v1/songs", json=SHORT | {name: value})
            assert answer.status_code == 202, (name, value, answer.text)
    limits = api.get("/v1/limits").json()["defaults"]
    for name, value in limits.items():
        assert properties[name].get("default", value) == value, name


def test_the_description_says_what_it_is(world: World) -> None:
    description = httpx.get(f"{world.server.url}/openapi.json").json()
    assert description["openapi"] == "3.1.0"
    assert description["info"]["version"] == world.server.api.get("/health").json()["version"]
    names = [operation["operationId"] for methods in description["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))
