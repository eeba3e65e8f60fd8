"""Commands that READMEs and results show are ones that the kit takes, with files that there are."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex

import pytest
from conftest import REPOSITORY

READMES = [REPOSITORY / "train" / "README.md", REPOSITORY / "demo" / "README.md"]


def _commands() -> list[str]:
    found = []
    for path in READMES:
        for block in re.findall(r"```sh\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            lines = block.replace("\\\n", " ").replace("$results", "results").splitlines()
            found += [line for line in lines if line.startswith("python -m heartmula_train")]
    return list(dict.fromkeys(found))


class _Taken(Exception):
    """The command line was parsed."""


@pytest.mark.parametrize("command", _commands())
def test_command_is_taken(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, name, *arguments = shlex.split(command, comments=True)
    parse = argparse.ArgumentParser.parse_args

    def parsed(parser: argparse.ArgumentParser, *given: object) -> None:
        options = parse(parser, *given)
        config = getattr(options, "config", None)
        assert config is None or (REPOSITORY / "train" / config).is_file(), config
        raise _Taken

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    monkeypatch.setattr("sys.argv", [name, *arguments])
    package = name if "." in name and not name.endswith(".music") else f"{name}.__main__"
    with pytest.raises(_Taken):
        importlib.import_module(package).main()


def test_there_are_commands() -> None:
    assert len(_commands()) > 15
