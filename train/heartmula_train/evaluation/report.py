"""Results as Markdown: python -m heartmula_train.evaluation.report ../demo/evaluation/*.json."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heartmula_train.evaluation.hearing import ATTRIBUTES
from heartmula_train.evaluation.prompt_following import OUTCOMES
from heartmula_train.song.checkpoint import read_json

Result = dict[str, Any]
STUDENT = "HeartCodec-student"  # a codec's folder beside the checkpoint's own


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def shown_share(share: Result) -> str:
    """ "57 of 60, 95 % (86 to 98 %)"."""
    low, high = share["interval_95"]
    return f"{share['right']} of {share['of']}, {100 * share['share']:.0f} % ({100 * low:.0f} to {100 * high:.0f} %)"


def prompt_following(result: Result) -> str:
    """Shares of songs that follow their prompt."""
    totals, settings = result["totals"], result["settings"]
    information = totals["information"]
    rows = [[name, shown_share(totals[name])] for name in (*OUTCOMES, "everything")]
    rows.append(["stopped by itself", shown_share(information["stopped_by_itself"])])
    rows.append(["vowels as written", f"{100 * information['vowels']:.0f} %"])
    how = ", ".join(f"{name} {settings[name]}" for name in ("cfg_scale", "topk", "temperature"))
    longest = f"{settings['max_seconds']:.0f} s"
    head = f"Songs of at most {longest} follow their prompt ({how}; in brackets the 95 % interval):"
    return f"{head}\n\n{table(['', 'songs'], rows)}"


def codec_path(result: Result) -> str:
    """What survives the codec."""
    paths = list(result["totals"])
    rows = [[name, *(shown_share(result["totals"][path][name]) for path in paths)] for name in ATTRIBUTES]
    rows.append(["vowels", *(f"{100 * result['totals'][path]['vowels']:.0f} %" for path in paths)])
    rows.append(["log-mel distance", *(f"{result['totals'][path]['log_mel_db']:.2f} dB" for path in paths)])
    wanted = result["targets"]
    return (
        f"Held-out songs through the codec (wanted: {100 * wanted['share']:.0f} % of the songs, "
        f"{100 * wanted['vowels']:.0f} % of the vowels, at most {wanted['log_mel_db']} dB; in the songs themselves the "
        f"analyzer hears {100 * result['original_vowels']:.0f} % of the vowels):\n\n" + table(["", *paths], rows)
    )


def vowels(result: Result) -> str:
    """Where they are lost before the flow."""
    found = ", ".join(f"{100 * share:.0f} % in the {place}" for place, share in result["totals"].items())
    return (
        f"Sung vowels that a linear classifier names (codebook_dim {result['settings']['codebook_dim']}; a fifth at "
        f"random): {found}."
    )


def solver_steps(result: Result) -> str:
    """Distances to fifty steps."""
    rows = [
        [
            name if name == "other noise" else f"{name} steps",
            f"{row['log_mel_db']:.2f} dB",
            f"{row['si_sdr_db']:.1f} dB",
            f"{100 * row['levels_changed']:.0f} %",
        ]
        for name, row in result["totals"].items()
    ]
    songs, reference = len(result["songs"]), result["settings"]["reference_steps"]
    return (
        f"Euler steps of the codec against {reference} of them, same codes and noise, mean over {songs} songs:\n\n"
        + table(["", "log-mel distance", "SI-SDR", "levels changed"], rows)
    )


def students(result: Result) -> str:
    """Distances of a student's songs to the fine solution."""
    rows = [
        [
            name if name not in result["bars"] else f"student, {name.removesuffix('s') if name[0] == '1' else name}",
            f"{row['log_mel_db']:.2f} dB",
            f"at most {result['bars'][name]['at_most']:.1f} dB" if name in result["bars"] else "",
            f"{row['si_sdr_db']:.1f} dB",
            f"{100 * row['levels_changed']:.0f} %",
        ]
        for name, row in result["totals"].items()
    ]
    reference, songs = result["settings"]["reference"], len(result["songs"])
    return (
        f"The flow's student ([{STUDENT}/]({STUDENT}), no guidance) and ten guided Euler steps (20 evaluations) "
        f"against a fine solution ({reference}), same codes and noise, mean over {songs} songs:\n\n"
        + table(["", "log-mel distance", "wanted", "SI-SDR", "levels changed"], rows)
    )


def frechet(result: Result) -> str:
    """The distance and its yardstick."""
    totals = result["totals"]
    text = f"Frechet distance of log-mel statistics to synthesized songs of the same prompts: {totals['distance']} dB²"
    if "yardstick" in totals:
        text += f"; of other synthesized songs: {totals['yardstick']} dB²"
    return text + "."


WRITERS: dict[str, Callable[[Result], str]] = {
    "prompt_following": prompt_following,
    "codec_path": codec_path,
    "vowels": vowels,
    "solver_steps": solver_steps,
    "students": students,
    "frechet": frechet,
}


def report(results: list[Result], checkpoint: str = "") -> str:
    """Each result with the command that made it, in the order of `WRITERS`; those of another `checkpoint` say so."""
    parts = []
    for name, write in WRITERS.items():
        for result in results:
            if result["evaluation"] == name:
                parts.append(f"{write(result)}\n\n{made_by(result, checkpoint)}")
    return "\n\n".join(parts) + "\n"


def made_by(result: Result, checkpoint: str = "") -> str:
    """Command, commit and versions in one line."""
    measured = result.get("checkpoint_sha256", checkpoint)
    other = f"of an earlier checkpoint, {measured[:10]}" if checkpoint and measured != checkpoint else ""
    where = [other] if other else []
    where += [result["program"]] if "program" in result else []
    where += [f"on {result['device']}"] if result.get("device") else []
    where += [f"commit {result['commit'][:10]}{'+' * result['commit'].endswith('+')}"] if result["commit"] else []
    return f"`{result['command']}` ({', '.join([*where, 'PyTorch ' + result['versions']['torch']])})"


def read_results(paths: list[Path]) -> list[Result]:
    """Results of evaluations; another JSON is an error."""
    for path in paths:
        if not has_table(path):
            raise ValueError(f"{path}: not a result of heartmula_train.evaluation that has a table")
    return [read_json(path) for path in paths]


def has_table(path: Path) -> bool:
    """Studies that a page of their own tells of have none."""
    return read_json(path).get("evaluation") in WRITERS


def main(arguments: list[str] | None = None) -> int:
    """Prints the report."""
    parser = argparse.ArgumentParser(prog="python -m heartmula_train.evaluation.report", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+")
    try:
        print(report(read_results(parser.parse_args(arguments).results)), end="")
    except (ValueError, OSError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
