"""Commands whose settings stand in a YAML file, and in arguments that replace its values."""

from __future__ import annotations

from typing import Any


def settings_parser(command: str, config: type, usage: str, description: str) -> Any:
    """Parser of a command, for the fields of a dataclass.

    Parameters
    ----------
    command
        Name of the command.
    config
        The dataclass.
    usage, description
        Arguments beside the settings, and what the command does.

    Raises
    ------
    ImportError
        If jsonargparse is not installed.
    """
    try:
        from jsonargparse import ArgumentParser
    except ImportError as error:
        msg = f'scgenemamba {command} needs jsonargparse: pip install "scgenemamba[pretrain]"'
        raise ImportError(msg) from error
    parser = ArgumentParser(
        prog=f"scgenemamba {command}",
        usage=f"scgenemamba {command} --config FILE {usage} [--SECTION.NAME VALUE ...]",
        description=description,
    )
    parser.add_argument("--config", action="config", help="YAML file; --print_config writes one")
    parser.add_class_arguments(config, as_group=False)
    return parser


def settings_of(parser: Any, found: Any, config: type) -> Any:
    """The dataclass from what was parsed, without the arguments beside the settings."""
    found.pop("config", None)
    return config(**vars(parser.instantiate(found)))
