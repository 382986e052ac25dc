"""What a trained model says about cells and genes."""

from __future__ import annotations

from operator import length_hint
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch

from scgenemamba._logging import logger
from scgenemamba.tokens import Vocabulary
from scgenemamba.train import announce_duration

from ._loading import CellLoader
from ._memory import out_of_memory_advice

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from anndata import AnnData
    from torch.utils.data import DataLoader

    from scgenemamba.nn import Encoded
    from scgenemamba.tokens import CellBatch


class InferenceMixin:
    """Embeddings of cells and genes; mixed into :class:`~scgenemamba.GeneMambaModel`."""

    # supplied by the model
    module: Any
    vocabulary: Vocabulary
    adata: Any
    device: Any
    latent_trained_: bool
    head_trained_: bool
    _check_if_trained: Callable[..., None]
    _validate_anndata: Callable[..., AnnData]
    _make_data_loader: Callable[..., Any]

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        dataloader: DataLoader[CellBatch] | Iterator[CellBatch] | None = None,
        representation: Literal["auto", "latent", "pooled"] = "auto",
    ) -> np.ndarray:
        """Latent mean of each cell, or for a pretrained model that was not trained here, its pooled hidden states.

        Parameters
        ----------
        adata
            AnnData to embed, ``None`` for the training data. Genes are matched by name; batch and label columns
            are not needed.
        indices
            Cells to embed, in this order.
        batch_size
            Cells per batch; does not change the result.
        dataloader
            Source of batches instead of ``adata`` and ``indices``.
        representation
            ``"latent"``, or ``"pooled"``: hidden states pooled over each cell's genes. ``"auto"`` takes the latent where it
            has been trained.

        Returns
        -------
        float32, shape ``(n_cells, n_latent)``, or ``(n_cells, p)`` for pooled hidden states.

        Raises
        ------
        ValueError
            If the latent is asked for and was never trained.
        """
        reads = {"latent": lambda encoded: encoded.mean, "pooled": lambda encoded: encoded.pooled}
        return self._per_cell(reads[self._choose(representation)], adata, indices, batch_size, dataloader)

    def _choose(self, representation: str) -> str:
        """Representation to give; says so when it changes."""
        if representation not in ("auto", "latent", "pooled"):
            msg = f"Unknown representation {representation!r}; choose 'auto', 'latent' or 'pooled'."
            raise ValueError(msg)
        if representation == "latent" and not self.latent_trained_:
            msg = "The latent was never trained: train the model, or take representation='pooled'."
            raise ValueError(msg)
        if representation == "auto":
            representation = "latent" if self.latent_trained_ else "pooled"
        if representation == "pooled" != getattr(self, "representation_", "latent"):
            logger.info(
                f"The representation is the {' and '.join(self.module.config.pooling)} of the last hidden states."
            )
        self.representation_ = representation
        return representation

    def get_gene_embeddings(self) -> pd.DataFrame:
        """Static embedding of each gene (the encoder's input), shape ``(n_genes, d_model)``, indexed by gene."""
        weight = self.module.network.encoder.embeddings.weight.detach().float().cpu().numpy()
        first = Vocabulary.FIRST_GENE
        return pd.DataFrame(
            weight[first : first + len(self.vocabulary)], index=pd.Index(self.vocabulary.genes, name="gene")
        )

    @torch.inference_mode()
    def get_contextual_gene_embeddings(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        dataloader: DataLoader[CellBatch] | Iterator[CellBatch] | None = None,
    ) -> tuple[pd.DataFrame, pd.Series]:
        """Mean last hidden state of each gene over the cells that show it.

        Parameters
        ----------
        adata
            AnnData to read, ``None`` for the training data. Genes are matched by name; batch and label columns are not needed.
        indices
            Cells to read.
        batch_size
            Cells per batch; does not change the result.
        dataloader
            Source of batches instead of ``adata`` and ``indices``.

        Returns
        -------
        Float32 of shape ``(n_genes, d_model)`` indexed by gene, zero for genes that no cell shows; and how many cells show each, int64.
        A cell shows its ``max_tokens`` highest ranked genes.
        """
        config, first, n_genes = self.module.config, Vocabulary.FIRST_GENE, len(self.vocabulary)
        # sums over any number of cells, in any order, agree; Apple's devices have no float64
        place = torch.device("cpu") if self.device.type == "mps" else self.device
        total = torch.zeros(
            max(config.n_tokens, self.vocabulary.cls_id + 1), config.d_model, dtype=torch.float64, device=place
        )
        n_cells = torch.zeros(len(total), dtype=torch.int64, device=place)
        for encoded, _ in self._encoded(adata, indices, batch_size, dataloader):
            tokens = encoded.tokens.to(place).long()
            total.index_add_(0, tokens, encoded.hidden.to(place).double())
            n_cells.index_add_(0, tokens, torch.ones_like(tokens))
        genes = slice(first, first + n_genes)
        mean = total[genes] / n_cells[genes].clamp(min=1).unsqueeze(1)
        index = pd.Index(self.vocabulary.genes, name="gene")
        return (
            pd.DataFrame(mean.float().cpu().numpy(), index=index),
            pd.Series(n_cells[genes].cpu().numpy(), index=index, name="n_cells"),
        )

    @torch.inference_mode()
    def hidden_states(self, tokens: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """Last hidden states of tokens that are given as they are.

        Parameters
        ----------
        tokens
            Token ids, int ``(n, l)``, padded at the end of each row; ``[CLS]`` is not added.
        lengths
            Tokens of each row, int ``(n,)``; ``None`` takes those that are not ``[PAD]``.

        Returns
        -------
        float32 ``(n, l, d)``, zero at padding. With ``flip="full"`` padding is read as tokens.
        """
        ids, size = self._checked_tokens(tokens, lengths)
        inside = torch.arange(ids.shape[1]) < size[:, None]
        read = torch.ones_like(inside) if self.module.config.flip == "full" else inside
        bounds = torch.cat([torch.zeros(1, dtype=torch.int64), read.sum(1).cumsum(0)])
        device = self.module.device
        hidden = self.module.network.encoder(ids[read].to(device), bounds.to(device)).float().cpu()
        out = hidden.new_zeros(*ids.shape, hidden.shape[-1])
        out[read] = hidden
        return out.masked_fill(~inside[..., None], 0.0).numpy()

    def _checked_tokens(self, tokens: np.ndarray, lengths: np.ndarray | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids ``(n, l)`` and lengths ``(n,)``, int64."""
        given = np.asarray(tokens)
        if given.ndim != 2 or not given.size or not np.issubdtype(given.dtype, np.integer):
            msg = f"tokens must be a table of token ids, one row a cell, got {given.dtype} of shape {given.shape}."
            raise ValueError(msg)
        n_tokens = self.module.config.n_tokens
        if given.min() < 0 or given.max() >= n_tokens:
            msg = f"tokens must be in 0 to {n_tokens - 1}, got {given.min()} to {given.max()}."
            raise ValueError(msg)
        size = (given != self.vocabulary.PAD).sum(1) if lengths is None else np.asarray(lengths)
        if size.shape != given.shape[:1] or ((size < 0) | (size > given.shape[1])).any():
            msg = f"lengths must be {len(given)} numbers from 0 to {given.shape[1]}, one a row of tokens."
            raise ValueError(msg)
        return torch.as_tensor(given, dtype=torch.int64), torch.as_tensor(size, dtype=torch.int64)

    @torch.inference_mode()
    def token_logits(self, tokens: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """Logits over the vocabulary at each token, float32 ``(n, l, n_tokens)``; see :meth:`hidden_states`.

        Raises
        ------
        ValueError
            If the model has no head over the vocabulary.
        """
        if "masked_genes" not in self.module.objectives or not self.head_trained_:
            msg = "The model has no trained head over the vocabulary: the checkpoint has none, or it was made with masked_weight=0 or another `language`."
            raise ValueError(msg)
        hidden = torch.from_numpy(self.hidden_states(tokens, lengths)).to(self.module.device)
        return self.module.objectives["masked_genes"].head(hidden).float().cpu().numpy()

    @torch.inference_mode()
    def _per_cell(
        self,
        read: Callable[[Encoded], torch.Tensor],
        adata: AnnData | None,
        indices: Sequence[int] | None,
        batch_size: int | None,
        dataloader: DataLoader[CellBatch] | Iterator[CellBatch] | None,
    ) -> np.ndarray:
        """What ``read`` takes from the encoding of each cell, float32, one row per cell."""
        batches = self._encoded(adata, indices, batch_size, dataloader)
        return np.concatenate([read(encoded).float().cpu().numpy() for encoded, _ in batches])

    @torch.inference_mode()
    def _encoded(
        self,
        adata: AnnData | None,
        indices: Sequence[int] | None,
        batch_size: int | None,
        dataloader: DataLoader[CellBatch] | Iterator[CellBatch] | None,
        also: Collection[str] = (),
    ) -> Iterator[tuple[Encoded, CellBatch]]:
        """Batches of cells and their encoding; ``also`` names registered data that are read besides the tokens."""
        self._check_if_trained(warn=False)
        if dataloader is None and adata is None and self.adata is None:
            msg = "The model has no data of its own: give an AnnData, `adata=`."
            raise ValueError(msg)
        if dataloader is None:
            adata = self._validate_anndata(adata)
            dataloader = self._make_data_loader(
                adata=adata,
                indices=indices,
                batch_size=batch_size,
                data_loader_class=CellLoader,
                device=self.device,
                data_and_attributes=list(also),
            )
        elif adata is not None or indices is not None:
            msg = "Give either `dataloader`, or `adata` and `indices`."
            raise ValueError(msg)
        self.module.eval()
        n_batches = 0
        # an iterator of unknown length counts as zero
        batches = announce_duration(dataloader, length_hint(dataloader) or None, "Embedding")
        with out_of_memory_advice("Embedding", "Use a smaller `batch_size`."):
            for n_batches, batch in enumerate(batches, start=1):  # noqa: B007
                sequences = {key: batch[key].to(self.device, non_blocking=True) for key in ("tokens", "cu_seqlens")}
                yield self.module(sequences), batch
        if not n_batches:
            msg = "There are no cells to read: `indices` or `dataloader` is empty."
            raise ValueError(msg)
