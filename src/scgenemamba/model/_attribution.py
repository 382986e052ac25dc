"""Integrated gradients of a score over the tokens of cells."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from scgenemamba.tokens import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from scgenemamba.tokens import CellBatch

    from ._attribution_scores import Score

_Inputs = tuple[torch.Tensor, torch.Tensor]
Baseline = Literal["mask", "mean"]
#: What a token is integrated from. Zero is none of them: norms make a jump there, and sums of gradients miss it.
BASELINES: tuple[Baseline, ...] = ("mask", "mean")
# Tokens in a gradient at a time: their hidden states are kept.
_TOKENS_AT_A_TIME = {"cpu": 8192}
_TOKENS_AT_A_TIME_ELSEWHERE = 131072
# A difference of scores below this is rounding, of which no share can be missing.
_LEAST_DIFFERENCE = 1e-3


@dataclass(frozen=True, eq=False)
class CellAttributions:
    """Attributions of some cells, end to end.

    Attributes
    ----------
    tokens, values
        Tokens and what each adds to the score, int64 and float32 ``(t,)``.
    lengths
        Tokens of each cell, int64 ``(n,)``.
    target, score, baseline
        Explained target of each cell, its score, and the score where every token is the baseline, ``(n,)``.
    error
        Share of the difference of the two scores by which the sum of the values misses it, ``(n,)``.
    steps
        Points of the integral, int64 ``(n,)``.
    """

    tokens: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    score: npt.NDArray[np.float32]
    baseline: npt.NDArray[np.float32]
    error: npt.NDArray[np.float32]
    steps: npt.NDArray[np.int64]


class TokenAttribution:
    """Integrated gradients from a baseline to the tokens, by captum (Sundararajan et al. 2017, ICML).

    A token is its vector to the encoder and its presence to a readout; both are integrated and summed.

    Parameters
    ----------
    module
        Network and heads.
    score
        What is explained.
    baseline
        Vector that stands for an unknown gene: that of ``[MASK]``, or the mean of the genes.
    n_steps, max_steps
        Points of the integral; doubled up to ``max_steps`` for cells that miss ``tolerance``.
    tolerance
        Error, as a share of the difference of the scores.

    Raises
    ------
    ImportError
        If captum is not installed.
    """

    def __init__(
        self, module: Any, score: Score, *, baseline: Baseline, n_steps: int, max_steps: int, tolerance: float
    ) -> None:
        try:
            from captum.attr import IntegratedGradients
        except ImportError as error:
            msg = "Attribution needs captum: pip install 'scgenemamba[interpret]'."
            raise ImportError(msg) from error
        self._module, self._score = module, score
        self._n_steps, self._max_steps, self._tolerance = n_steps, max_steps, tolerance
        self._integrated = IntegratedGradients(self._scores)
        self._baseline = _baseline_vector(module.network.encoder, baseline)

    def __call__(self, batch: CellBatch, target: npt.NDArray[np.int64] | None) -> Iterator[CellAttributions]:
        """Attribute cells, a few at a time and in their order.

        Parameters
        ----------
        batch
            Cells from a data loader, on the device of the module.
        target
            Target of each cell, ``None`` for the one with the highest score.
        """
        batch = self._module.truncate(batch)
        cells = batch["tokens"].long().split(batch["cu_seqlens"].diff().tolist())
        longest = max(map(len, cells), default=0)
        at_a_time = max(1, self._tokens_at_a_time() // (self._n_steps * max(1, longest)))
        for start in range(0, len(cells), at_a_time):
            some = cells[start : start + at_a_time]
            yield self._attribute(some, None if target is None else target[start : start + at_a_time])

    def _attribute(self, cells: tuple[torch.Tensor, ...], target: npt.NDArray[np.int64] | None) -> CellAttributions:
        lengths = torch.tensor([len(cell) for cell in cells], device=cells[0].device)
        tokens = torch.nn.utils.rnn.pad_sequence(list(cells), batch_first=True, padding_value=Vocabulary.PAD)
        inputs, baselines = self._ends(tokens)
        with torch.no_grad():
            scores = self._scores(*inputs, tokens, lengths)
            chosen = scores.argmax(1) if target is None else torch.as_tensor(target, device=tokens.device)
            score, base = (
                s.gather(1, chosen.unsqueeze(1)).squeeze(1) for s in (scores, self._scores(*baselines, tokens, lengths))
            )
        values, error, steps = self._integrate(tokens, lengths, chosen, score - base)
        inside = torch.arange(tokens.shape[1], device=tokens.device) < lengths.unsqueeze(1)
        parts = (tokens[inside], values[inside], lengths, chosen, score, base, error, steps)
        return CellAttributions(*(part.cpu().numpy() for part in parts))

    def _integrate(
        self, tokens: torch.Tensor, lengths: torch.Tensor, chosen: torch.Tensor, difference: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Values ``(b, l)``, errors and steps ``(b,)``."""
        values = torch.zeros(tokens.shape, device=tokens.device)
        error, steps = torch.zeros_like(difference), torch.zeros_like(chosen)
        rows, n_steps = lengths.nonzero().squeeze(1), self._n_steps
        while len(rows) and n_steps <= self._max_steps:
            found = self._with_steps(tokens[rows], lengths[rows], chosen[rows], n_steps)
            missed = (found.double().sum(1) - difference[rows]).abs()
            values[rows], steps[rows] = found, n_steps
            error[rows] = (missed / difference[rows].abs().clamp(min=_LEAST_DIFFERENCE)).float()
            rows, n_steps = rows[error[rows] > self._tolerance], 2 * n_steps
        return values, error, steps

    def _with_steps(
        self, tokens: torch.Tensor, lengths: torch.Tensor, chosen: torch.Tensor, n_steps: int
    ) -> torch.Tensor:
        inputs, baselines = self._ends(tokens)
        at_a_time = max(len(tokens), self._tokens_at_a_time() // max(1, tokens.shape[1]))
        vectors, presence = self._integrated.attribute(
            inputs,
            baselines,
            target=chosen,
            additional_forward_args=(tokens, lengths),
            n_steps=n_steps,
            internal_batch_size=at_a_time,
        )
        return vectors.detach().sum(-1) + presence.detach()

    def _ends(self, tokens: torch.Tensor) -> tuple[_Inputs, _Inputs]:
        """Vectors ``(b, l, d)`` and presence ``(b, l)``, as they are and at the baseline."""
        vectors = self._module.network.encoder.embed(tokens).detach()
        presence = torch.ones(tokens.shape, device=tokens.device)
        return (vectors, presence), (self._baseline.expand_as(vectors), torch.zeros_like(presence))

    def _scores(
        self, vectors: torch.Tensor, presence: torch.Tensor, tokens: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """Scores of cells side by side, ``(b, n_targets)``."""
        inside = torch.arange(tokens.shape[1], device=tokens.device) < lengths.unsqueeze(1)
        bounds = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        encoded = self._module.network(tokens[inside], bounds, embedded=vectors[inside])
        there = presence[inside]
        if len(encoded.tokens) > len(there):
            # [CLS] is there at both ends
            own = encoded.tokens != self._module.config.n_tokens - 1
            there = torch.ones_like(encoded.tokens, dtype=there.dtype).masked_scatter(own, there)
        # captum wants each input to have a part in the score, and not every score reads the presence
        return self._score(encoded, there) + 0.0 * presence.sum(1, keepdim=True)

    def _tokens_at_a_time(self) -> int:
        return _TOKENS_AT_A_TIME.get(self._baseline.device.type, _TOKENS_AT_A_TIME_ELSEWHERE)


def _baseline_vector(encoder: Any, baseline: Baseline) -> torch.Tensor:
    if baseline == "mask":
        return encoder.mask_embedding.detach()
    return encoder.embeddings.weight.detach()[Vocabulary.FIRST_GENE :].mean(0)


@contextmanager
def explaining(module: Any) -> Iterator[None]:
    """Within, the module computes in evaluation mode and in full precision, and its weights take no gradients."""
    training = module.training
    learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
    module.eval()
    for parameter in learnt:
        parameter.requires_grad_(False)
    try:
        with module.full_precision():
            yield
    finally:
        module.train(training)
        for parameter in learnt:
            parameter.requires_grad_(True)
