"""Evaluation on synthetic arrays: counts, distances, requirements, curves, the README."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from scipy.signal import butter, sosfilt
from torch.utils.tensorboard import SummaryWriter

from heartmula_train.codec.features import song_features
from heartmula_train.evaluation import frechet, prompt_following, provenance, report, vowels
from heartmula_train.evaluation.codec_path import log_mel_db, targets_met
from heartmula_train.evaluation.curves import draw_curves, read_curves, thinned
from heartmula_train.evaluation.frechet import Gaussian, frechet_distance, song_vectors
from heartmula_train.evaluation.hearing import ATTRIBUTES, agreement, hear, vowel_errors
from heartmula_train.evaluation.plans import EVALUATION_SEED, MAX_SECONDS, evaluation_plan
from heartmula_train.evaluation.program import Program, read_codes, read_wav, write_codes, write_wav
from heartmula_train.evaluation.prompt_following import (
    OUTCOMES,
    bars_too_long,
    ending_agrees,
    length_limit_ms,
    missed,
    parse_requirements,
)
from heartmula_train.evaluation.record import checkpoint_hash, share, shown_command, wilson, write_compact
from heartmula_train.evaluation.solver_steps import compare
from heartmula_train.evaluation.students import bars
from heartmula_train.music.fit_analyzer import FIT_SEED
from heartmula_train.music.plan import BARS_PER_LINE, BEAT_CODES, SongPlan
from heartmula_train.music.render import render
from heartmula_train.music.report_analyzer import REPORT_SEED
from heartmula_train.stages.config import read_config
from heartmula_train.stages.rvq import FeatureQuantizer
from heartmula_train.stages.songs import held_out_plan

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SHORT = 10.0


def _line_codes(plan: SongPlan) -> int:
    return BARS_PER_LINE * plan.beats_per_bar * BEAT_CODES[plan.tempo]


@pytest.mark.parametrize(("successes", "trials"), [(0, 4), (3, 4), (57, 60), (60, 60)])
def test_wilson_interval_solves_its_equation(successes: int, trials: int) -> None:
    """Its ends are the shares from which the observed one is 1.96 of their own standard deviations away."""
    found = successes / trials
    for end in wilson(successes, trials):
        assert (found - end) ** 2 == pytest.approx(1.959963984540054**2 * end * (1 - end) / trials, abs=1e-12)


def test_evaluation_songs_are_balanced_and_never_trained_on() -> None:
    plans = [evaluation_plan(number) for number in range(60)]
    assert set(Counter((plan.tempo, plan.mood, plan.drums) for plan in plans).values()) == {5}
    assert len({plan.seed for plan in plans}) == 60
    assert plans[17] == evaluation_plan(17), "a song follows from its number"
    first = plans[:4]
    assert {plan.tempo for plan in first} == set(BEAT_CODES)
    assert Counter(plan.mood for plan in first) == {"happy": 2, "sad": 2}
    assert Counter(plan.drums for plan in first) == {True: 2, False: 2}
    tables = {path: tomllib.loads(path.read_text(encoding="utf-8")) for path in CONFIGS.glob("*.toml")}
    configs = [read_config(path) for path, content in tables.items() if "language_model" in str(content.keys())]
    seeds = {content["seed"] for content in tables.values()}
    assert EVALUATION_SEED not in {FIT_SEED, REPORT_SEED, *seeds}
    assert len(configs) >= 3
    assert all(config.language_model.max_seconds == MAX_SECONDS for config in configs)


def test_ending_is_right_within_a_line_of_the_lyrics() -> None:
    plan = next(p for p in map(evaluation_plan, range(100)) if p.bars >= 10)
    line = _line_codes(plan)
    assert ending_agrees(plan.codes, "eos", plan)
    assert ending_agrees(plan.codes + line - 1, "eos", plan)
    assert ending_agrees(plan.codes - line + 1, "eos", plan)
    assert not ending_agrees(plan.codes - line, "eos", plan), "a line is missing"
    assert not ending_agrees(plan.codes + line, "eos", plan), "a line too many"
    assert not ending_agrees(plan.codes, "length", plan), "cut off, though at the right place"
    assert bars_too_long(plan.codes - line, plan) == -BARS_PER_LINE


def test_ending_of_a_short_song_is_right_within_a_quarter() -> None:
    plan = next(p for p in map(evaluation_plan, range(100)) if p.bars == 4)
    assert ending_agrees(round(1.2 * plan.codes), "eos", plan)
    assert not ending_agrees(round(1.3 * plan.codes), "eos", plan)
    assert length_limit_ms(plan) / 80 - plan.codes > _line_codes(plan), "a song too long is not cut before it shows"


def _rows(right: int, songs: int = 4) -> list[dict]:
    return [{"right": dict.fromkeys(OUTCOMES, number < right)} for number in range(songs)]


def test_requirements_fail_and_pass() -> None:
    wanted = parse_requirements("tempo=3,sum=11")
    assert missed(_rows(3), wanted) == []
    failures = missed(_rows(2), wanted)
    assert len(failures) == 2
    assert "sum: 8 right, 11 required" in failures
    for text in ("tempo", "tempo=x", "colour=3"):
        with pytest.raises(Exception, match="NAME=COUNT"):
            parse_requirements(text)


@pytest.mark.parametrize(("shift", "verdict"), [(0, 0), (1, 1)])
def test_four_songs_pass_if_they_are_as_asked_and_fail_if_they_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: int, verdict: int
) -> None:
    """The program is replaced by the synthesizer, which plays song `number + shift` of the evaluation."""

    def play(
        _program: Program, _model: Path, prompt: tuple[str, str], path: Path, seed: int, *_others: object
    ) -> dict[str, dict]:
        assert prompt == (evaluation_plan(seed).tags, evaluation_plan(seed).lyrics)
        plan = evaluation_plan(seed + shift)
        write_wav(render(plan), path)
        made = {"frames": plan.codes, "stop_reason": "eos", "real_time_factor": {"total": 1.0}}
        return {"result": {**made, "warnings": [], "device": "none"}}

    monkeypatch.setattr(Program, "generate", play)
    monkeypatch.setattr(Program, "version", lambda _: "heartmula 0")
    out = tmp_path / "result.json"
    arguments = ["--model_path", str(tmp_path), "--songs", "4", "--require", "sum=11", "--out", str(out)]
    assert prompt_following.main(arguments) == verdict
    everything = json.loads(out.read_text(encoding="utf-8"))["totals"]["everything"]
    assert everything["right"] == (0 if shift else 4)


def test_hearing_a_song_of_a_plan() -> None:
    plan = evaluation_plan(5, SHORT)
    heard = hear(render(plan))
    assert all(agreement(heard, plan).values())
    errors, syllables = vowel_errors(heard, plan)
    assert errors < 0.3 * syllables


def test_nothing_is_right_in_silence_and_short_songs_are_heard() -> None:
    plan = evaluation_plan(5, SHORT)
    song = render(plan)
    for silent in (np.zeros((2, 96000), np.float32), np.zeros((2, 0), np.float32), song * np.float32("nan")):
        assert hear(silent) is None
    assert not any(agreement(None, plan).values())
    assert vowel_errors(None, plan)[0] == vowel_errors(None, plan)[1]
    assert hear(song[:, :3840]) is not None


def test_distance_of_gaussians_is_the_closed_form() -> None:
    """With covariances that commute: |m1 - m2|^2 + sum (s1 - s2)^2, in any basis."""
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    s1, s2, m1, m2 = (rng.uniform(0.1, 3.0, 6) for _ in range(4))
    a, b = (Gaussian(m, basis @ np.diag(s**2) @ basis.T) for m, s in ((m1, s1), (m2, s2)))
    expected = np.square(m1 - m2).sum() + np.square(s1 - s2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)
    one = Gaussian(np.array([1.0]), np.array([[4.0]]))
    assert frechet_distance(one, Gaussian(np.array([4.0]), np.array([[1.0]]))) == pytest.approx(9 + 1)


def test_distance_of_gaussians_that_do_not_commute() -> None:
    """Against the root of the product itself, which is not symmetric."""
    rng = np.random.default_rng(4)
    a, b = (Gaussian.of(rng.standard_normal((50, 5)) @ rng.standard_normal((5, 5))) for _ in range(2))
    values = np.linalg.eigvals(a.covariance @ b.covariance)
    difference = a.mean - b.mean
    traces = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(values.real).sum()
    assert frechet_distance(a, b) == pytest.approx(difference @ difference + traces, rel=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_shrinkage_keeps_variances() -> None:
    vectors = np.random.default_rng(5).standard_normal((20, 3)) @ np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1.0]])
    plain, shrunk = (Gaussian.of(vectors, shrinkage).covariance for shrinkage in (0.0, 0.5))
    assert np.allclose(np.diag(plain), np.diag(shrunk))
    assert shrunk[0, 1] == pytest.approx(0.5 * plain[0, 1])
    with pytest.raises(ValueError, match="two seconds"):
        Gaussian.of(vectors[:1])


def test_distance_of_songs_grows_with_noise_and_low_pass() -> None:
    songs = [render(evaluation_plan(number, SHORT)) for number in range(4)]
    rng = np.random.default_rng(6)

    def gaussian(changed: list[np.ndarray]) -> Gaussian:
        return Gaussian.of(np.concatenate([song_vectors(song) for song in changed]))

    def low_passed(hz: float) -> list[np.ndarray]:
        return [sosfilt(butter(6, hz, fs=48000, output="sos"), song).astype(np.float32) for song in songs]

    def noisy(level: float) -> list[np.ndarray]:
        return [song + np.float32(level) * rng.standard_normal(song.shape, np.float32) for song in songs]

    same = gaussian(songs)
    scale = np.trace(same.covariance)
    assert frechet_distance(same, gaussian(songs)) < 1e-8 * scale
    for series in ([noisy(x) for x in (0.001, 0.01, 0.1)], [low_passed(hz) for hz in (8000, 3000, 1000)]):
        distances = [frechet_distance(same, gaussian(changed)) for changed in series]
        assert 0 < distances[0] < distances[1] < distances[2], distances


def test_frechet_of_folders_and_plans(tmp_path: Path) -> None:
    for number in range(2):
        write_wav(render(evaluation_plan(number)), tmp_path / f"{number}.wav")
    out = tmp_path / "frechet.json"
    assert frechet.main(["plans:0:2", str(tmp_path), "--yardstick", "plans:2:2", "--out", str(out)]) == 0
    totals = json.loads(out.read_text(encoding="utf-8"))["totals"]
    assert totals["distance"] < 0.01 < totals["yardstick"]
    assert frechet.main(["plans:0:2", str(tmp_path / "nowhere")]) == 2


def test_distances_of_equal_songs() -> None:
    song = render(evaluation_plan(0, SHORT))
    assert compare(song, song)["log_mel_db"] == 0
    assert compare(0.5 * song, song)["si_sdr_db"] > 60
    assert log_mel_db(song[:, :-1], song) == 0, "the shorter of two songs counts"
    noise = 0.1 * np.random.default_rng(7).standard_normal((2, 48000)).astype(np.float32)
    assert log_mel_db(2 * noise, noise) == pytest.approx(6.02, abs=0.01)


def test_codes_and_songs_are_read_as_written(tmp_path: Path) -> None:
    codes = np.arange(24).reshape(3, 8)
    write_codes(codes, tmp_path / "codes.safetensors")
    assert np.array_equal(read_codes(tmp_path / "codes.safetensors"), codes)
    song = render(evaluation_plan(1, SHORT))
    write_wav(song, tmp_path / "song.wav")
    assert np.array_equal(read_wav(tmp_path / "song.wav"), song)


def test_results_show_no_paths_of_a_machine() -> None:
    shown = shown_command("python -m x", ["--run", "/home/somebody/runs/demo", "--to", "../demo"])
    assert shown == "python -m x --run demo --to ../demo"


def test_checkpoint_hash_covers_what_a_song_depends_on(tmp_path: Path) -> None:
    (tmp_path / "HeartCodec-oss").mkdir()
    (tmp_path / "HeartCodec-oss" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "tokenizer.json").write_bytes(b"words")
    before = checkpoint_hash(tmp_path)
    (tmp_path / "training.json").write_bytes(b"a record")
    assert checkpoint_hash(tmp_path) == before
    (tmp_path / "tokenizer.json").write_bytes(b"other words")
    assert checkpoint_hash(tmp_path) != before


def _logged_run(folder: Path) -> Path:
    for stage in ("rvq", "flow"):
        with SummaryWriter(str(folder / stage / "logs")) as writer:
            for step in range(0, 100):
                writer.add_scalar("train/loss", 1.0, step)
                writer.add_scalar("validation/error", 1 / (1 + step), step)
        figures = {"step": 99, "seconds": 61.0, "error": 0.01}
        (folder / stage / "figures.json").write_text(json.dumps(figures), encoding="utf-8")
    return folder


def test_curves_are_read_thinned_and_drawn(tmp_path: Path) -> None:
    curves = read_curves(_logged_run(tmp_path), ["autoencoder", "rvq", "flow"])
    assert set(curves) == {"rvq", "flow"}
    assert curves["rvq"]["step"][-1] == 99
    assert curves["rvq"]["error"][-1] == 0.01
    assert len(curves["rvq"]["step"]) == len(curves["rvq"]["error"]) <= 60
    assert thinned([(1, 0.123456789)]) == [(1, 0.12346)]
    drawing = ElementTree.fromstring(draw_curves(curves))
    lines = [e for e in drawing.iter() if e.tag.endswith("polyline")]
    assert len(lines) == 2
    first, last = lines[0].attrib["points"].split()[0], lines[0].attrib["points"].split()[-1]
    assert float(first.split(",")[1]) < float(last.split(",")[1]), "a figure that falls goes down"


def _results(folder: Path) -> None:
    folder.mkdir()
    common = {"command": "python -m x", "commit": "0123456789abcdef", "versions": {"torch": "2"}, "device": "cpu"}
    right = share([True, True, False, True])
    following = {
        **{name: right for name in (*OUTCOMES, "everything")},
        "information": {"stopped_by_itself": right, "vowels": 0.8},
    }
    path = {**{name: right for name in ATTRIBUTES}, "vowels": 0.34, "log_mel_db": 5.9}
    steps = {name: {"log_mel_db": 0.8, "si_sdr_db": 20.0, "levels_changed": 0.27} for name in ("10", "other noise")}
    results = {
        "prompt_following": (following, {"max_seconds": 24.0, "cfg_scale": 1.5, "topk": 50, "temperature": 1}),
        "codec_path": ({"codec": path, "autoencoder": path}, {}),
        "solver_steps": (steps, {"reference_steps": 50}),
        "students": ({"4 steps": steps["10"], "other noise": steps["10"]}, {"reference": "AB2"}),
        "frechet": ({"distance": 12.3, "yardstick": 4.5}, {}),
    }
    for name, (totals, settings) in results.items():
        result = {"evaluation": name, **common, "settings": settings, "totals": totals, "songs": []}
        if name == "codec_path":
            result["targets"] = {"share": 0.9, "vowels": 0.8, "log_mel_db": 6.5}
            result["original_vowels"] = 0.96
        if name == "students":
            result["bars"] = bars(totals)
        write_compact(folder / f"{name}.json", result)


def test_readme_is_made_from_a_run_and_again_without_it(tmp_path: Path) -> None:
    run, demo = _logged_run(tmp_path / "run"), tmp_path / "demo"
    demo.mkdir()
    _results(demo / "evaluation")
    config = ["--config", str(CONFIGS / "demo.toml")]
    assert (
        provenance.main([*config, "--run", str(run), "--to", str(demo), "--commit", "abc", "--machine", "2 cores"]) == 0
    )
    text = (demo / "README.md").read_text(encoding="utf-8")
    wanted = [
        "3 of 4, 75 %",
        "5.90 dB",
        "| student, 4 steps | 0.80 dB | at most 0.6 dB |",
        "| vowels | 34 % | 34 % |",
        "hears 96 % of the vowels",
        "| 10 steps |",
    ]
    for part in (*wanted, "12.3 dB²", "commit abc", "| rvq | 99 | 1.0 |", "2 cores"):
        assert part in text, part
    assert str(tmp_path) not in text + (demo / "training.json").read_text(encoding="utf-8")
    drawn = (demo / "training.svg").read_bytes()
    (demo / "README.md").unlink()
    (demo / "training.svg").unlink()
    assert provenance.main(["--to", str(demo)]) == 0
    assert (demo / "README.md").read_text(encoding="utf-8") == text
    assert (demo / "training.svg").read_bytes() == drawn


def test_readme_of_stages_that_two_runs_trained_keeps_what_somebody_wrote(tmp_path: Path) -> None:
    first, second, demo = (tmp_path / name for name in ("first", "second", "demo"))
    demo.mkdir()
    config = ["--config", str(CONFIGS / "demo.toml"), "--to", str(demo)]
    assert provenance.main([*config, "--run", str(_logged_run(first)), "--commit", "abc"]) == 0
    with (demo / "README.md").open("a", encoding="utf-8") as file:
        file.write("\n## What to do next\n\nA better codec.\n")
    _results(demo / "evaluation")
    frechet_json = demo / "evaluation" / "frechet.json"
    result = json.loads(frechet_json.read_text(encoding="utf-8"))
    write_compact(frechet_json, {**result, "checkpoint_sha256": "0123456789" + "f" * 54})
    _logged_run(second)
    shutil.rmtree(second / "rvq")
    (second / "codec").mkdir()
    assert provenance.main([*config, "--run", str(second), "--commit", "def"]) == 0
    runs = json.loads((demo / "training.json").read_text(encoding="utf-8"))["runs"]
    assert [(list(run["figures"]), list(run["curves"]), run["commit"]) for run in runs] == [
        (["rvq"], ["rvq"], "abc"),
        (["flow"], ["flow"], "def"),
    ]
    text = (demo / "README.md").read_text(encoding="utf-8")
    assert text.count("of an earlier checkpoint") == text.count("of an earlier checkpoint, 0123456789, on cpu") == 1
    assert "start --config configs/demo.toml --from ../demo --take codec --out RUN" in text
    assert text.index("| rvq | 99") < text.index("A better codec.") < text.index("## Licence")
    assert provenance.main([*config, "--run", str(first), "--commit", "ghi"]) == 0
    runs = json.loads((demo / "training.json").read_text(encoding="utf-8"))["runs"]
    assert [run["commit"] for run in runs] == ["ghi"]
    assert (demo / "README.md").read_text(encoding="utf-8").count("A better codec.") == 1


def test_readme_tells_how_a_student_was_made(tmp_path: Path) -> None:
    run, demo = _logged_run(tmp_path / "run"), tmp_path / "demo"
    (run / "rvq").rename(run / "flow_student")
    shutil.rmtree(run / "flow")
    (demo / "HeartCodec-student").mkdir(parents=True)
    config = ["--config", str(CONFIGS / "demo_student.toml")]
    assert provenance.main([*config, "--run", str(run), "--to", str(demo)]) == 0
    text = (demo / "README.md").read_text(encoding="utf-8")
    for part in ("flow_student --config configs/demo_student.toml --from ../demo --out RUN", "| flow_student | 99"):
        assert part in text, part
    assert "export_student" in text
    assert "--codec_path demo/HeartCodec-student" in text


def test_readme_tells_where_a_run_left_the_kits_configuration(tmp_path: Path) -> None:
    kits = CONFIGS / "demo.toml"
    assert provenance.changed_settings(kits, kits) == {}
    content = kits.read_text(encoding="utf-8")
    (tmp_path / "demo.toml").write_text(content.replace("minutes = 28", "minutes = 300"), encoding="utf-8")
    run, demo = _logged_run(tmp_path / "run"), tmp_path / "demo"
    demo.mkdir()
    arguments = ["--config", str(tmp_path / "demo.toml"), "--run", str(run), "--to", str(demo)]
    assert provenance.main(arguments) == 0
    assert "had flow.minutes = 300 instead" in (demo / "README.md").read_text(encoding="utf-8")


def test_report_refuses_what_is_no_result(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    assert report.main([str(tmp_path / "other.json")]) == 2
    assert "not a result" in capsys.readouterr().err


def test_vowels_are_found_in_features_and_lost_where_a_projection_drops_them() -> None:
    config = read_config(CONFIGS / "demo.toml")
    plans = [held_out_plan(config, vowels.FIRST + number, 16.0) for number in range(24)]
    features = [torch.from_numpy(song_features(render(plan))) for plan in plans[:8]]
    few, many = (FeatureQuantizer(replace(config.codec, codebook_dim=dim, codebook_size=64)) for dim in (2, 96))
    shares = []
    for quantizer in (few, many):
        quantizer.start(torch.cat(features), torch.Generator().manual_seed(1))
        shares.append(vowels.vowel_shares(quantizer, plans, 18))
    print(shares)
    assert shares[0]["features"] == shares[1]["features"] > 0.6
    assert shares[0]["projection"] < 0.5 < shares[1]["projection"]
    assert shares[0]["codebooks"] < 0.5


def test_a_beats_vector_is_of_its_middle() -> None:
    plan = evaluation_plan(0, SHORT)
    length = BEAT_CODES[plan.tempo]
    frames = np.repeat(np.arange(plan.codes // length + 1), length)[: plan.codes, None].astype(float)
    frames[length - 1 :: length] = -1.0  # breath
    found, labels = vowels.beat_vectors(frames, plan)
    assert "".join("-aeiou"[label] for label in labels) == plan.beat_vowels
    assert np.array_equal(found[:, 0], np.arange(len(labels)))
    assert np.array_equal(found[:, 2], np.arange(len(labels)) + 1)


def test_targets_of_the_codec_path() -> None:
    total = {**{name: share([True] * 9 + [False]) for name in ATTRIBUTES}, "vowels": 0.8, "log_mel_db": 6.5}
    assert all(targets_met(total).values())
    total["tempo"] = share([True] * 8 + [False] * 2)
    total["vowels"], total["log_mel_db"] = 0.79, 6.51
    assert [name for name, met in targets_met(total).items() if not met] == ["tempo", "vowels", "log_mel_db"]


def test_compact_json_is_the_same_json(tmp_path: Path) -> None:
    content = {"a": {"b": [1, 2], "c": {}, "text": "[x] {y}"}, "rows": [{"d": 1.5, "e": [None, True]}, []]}
    write_compact(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert '"b": [1, 2]' in text
