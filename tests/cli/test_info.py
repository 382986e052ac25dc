"""The command that says what is installed and what is used."""

from __future__ import annotations

import platform

import pytest
import torch

import scgenemamba
from scgenemamba.cli import main
from scgenemamba.nn import backend_report


@pytest.fixture
def lines(capsys):
    assert main(["info"]) == 0
    return capsys.readouterr().out.splitlines()


def value(lines, name):
    return next(line for line in lines if line.split()[:1] == [name])


def test_versions_are_listed_with_what_is_missing(lines, monkeypatch, capsys):
    assert scgenemamba.__version__ in value(lines, "scgenemamba")
    assert platform.python_version() in value(lines, "Python")
    assert torch.__version__.split("+")[0] in value(lines, "torch")
    for package in ("scvi-tools", "anndata", "triton", "mamba-ssm", "causal-conv1d", "CUDA"):
        assert value(lines, package)
    monkeypatch.setattr("scgenemamba.cli._info._PACKAGES", ("no-such-package",))
    main(["info"])
    assert "not installed" in value(capsys.readouterr().out.splitlines(), "no-such-package")


def test_each_backend_is_chosen_or_has_a_reason(lines):
    on_cpu = lines[lines.index("Back-ends on cpu") + 1 :]
    for status in backend_report(torch.device("cpu")):
        line = value(on_cpu, status.name)
        assert line.endswith("chosen") if status.chosen else status.reason in line


def test_devices_are_listed(lines):
    assert "threads" in value(lines, "cpu")
    names = [line.split()[0] for line in lines if line.strip().startswith("cuda:")]
    assert len(names) == torch.cuda.device_count()
