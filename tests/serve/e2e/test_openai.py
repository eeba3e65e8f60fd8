"""OpenAI's own client, which knows nothing of songs: `input` is the lyrics, `instructions` are the tags."""

import base64
import json
from collections.abc import Iterator

import openai
import pytest

from heartmula_server import Api, Server
from test_audio import MAGIC, WAV_HEADER_BYTES, samples_of

LYRICS = "[verse]\nla la la"
MORE = {"max_audio_length_ms": 800, "ignore_eos": True, "codec_steps": 1, "seed": 21}
SPEECH = {"model": "HeartMuLa-oss-3B", "voice": "alloy", "input": LYRICS, "instructions": "piano,happy"}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    (model,) = client.models.list()
    assert (model.object, model.owned_by) == ("model", "heartmula")


@pytest.mark.parametrize("form", ["mp3", "opus", "flac", "wav", "pcm"])
def test_speech_is_the_song(client: openai.OpenAI, api: Api, form: str) -> None:
    speech = client.audio.speech.with_raw_response.create(**SPEECH, response_format=form, extra_body=MORE)
    song = api.done(speech.headers["x-heartmula-song"])
    assert song["request"]["lyrics"] == LYRICS
    assert song["request"]["tags"] == "piano,happy"
    assert song["request"]["seed"] == 21
    assert song["duration"] == 0.88
    heard = speech.content
    if form == "pcm":
        assert heard == samples_of(api.bytes(f"/v1/songs/{song['id']}/audio?format=wav"))
    elif form == "wav":
        assert heard[WAV_HEADER_BYTES:] == samples_of(api.bytes(f"/v1/songs/{song['id']}/audio?format=wav"))
    else:
        assert heard.startswith(MAGIC[form])
        assert heard == api.bytes(f"/v1/songs/{song['id']}/audio?format={form}")


def test_mp3_comes_unless_another_format_is_asked_for(client: openai.OpenAI) -> None:
    speech = client.audio.speech.create(**SPEECH, extra_body=MORE)
    assert speech.content.startswith(MAGIC["mp3"])
    assert speech.response.headers["content-type"] == "audio/mpeg"


def test_speech_is_streamed_while_it_is_made(client: openai.OpenAI, api: Api) -> None:
    more = MORE | {"max_audio_length_ms": 15_000, "codec_steps": 5}
    with client.audio.speech.with_streaming_response.create(**SPEECH, response_format="pcm", extra_body=more) as speech:
        pieces = speech.iter_bytes()
        heard = next(pieces)
        assert api.song(speech.headers["x-heartmula-song"])["state"] == "running"
        heard += b"".join(pieces)
    song = api.done(speech.headers["x-heartmula-song"])
    assert heard == samples_of(api.bytes(f"/v1/songs/{song['id']}/audio?format=wav"))


@pytest.mark.parametrize("form", ["mp3", "pcm"])
def test_speech_comes_as_events(client: openai.OpenAI, api: Api, form: str) -> None:
    create = client.audio.speech.with_streaming_response.create
    with create(**SPEECH, response_format=form, stream_format="sse", extra_body=MORE) as speech:
        assert speech.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in speech.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    events = [json.loads(line) for line in lines]
    assert [event["type"] for event in events[:-1]] == ["speech.audio.delta"] * (len(events) - 1)
    assert events[-1]["type"] == "speech.audio.done"
    assert set(events[-1]["usage"]) == {"input_tokens", "output_tokens", "total_tokens"}
    heard = b"".join(base64.b64decode(event["audio"], validate=True) for event in events[:-1])
    file = api.bytes(f"/v1/songs/{speech.headers['x-heartmula-song']}/audio?format={'wav' if form == 'pcm' else form}")
    assert heard == (samples_of(file) if form == "pcm" else file)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"response_format": "aac"}, "response_format"),
        ({"response_format": 1}, "response_format"),
        ({"stream_format": "x"}, "stream_format"),
        ({"input": None}, "input"),
        ({"input": 1}, "input"),
        ({"instructions": ["x"]}, "instructions"),
        ({"temperature": 0}, "temperature"),
        ({"tempo": 1}, "tempo"),
    ],
)
def test_speech_that_cannot_be_is_refused(client: openai.OpenAI, change: dict, named: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.post("/audio/speech", cast_to=object, body=SPEECH | MORE | change)
    assert named in str(error.value)


def test_what_means_nothing_here_does_no_harm(client: openai.OpenAI) -> None:
    speech = client.audio.speech.create(**SPEECH | {"voice": "nova", "model": "tts-1"}, speed=1.5, extra_body=MORE)
    assert speech.content


def test_a_listener_who_leaves_keeps_nobody(client: openai.OpenAI, api: Api) -> None:
    """The song goes on: it was accepted."""
    with client.audio.speech.with_streaming_response.create(**SPEECH, response_format="pcm", extra_body=MORE) as speech:
        song = speech.headers["x-heartmula-song"]
    assert api.done(song)
