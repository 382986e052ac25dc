"""Encoders of the paper's size on a GPU: forward, training, and whole training steps, against cells of any length."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from scgenemamba.nn import BiMambaEncoder, GeneMambaConfig, TokenHead, backend_report
from scgenemamba.nn._backend_mamba_ssm import load_kernels

from .results import Report, Result
from .rivals import bert_of_geneformer, matched_transformer, mix_at_once, mix_by_steps, two_pass
from .timing import time_in_turn

#: The paper's network and vocabulary.
LARGE = GeneMambaConfig(n_tokens=25_426, d_model=512, n_layers=24, max_tokens=2_048)
BATCH_TOKENS = 32_768
LENGTHS = (512, 1_024, 2_048, 4_096, 8_192, 16_384)

_MASK_RATE = 0.15
# its time per token does not depend on the length, and it takes long
_LENGTH_OF_PLAIN_TORCH = 2_048
_PLAIN_TORCH = "ours, torch"
# mamba_ssm keeps these in float32, whatever the rest is in
_ACCURATE = ("A_log", "dt_bias", "D")


@dataclass(frozen=True)
class Batch:
    """Cells of equal length, some of their tokens hidden."""

    tokens: torch.Tensor
    cu_seqlens: torch.Tensor
    masked: torch.Tensor


class Forward:
    """Hidden states without gradients."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    @torch.no_grad()
    def __call__(self, batch: Batch) -> None:
        """Run once."""
        self.network(batch.tokens, batch.cu_seqlens)

    def held(self) -> int:
        """Bytes that are there between calls."""
        return n_bytes(self.network.parameters())


class Training(Forward):
    """Hidden states and the gradients of all parameters."""

    @torch.enable_grad()
    def __call__(self, batch: Batch) -> None:
        """Run once."""
        hidden = self.network(batch.tokens, batch.cu_seqlens)
        hidden.backward(torch.ones_like(hidden))
        self.network.zero_grad()


class Step:
    """A step of AdamW on the masked-gene loss over the whole vocabulary; float32 parameters under autocast."""

    def __init__(self, network: nn.Module) -> None:
        weight = network.embeddings.weight
        self.network, self.head = network, TokenHead(weight.shape[1], len(weight), tied=weight).to(weight.device)
        self.parameters = list(nn.ModuleList([network, self.head]).parameters())
        self.optimiser = torch.optim.AdamW(self.parameters, lr=1e-4, fused=True)

    def __call__(self, batch: Batch) -> None:
        """Run once."""
        with torch.autocast(batch.tokens.device.type, torch.bfloat16):
            hidden = self.network(batch.tokens, batch.cu_seqlens, batch.masked)
        self.head.loss(hidden[batch.masked], batch.tokens[batch.masked].long()).backward()
        self.optimiser.step()
        self.optimiser.zero_grad()

    def held(self) -> int:
        """Bytes that are there between calls."""
        states = (t for state in self.optimiser.state.values() for t in state.values())
        return n_bytes(self.parameters) + n_bytes(states)


TASKS: dict[str, type[Forward | Step]] = {"forward": Forward, "training": Training, "step": Step}


def measure(
    part: str,
    device: torch.device,
    report: Report,
    *,
    config: GeneMambaConfig = LARGE,
    lengths: Sequence[int] = LENGTHS,
    batch_tokens: int = BATCH_TOKENS,
) -> None:
    """Time one of :data:`TASKS` for every rival and length.

    Parameters
    ----------
    part
        Name of the task.
    device
        Where to run.
    report
        Takes the results.
    config
        Network.
    lengths
        Tokens per cell.
    batch_tokens
        Tokens of a batch.
    """
    makers, notes = own_rivals(config, device), {}
    makers |= two_pass_rivals(config, partial(_skip, report, part))
    if part != "step":
        makers["Transformer, matched"] = partial(matched_transformer, config, max(lengths))
        makers["BERT of Geneformer-V2"] = partial(bert_of_geneformer, config.n_tokens, max(lengths))
    notes["ours"] = next(f"{status.name} back-end" for status in backend_report(device) if status.chosen)
    torch.manual_seed(0)
    # a whole step needs float32 parameters and runs under autocast
    convert = (lambda network: network) if part == "step" else in_half
    tasks = {name: TASKS[part](convert(make().to(device))) for name, make in makers.items()}
    for length in lengths:
        batch = make_batch(config, length, batch_tokens, device)
        calls = {
            name: partial(task, batch)
            for name, task in tasks.items()
            if name != _PLAIN_TORCH or length == _LENGTH_OF_PLAIN_TORCH
        }
        for name, timing in time_in_turn(calls, device).items():
            rate = None if timing.median is None else len(batch.tokens) / timing.median
            result = Result(
                part=part,
                what=f"{part} of the encoder",
                rival=name,
                length=length,
                seconds=timing.median,
                spread=timing.spread,
                tokens_per_s=rate,
                cells_per_s=None if rate is None else rate / length,
                peak_bytes=None if timing.added_bytes is None else tasks[name].held() + timing.added_bytes,
                note=timing.failure or notes.get(name, ""),
                details={} if timing.first is None else {"first_call_s": timing.first},
            )
            report(result)


def own_rivals(config: GeneMambaConfig, device: torch.device) -> dict[str, Callable[[], nn.Module]]:
    """Our encoder as it comes, with layers that take turns in direction, and on each other back-end that runs here."""
    rivals: dict[str, Callable[[], nn.Module]] = {
        "ours": partial(BiMambaEncoder, config),
        "ours, one direction a layer": partial(BiMambaEncoder, replace(config, fusion="alternate")),
    }
    for status in backend_report(device):
        if status.available and not status.chosen:
            rivals[f"ours, {status.name}"] = partial(BiMambaEncoder, config, status.name)
    return rivals


def two_pass_rivals(config: GeneMambaConfig, skip: Callable[[str, str], None]) -> dict[str, Callable[[], nn.Module]]:
    """Two passes with the kernels of mamba_ssm, where they are installed."""
    try:
        load_kernels()
    except ImportError as error:
        skip("two-pass", str(error))
        return {}
    rivals = {"two-pass, by steps": partial(two_pass, config, mix_by_steps)}
    if importlib.import_module("mamba_ssm.ops.triton.ssd_combined").causal_conv1d_fwd_function is None:
        skip("two-pass, at once", "causal_conv1d is not installed")
        return rivals
    return {**rivals, "two-pass, at once": partial(two_pass, config, mix_at_once)}


def make_batch(config: GeneMambaConfig, length: int, batch_tokens: int, device: torch.device) -> Batch:
    """Random tokens."""
    n_cells = max(1, batch_tokens // length)
    tokens = torch.randint(config.n_tokens, (n_cells * length,), device=device)
    return Batch(
        tokens=tokens,
        cu_seqlens=torch.arange(n_cells + 1, device=device) * length,
        masked=torch.rand(len(tokens), device=device) < _MASK_RATE,
    )


def in_half(network: nn.Module) -> nn.Module:
    """Convert parameters to bfloat16, except those of the decays."""
    for name, parameter in network.named_parameters():
        if name.rpartition(".")[-1] not in _ACCURATE:
            parameter.data = parameter.data.bfloat16()
    return network


def n_bytes(tensors: object) -> int:
    """Memory of tensors."""
    return sum(t.numel() * t.element_size() for t in tensors)


def _skip(report: Report, part: str, rival: str, reason: str) -> None:
    report(Result(part=part, what=f"{part} of the encoder", rival=rival, note=f"skipped: {reason}"))
