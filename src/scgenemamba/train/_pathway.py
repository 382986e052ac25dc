"""Pathway contrast: genes that belong together get states that are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
import torch.nn.functional as F

from scgenemamba.nn import cell_of_token

from ._objective import Objective

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from scgenemamba.nn import Encoded
    from scgenemamba.tokens import CellBatch

    from ._random import CellRandom

# streams of random numbers; masks take those of positions from 0 on
_ANCHORS, _CANDIDATES = 1, 2
_NEVER = 2.0
# of no weight in a sum of exponentials; of infinities, the gradient is not a number
_FAR = -1e4


class PathwayContrast(Objective):
    """InfoNCE over contextual states of genes of one cell (paper, equation 15).

    With ``s`` the cosine similarity of two states divided by the temperature, ``P`` the chosen pairs that belong together and ``A``
    all chosen pairs, the loss is ``-mean over (i, j) in P of (s_ij - log sum over (i, v) in A of exp(s_iv))``. Anchors ``i`` and
    candidates ``v`` are drawn at random from the genes of a cell that belong to any pair, so that the negatives are genes of
    other sets; how many is bounded, and with them memory.

    Parameters
    ----------
    pairs
        Tokens that belong together, int64 ``(p, 2)``, see :func:`~scgenemamba.tokens.pairs_of_sets`.
    n_tokens
        Size of the vocabulary.
    n_anchors, n_candidates
        Genes of a cell that are drawn, at most.
    temperature, weight
        The paper's tau and gamma.
    denominator
        ``"anchor"`` as above; ``"batch"``: one sum over all pairs of the batch, as the paper's public code has it.
    """

    name: ClassVar[str] = "pathway contrast"
    keys: torch.Tensor
    paired: torch.Tensor

    def __init__(
        self,
        pairs: npt.NDArray[np.int64],
        n_tokens: int,
        *,
        n_anchors: int = 8,
        n_candidates: int = 128,
        temperature: float = 0.1,
        weight: float = 0.1,
        denominator: Literal["anchor", "batch"] = "anchor",
    ) -> None:
        if denominator not in ("anchor", "batch"):
            msg = f"Unknown denominator {denominator!r}; choose 'anchor' or 'batch'."
            raise ValueError(msg)
        super().__init__()
        self.n_tokens, self.n_anchors, self.n_candidates = n_tokens, n_anchors, n_candidates
        self.temperature, self.weight, self.denominator = temperature, weight, denominator
        ordered = torch.from_numpy(pairs.astype("int64")).sort(dim=1).values
        paired = torch.zeros(n_tokens, dtype=torch.bool)
        paired[ordered.flatten()] = True
        # from files that the user has: not saved with the weights
        self.register_buffer("keys", (ordered[:, 0] * n_tokens + ordered[:, 1]).unique(), persistent=False)
        self.register_buffer("paired", paired, persistent=False)
        self._random: CellRandom | None = None

    def prepare(self, batch: CellBatch, random: CellRandom) -> None:
        """Keep the random numbers of the step; no token is hidden."""
        self._random = random

    def loss(self, batch: CellBatch, encoded: Encoded) -> dict[str, torch.Tensor]:
        """Mean over the pairs that belong together, in nats; zero if there is none."""
        if not len(encoded.tokens):
            return {"pathway": encoded.hidden.sum() * 0.0}
        anchors, candidates = self._drawn(batch, encoded)
        with torch.autocast(encoded.hidden.device.type, enabled=False):
            states = F.normalize(encoded.hidden.float(), dim=-1)
            similarity = states[anchors] @ states[candidates].mT / self.temperature
        tokens = encoded.tokens.long()
        chosen = (anchors >= 0).unsqueeze(2) & (candidates >= 0).unsqueeze(1)
        chosen &= anchors.unsqueeze(2) != candidates.unsqueeze(1)
        together = chosen & self.belong_together(tokens[anchors].unsqueeze(2), tokens[candidates].unsqueeze(1))
        similarity = similarity.masked_fill(~chosen, _FAR)
        if self.denominator == "anchor":
            total = similarity.logsumexp(2, keepdim=True)
        else:
            total = similarity.flatten().logsumexp(0).expand(similarity.shape)
        losses = torch.where(together, total - similarity, 0.0)
        return {"pathway": self.weight * losses.sum() / together.sum().clamp(min=1)}

    def belong_together(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Whether tokens, int64 of shapes that broadcast, are pairs: bool."""
        if not len(self.keys):
            return torch.zeros(torch.broadcast_shapes(first.shape, second.shape), dtype=torch.bool, device=first.device)
        key = torch.minimum(first, second) * self.n_tokens + torch.maximum(first, second)
        place = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
        return self.keys[place] == key

    def _drawn(self, batch: CellBatch, encoded: Encoded) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions of the anchors ``(n, a)`` and candidates ``(n, c)`` of each cell, -1 where there are fewer."""
        assert self._random is not None
        row = cell_of_token(encoded.cu_seqlens)
        position = torch.arange(len(row), device=row.device) - encoded.cu_seqlens[row]
        eligible = self.paired[encoded.tokens.long()]
        if encoded.masked is not None:
            # what the encoder has not seen has no state of its own
            eligible &= ~encoded.masked
        drawn = []
        for stream, most in ((_ANCHORS, self.n_anchors), (_CANDIDATES, self.n_candidates)):
            number = self._random.uniform(batch["cell"][row], -2 * position - stream)
            order = torch.argsort(torch.where(eligible, number, _NEVER))
            # cells stay together, at random within
            order = order[torch.argsort(row[order], stable=True)]
            kept = (position < most) & eligible[order]
            found = row.new_full((len(encoded.cu_seqlens) - 1, most), -1)
            found[row[kept], position[kept]] = order[kept]
            drawn.append(found)
        return drawn[0], drawn[1]
