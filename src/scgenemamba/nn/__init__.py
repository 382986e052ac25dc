"""The network in plain PyTorch: Mamba-2 mixer, bidirectional layers, encoder, pooling, heads."""

from ._backend import Backend, BackendStatus, backend_report, resolve_backend
from ._block import BiMambaBlock
from ._classifier import Classifier, PublishedClassifier
from ._config import GeneMambaConfig
from ._encoder import BiMambaEncoder
from ._gene_readout import GeneReadout
from ._latent import GaussianLatent
from ._layout import Layout, Packed, Padded, Reading, cell_of_token, truncate
from ._mixer import Mamba2Mixer
from ._network import Encoded, GeneMambaNetwork
from ._pooling import Pooling
from ._ssd import ssd_chunked
from ._token_head import TokenHead
from ._transfer import send
from ._windows import WindowReader

__all__ = [
    "Backend",
    "BackendStatus",
    "BiMambaBlock",
    "BiMambaEncoder",
    "Classifier",
    "Encoded",
    "GaussianLatent",
    "GeneMambaConfig",
    "GeneMambaNetwork",
    "GeneReadout",
    "Layout",
    "Mamba2Mixer",
    "Packed",
    "Padded",
    "Pooling",
    "PublishedClassifier",
    "Reading",
    "TokenHead",
    "WindowReader",
    "backend_report",
    "cell_of_token",
    "resolve_backend",
    "send",
    "ssd_chunked",
    "truncate",
]
