"""What of a pretrained encoder is trained: frozen layers, and low-rank adapters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

if TYPE_CHECKING:
    from scgenemamba.nn import BiMambaEncoder

# the other projection is read by its weight, past any adapter
_ADAPTED = "in_proj"


@contextmanager
def partly_frozen(
    encoder: BiMambaEncoder, n_frozen_layers: int | Literal["all"], peft_config: Any | None
) -> Iterator[None]:
    """Context in which only a part of an encoder is trained.

    Parameters
    ----------
    encoder
        Its parameters can all be trained again afterwards.
    n_frozen_layers
        Layers from the input on that keep their weights, and with any the embeddings; ``"all"`` keeps the whole encoder.
    peft_config
        A :class:`peft.LoraConfig`: the encoder is frozen, and low-rank updates of its input projections are trained and
        then merged into them.

    Raises
    ------
    ValueError
        If there are not so many layers, or both are asked for.
    ImportError
        If peft is needed and not installed.
    """
    layers = list(encoder.layers)
    n_frozen = len(layers) if n_frozen_layers == "all" else n_frozen_layers
    if not isinstance(n_frozen, int) or not 0 <= n_frozen <= len(layers):
        msg = f"`n_frozen_layers` must be 'all' or from 0 to {len(layers)}, got {n_frozen_layers!r}."
        raise ValueError(msg)
    if peft_config is not None and n_frozen:
        msg = "Give either `n_frozen_layers` or `peft_config`: with adapters the encoder is frozen anyway."
        raise ValueError(msg)
    frozen: list[nn.Module] = [*layers[:n_frozen], encoder.embeddings] if n_frozen else []
    if n_frozen_layers == "all":
        frozen = [encoder]
    trained = {name for name, p in encoder.named_parameters() if p.requires_grad}
    for part in frozen:
        part.requires_grad_(False)
    try:
        if peft_config is None:
            yield
        else:
            with _adapted(encoder, peft_config):
                yield
    finally:
        for name, parameter in encoder.named_parameters():
            parameter.requires_grad_(name in trained)


@contextmanager
def frozen_if(unreached: bool, module: nn.Module) -> Iterator[None]:
    """Context in which a part that no loss reaches is not trained: several processes would wait for its gradients."""
    trained = [p for p in module.parameters() if unreached and p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def _adapted(encoder: BiMambaEncoder, peft_config: Any) -> Iterator[None]:
    try:
        from peft import inject_adapter_in_model
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError as error:
        msg = "`peft_config` needs peft: pip install 'scgenemamba[peft]'."
        raise ImportError(msg) from error
    targets = peft_config.target_modules
    if targets is None:
        peft_config.target_modules = [_ADAPTED]
    elif set(targets) != {_ADAPTED}:
        msg = f"Adapters fit the input projections only: target_modules=[{_ADAPTED!r}], got {targets!r}."
        raise ValueError(msg)
    inject_adapter_in_model(peft_config, encoder)
    try:
        yield
    finally:
        mixers: list[Any] = [layer.mixer for layer in encoder.layers]
        for mixer in mixers:
            if isinstance(mixer.in_proj, BaseTunerLayer):
                adapter: Any = mixer.in_proj
                adapter.merge()
                mixer.in_proj = adapter.get_base_layer()
