"""The Lightning training plan."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import lightning.pytorch as pl
import torch
from torch import nn

from scgenemamba.nn import cell_of_token

from ._gene_dropout import drop_genes
from ._objective import Objective
from ._random import CellRandom

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

    from scgenemamba.nn import Encoded, Reading
    from scgenemamba.tokens import CellBatch


#: Epoch of the random numbers of validation.
VALIDATION_EPOCH = -1
_ENCODER = "network.encoder."


class TrainableModule(Protocol):
    """What the plan needs of a module."""

    objectives: nn.ModuleDict

    def truncate(self, batch: CellBatch) -> CellBatch:
        """Cut each cell to the tokens that the model reads."""

    def encode(self, batch: CellBatch, masked: torch.Tensor | None = None, reading: Reading = "both") -> Encoded:
        """Encode the cells, with the masked tokens hidden, read in the directions given."""


class GeneMambaTrainingPlan(pl.LightningModule):
    """Sums the objectives of a module and optimises them with AdamW.

    The learning rate rises linearly over the first steps and falls to a tenth along a cosine. Gradients are
    clipped by norm, those of detached objectives on their own, so that a detached objective cannot change
    the encoder even through clipping.

    Parameters
    ----------
    module
        Encoder and objectives.
    lr
        Highest learning rate.
    weight_decay
        Decay of matrices; vectors (norms, biases, decays of the scan) are not decayed.
    warmup_fraction
        Share of all steps over which the learning rate rises.
    gradient_clip
        Largest gradient norm.
    seed
        Seed of the random masks.
    layer_decay
        Each layer of the encoder learns by this factor slower than the one above it, the embeddings slowest; for
        fine-tuning pretrained weights, such as 0.9.
    gene_dropout
        Half of the cells of a step lack some of their genes, each with a probability that is uniform between 0 and this one for
        each cell: robust against other depths and references. 0 for none.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        warmup_fraction: float = 0.05,
        gradient_clip: float = 1.0,
        seed: int = 0,
        layer_decay: float = 1.0,
        gene_dropout: float = 0.0,
    ) -> None:
        if not 0 < layer_decay <= 1:
            msg = f"layer_decay must be above 0 and at most 1, got {layer_decay!r}."
            raise ValueError(msg)
        if not 0 <= gene_dropout < 1:
            msg = f"gene_dropout must be at least 0 and below 1, got {gene_dropout!r}."
            raise ValueError(msg)
        super().__init__()
        self.module: Any = module
        self.lr = lr
        self.weight_decay = weight_decay
        self.warmup_fraction = warmup_fraction
        self.gradient_clip = gradient_clip
        self.seed = seed
        self.layer_decay = layer_decay
        self.gene_dropout = gene_dropout

    def losses(self, batch: CellBatch, random: CellRandom) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Named losses of a batch, and the sum of those that train the encoder."""
        batch = self.module.truncate(batch)
        objectives: list[Objective] = list(self.module.objectives.values())
        hidden = [mask for mask in (o.prepare(batch, random) for o in objectives) if mask is not None]
        corrupted, masked = batch, hidden[0] if hidden else None
        if masked is not None and any(o.hidden_last for o in objectives):
            corrupted, masked = move_last(batch, masked)
        encoded = {
            reads: self.module.encode(corrupted, masked)
            if reads == "corrupted"
            else self.module.encode(batch, None, "both" if reads == "clean" else reads)
            for reads in {objective.reads for objective in objectives}
        }
        named: dict[str, torch.Tensor] = {}
        attached = []
        for objective in objectives:
            losses = objective.loss(batch, encoded[objective.reads])
            named.update(losses)
            if not objective.detached:
                attached += list(losses.values())
        return named, torch.stack(attached).sum()

    def training_step(self, batch: CellBatch, batch_idx: int) -> torch.Tensor:
        """One step: the sum of all losses."""
        random = CellRandom(self.seed, self.current_epoch)
        if self.gene_dropout:
            batch = drop_genes(batch, random, self.gene_dropout)
        named, attached = self.losses(batch, random)
        self._log_losses(named, attached, batch, "train")
        return torch.stack(list(named.values())).sum()

    def validation_step(self, batch: CellBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Losses of held-out cells, with the same masks in every epoch."""
        named, attached = self.losses(batch, CellRandom(self.seed, VALIDATION_EPOCH))
        names = getattr(getattr(self.trainer, "datamodule", None), "validation_names", [""])
        self._log_losses(named, attached, batch, "validation", names[dataloader_idx])

    def _log_losses(
        self, named: dict[str, torch.Tensor], attached: torch.Tensor, batch: CellBatch, stage: str, of: str = ""
    ) -> None:
        options: dict[str, Any] = {"on_epoch": True, "on_step": False, "batch_size": len(batch["cu_seqlens"]) - 1}
        options |= {"sync_dist": self.trainer.world_size > 1, "add_dataloader_idx": False}
        suffix = f"_{of}" if of else ""
        self.log(f"{stage}_loss{suffix}", attached, prog_bar=True, **options)
        for name, value in named.items():
            self.log(f"{name}_{stage}{suffix}", value, **options)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with linear warm-up and cosine decay, stepped every batch."""
        n_layers = self.module.config.n_layers
        groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                lr = self.lr * self.layer_decay ** _layers_above(name, n_layers)
                groups[lr, self.weight_decay if parameter.ndim >= 2 else 0.0].append(parameter)
        options = [{"params": p, "lr": lr, "weight_decay": decay} for (lr, decay), p in groups.items()]
        optimizer = torch.optim.AdamW(options, lr=self.lr)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _lr_factor(self, step: int) -> float:
        total = max(int(self.trainer.estimated_stepping_batches), 1)
        warmup = max(int(total * self.warmup_fraction), 1)
        if step < warmup:
            return (step + 1) / warmup
        progress = min((step - warmup) / max(total - warmup, 1), 1.0)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        """Clip the gradients of the encoder and of each detached objective separately."""
        detached = [o for o in self.module.objectives.values() if o.detached]
        own = {id(p) for objective in detached for p in objective.parameters()}
        self._clip(p for p in self.module.parameters() if id(p) not in own)
        for objective in detached:
            self._clip(objective.parameters())

    def _clip(self, parameters: Iterable[nn.Parameter]) -> None:
        nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], self.gradient_clip)


def move_last(batch: CellBatch, masked: torch.Tensor) -> tuple[CellBatch, torch.Tensor]:
    """Tokens that are hidden, bool ``(t,)``, behind the others of their cells; the order is kept otherwise."""
    order = torch.argsort(2 * cell_of_token(batch["cu_seqlens"]) + masked, stable=True)
    return {**batch, "tokens": batch["tokens"][order]}, masked[order]


def _layers_above(name: str, n_layers: int) -> int:
    """Layers of the encoder between a parameter and the heads."""
    if not name.startswith(_ENCODER):
        return 0
    part = name.removeprefix(_ENCODER).split(".")
    if part[0] == "layers":
        return n_layers - int(part[1])
    return n_layers + 1 if part[0] in ("embeddings", "mask_embedding") else 0
