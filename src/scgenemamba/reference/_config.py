"""What a reference model is made of."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CellsConfig:
    """Cells; all are read into memory.

    Attributes
    ----------
    files
        ``.h5ad`` files with counts, of the kinds of cells that are to be known; those without labels teach as well.
    labels_key
        Column of ``obs`` with the labels. Files may lack it.
    batch_key
        Column of ``obs`` with the studies, none where each file is one. A study should be what another one could be: one
        source of labels, one technology.
    unlabeled_category
        Value of that column which means "no label"; missing values mean the same.
    gene_key
        Column of ``var`` that holds the gene names, best Ensembl ids; none for its index.
    layer
        Layer that holds the counts, none for X.
    background
        Files with cells of other kinds, which show the encoder what else there is.
    min_cells
        Genes that fewer cells express are left out.
    """

    files: list[str]
    labels_key: str
    batch_key: str | None = None
    unlabeled_category: str = "Unknown"
    gene_key: str | None = None
    layer: str | None = None
    background: list[str] = field(default_factory=list)
    min_cells: int = 50


@dataclass(frozen=True)
class SizeConfig:
    """Architecture, as the arguments of :class:`~scgenemamba.GeneMambaModel`.

    Attributes
    ----------
    n_layers
        Layers.
    d_model
        Width; the file grows by two bytes for each gene and column.
    max_tokens
        Genes read per cell.
    n_latent
        Size of the latent.
    n_decoder_genes
        Most variable genes that the decoder models.
    """

    n_layers: int = 2
    d_model: int = 128
    max_tokens: int = 512
    n_latent: int = 32
    n_decoder_genes: int = 2000


@dataclass(frozen=True)
class FitConfig:
    """How it is trained.

    Attributes
    ----------
    pretrain_epochs
        Epochs on hidden genes and co-expressed ones alone, without labels.
    max_epochs
        Epochs on all objectives after that.
    lr
        Highest learning rate of the second part.
    gene_dropout
        Largest share of a cell's genes that are hidden from the encoder in the second part, against other depths and
        references.
    seed
        Of weights, masks and the order of the cells.
    accelerator
        As Lightning names it.
    evaluate
        Whether to leave out each study with labels in turn, in a training of its own, and to write into the card how well its
        cells are annotated.
    """

    pretrain_epochs: int = 8
    max_epochs: int = 12
    lr: float = 1e-3
    gene_dropout: float = 0.7
    seed: int = 0
    accelerator: str = "auto"
    evaluate: bool = True


@dataclass(frozen=True)
class CardConfig:
    """What the card says beside what was measured.

    Attributes
    ----------
    description
        What the model is for.
    data
        Each data set with its citation and licence.
    license
        Licence of the model.
    command
        How to train it again.
    ontology_ids
        Term of the Cell Ontology of each label.
    limits
        What it does not know or cannot do.
    """

    description: str = ""
    data: list[str] = field(default_factory=list)
    license: str = ""
    command: str = ""
    ontology_ids: dict[str, str] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReferenceConfig:
    """A reference model.

    Attributes
    ----------
    out
        Folder of the model.
    cells
        What it learns from.
    model
        Its size.
    training
        How it learns.
    card
        What its card says.
    push_to
        Repository ``"owner/name"`` of the Hugging Face hub to publish it in, none to keep it here.
    private
        Whether a new repository is private.
    """

    out: str
    cells: CellsConfig
    model: SizeConfig = field(default_factory=SizeConfig)
    training: FitConfig = field(default_factory=FitConfig)
    card: CardConfig = field(default_factory=CardConfig)
    push_to: str | None = None
    private: bool = False
