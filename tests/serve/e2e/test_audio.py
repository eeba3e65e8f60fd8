"""Songs as sound: files, parts of them, and what can be heard before a song is done."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from heartmula_server import LONG, Api, Song, until

MAGIC = {"flac": b"fLaC", "wav": b"RIFF", "mp3": b"ID3", "ogg": b"OggS", "opus": b"OggS"}
TYPES = {
    "flac": "audio/flac",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
}
WAV_HEADER_BYTES = 44
SECOND_BYTES = 48000 * 2 * 2


def samples_of(wav: bytes) -> bytes:
    """The data chunk of a WAV file."""
    at = 12
    while wav[at : at + 4] != b"data":
        at += 8 + int.from_bytes(wav[at + 4 : at + 8], "little")
    return wav[at + 8 :][: int.from_bytes(wav[at + 4 : at + 8], "little")]


@pytest.mark.parametrize("form", list(MAGIC))
def test_every_format_is_that_format(api: Api, finished: Song, form: str) -> None:
    answer = api.get(f"/v1/songs/{finished['id']}/audio?format={form}")
    assert answer.status_code == 200
    assert answer.content.startswith(MAGIC[form])
    assert answer.headers["content-type"] == TYPES[form]
    assert answer.headers["accept-ranges"] == "bytes"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert "content-disposition" not in answer.headers


def test_flac_comes_unless_another_format_is_asked_for(api: Api, finished: Song) -> None:
    path = f"/v1/songs/{finished['id']}/audio"
    assert api.bytes(path) == api.bytes(f"{path}?format=flac")
    for wrong in ("format=aac", "format=", "format=FLAC", "format=../../etc/passwd", "download=maybe"):
        answer = api.get(f"{path}?{wrong}")
        assert answer.status_code == 400
        assert wrong.partition("=")[0] in answer.json()["error"]


def test_a_download_has_the_songs_title(api: Api) -> None:
    song = api.make(title='Ein "schöner"\t../../Tag\\')["id"]
    answer = api.get(f"/v1/songs/{song}/audio?format=mp3&download=true")
    assert answer.headers["content-disposition"] == 'attachment; filename="Ein_sch_ner_Tag.mp3"'
    assert 'filename="Ein_sch_ner_Tag' in api.get(f"/v1/songs/{song}/codes").headers["content-disposition"]
    untitled = api.make()["id"]
    answer = api.get(f"/v1/songs/{untitled}/audio?download=true")
    assert answer.headers["content-disposition"] == f'attachment; filename="heartmula-{untitled}.flac"'


def test_parts_make_the_whole(api: Api, finished: Song) -> None:
    path = f"/v1/songs/{finished['id']}/audio?format=wav"
    whole = api.bytes(path)
    size = len(whole)
    for asked, begin, end in (
        ("0-0", 0, 1),
        ("0-99", 0, 100),
        ("100-", 100, size),
        (f"{size - 1}-", size - 1, size),
        ("-10", size - 10, size),
        (f"-{10 * size}", 0, size),
        (f"10-{10 * size}", 10, size),
    ):
        answer = api.get(path, Range=f"bytes={asked}")
        assert answer.status_code == 206, asked
        assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/{size}"
        assert answer.content == whole[begin:end]


def test_a_range_that_is_not_there_is_refused(api: Api, finished: Song) -> None:
    path = f"/v1/songs/{finished['id']}/audio"
    size = len(api.bytes(path))
    for asked in (f"{size}-", f"{10**18}-{10**18}", "-0"):
        answer = api.get(path, Range=f"bytes={asked}")
        assert answer.status_code == 416, asked
        assert answer.headers["content-range"] == f"bytes */{size}"
        assert answer.json()["error"]


@pytest.mark.parametrize(
    "asked", ["bytes=5-2", "bytes=x", "bytes=-", "lines=1-2", "bytes=0-1,4-5", "bytes=" + "0-0," * 99]
)
def test_a_range_that_is_none_is_ignored_or_refused(api: Api, finished: Song, asked: str) -> None:
    path = f"/v1/songs/{finished['id']}/audio"
    answer = api.get(path, Range=asked)
    assert answer.status_code in (200, 400, 416)
    if answer.status_code == 200:
        assert answer.content == api.bytes(path)


def test_a_file_that_is_known_is_not_sent_again(api: Api, finished: Song) -> None:
    path = f"/v1/songs/{finished['id']}/audio?format="
    tags = {form: api.get(path + form).headers["etag"] for form in MAGIC}
    assert len(set(tags.values())) == len(tags)
    again = api.get(path + "mp3", **{"If-None-Match": tags["mp3"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tags["mp3"])
    assert api.get(path + "mp3", **{"If-None-Match": tags["wav"]}).status_code == 200
    assert api.get(path + "mp3", **{"If-Range": tags["mp3"], "Range": "bytes=0-9"}).status_code == 206
    assert api.get(path + "mp3", **{"If-Range": '"other"', "Range": "bytes=0-9"}).status_code == 200


def test_a_file_that_was_made_again_is_the_same(api: Api, finished: Song) -> None:
    """Its ETag says so."""
    for form in ("ogg", "opus", "mp3", "wav"):
        first = api.bytes(f"/v1/songs/{finished['id']}/audio?format={form}")
        assert first == api.bytes(f"/v1/songs/{finished['id']}/audio?format={form}")


def test_the_picture_is_a_picture(api: Api, finished: Song) -> None:
    answer = api.get(f"/v1/songs/{finished['id']}/spectrogram.png")
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG\r\n\x1a\n")


def stream(api: Api, song: str, form: str) -> tuple[bytes, float, httpx.Headers]:
    """What is heard, when the first sample was (time.time()), and the headers."""
    heard, first = b"", 0.0
    with api.http.stream("GET", f"/v1/songs/{song}/stream?format={form}") as answer:
        assert answer.status_code == 200
        for piece in answer.iter_bytes():
            heard += piece
            if not first and len(heard) > WAV_HEADER_BYTES:
                first = time.time()
    return heard, first, answer.headers


def test_a_song_is_heard_while_it_is_made_as_it_will_be(api: Api) -> None:
    song = api.order(max_audio_length_ms=15_000, codec_steps=5)[0]["id"]
    heard, first, headers = stream(api, song, "wav")
    done = api.done(song)
    assert headers["content-type"] == "audio/wav"
    assert headers["transfer-encoding"] == "chunked"
    assert first < done["ended_at"] - 0.2, "the first sample comes long before the end"
    file = api.bytes(f"/v1/songs/{song}/audio?format=wav")
    assert heard[:4] == b"RIFF" and heard[36:40] == b"data"
    assert heard[20:36] == file[20:36], "the same form of samples"
    assert heard[WAV_HEADER_BYTES:] == samples_of(file)
    assert len(samples_of(file)) == round(done["duration"] * SECOND_BYTES)


def test_pcm_is_the_samples_alone(api: Api) -> None:
    song = api.order()[0]["id"]
    heard, _, headers = stream(api, song, "pcm")
    assert headers["content-type"] == "audio/pcm"
    assert heard == samples_of(api.bytes(f"/v1/songs/{song}/audio?format=wav"))
    assert stream(api, song, "pcm")[0] == heard, "a finished song, too"
    assert api.get(f"/v1/songs/{song}/stream?format=mp3").status_code == 400


def test_many_may_listen_to_one_song(api: Api) -> None:
    song = api.order(max_audio_length_ms=12_000)[0]["id"]
    with ThreadPoolExecutor(8) as listeners:
        heard = set(listeners.map(lambda _: stream(api, song, "pcm")[0], range(8)))
    assert heard == {samples_of(api.bytes(f"/v1/songs/{song}/audio?format=wav"))}


def test_a_stream_ends_with_a_song_that_is_cancelled(api: Api) -> None:
    song = api.order(**LONG)[0]["id"]
    with api.http.stream("GET", f"/v1/songs/{song}/stream", timeout=20) as answer:
        pieces = answer.iter_bytes()
        assert next(pieces)
        until(lambda: api.song(song)["audio_seconds"] > 0)
        api.cancel(song)
        for _ in pieces:
            pass
    assert api.get(f"/v1/songs/{song}/stream").status_code == 409


def test_a_song_that_waits_can_be_listened_to(api: Api) -> None:
    """The answer begins at once, the sound with the song."""
    running = [song["id"] for song in api.order(songs=8, **LONG | {"max_audio_length_ms": 60_000})]
    song = api.order()[0]["id"]
    with api.http.stream("GET", f"/v1/songs/{song}/stream", timeout=60) as answer:
        assert answer.status_code == 200
        api.cancel(*running)
        heard = b"".join(answer.iter_bytes())
    assert heard[WAV_HEADER_BYTES:] == samples_of(api.bytes(f"/v1/songs/{song}/audio?format=wav"))
