"""Training with gene sets."""

from __future__ import annotations

import gzip
from functools import partial

import numpy as np
import pytest

from scgenemamba import GeneMambaModel
from scgenemamba.model import _pathway
from scgenemamba.tokens import pairs_of_sets, read_gene_sets

from .conftest import TINY

GMT = "a set with spaces\tdescription\tgene1\tgene2\tgene3\nother\t\tgene4\tgene5\n"


@pytest.fixture
def model(adata):
    GeneMambaModel.setup_anndata(adata, batch_key="batch")
    return GeneMambaModel(adata, **TINY)


def sets_of(model):
    genes = list(model.vocabulary.genes)
    return {"first": genes[:5], "second": [*genes[5:12], "not measured"]}


def train(model, **arguments):
    model.train(max_epochs=2, batch_size=32, enable_progress_bar=False, **arguments)


def test_gene_sets_take_part_in_training_and_leave_nothing_behind(model, tmp_path):
    keys = set(model.module.state_dict())
    train(model, gene_sets=sets_of(model), pathway_weight=0.5)
    assert (model.history["pathway_train"].to_numpy() > 0).all()
    assert "pathway contrast" in model.objectives_
    assert set(model.module.state_dict()) == keys
    assert "pathway" not in model.module.objectives
    model.save_pretrained(tmp_path)
    again = GeneMambaModel.from_pretrained(tmp_path).get_latent_representation(model.adata)
    np.testing.assert_array_equal(again, model.get_latent_representation())


def test_without_gene_sets_nothing_is_added(model):
    train(model)
    assert "pathway_train" not in model.history


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"gene_sets": {"other": ["no gene", "none either"]}}, "None of the 1 gene sets"),
        ({"gene_sets": "nowhere.gmt"}, "no file of gene sets"),
        ({"gene_sets": {}, "pathway_weight": -1}, "must not be negative"),
    ],
)
def test_bad_gene_sets_are_named_before_training(model, arguments, error):
    if isinstance(arguments["gene_sets"], str):
        pytest.importorskip("gseapy")
    with pytest.raises((ValueError, FileNotFoundError), match=error):
        train(model, **arguments)
    assert not model.is_trained_
    train(model)


def test_sets_that_are_all_too_large_are_refused(model, monkeypatch):
    monkeypatch.setattr(_pathway, "pairs_of_sets", partial(pairs_of_sets, max_set_size=4))
    with pytest.raises(ValueError, match="All 2 gene sets are too large"):
        train(model, gene_sets=sets_of(model))


def test_gmt_files_are_read(tmp_path):
    pytest.importorskip("gseapy")
    plain, packed = tmp_path / "some.gmt", tmp_path / "more.gmt.gz"
    plain.write_text(GMT)
    packed.write_bytes(gzip.compress(GMT.encode()))
    expected = {"a set with spaces": ["gene1", "gene2", "gene3"], "other": ["gene4", "gene5"]}
    assert read_gene_sets(plain) == read_gene_sets(str(packed)) == expected
    both = read_gene_sets([plain, packed])
    assert list(both) == ["a set with spaces", "other", "a set with spaces (more.gmt.gz)", "other (more.gmt.gz)"]
    (tmp_path / "empty.gmt").write_text("one\ttwo\n")
    with pytest.raises(ValueError, match="no gene set"):
        read_gene_sets(tmp_path / "empty.gmt")


def test_genes_that_are_expressed_together_are_found_in_the_data(adata):
    """Pairs of the same factor are found, and their states become alike."""
    generator = np.random.default_rng(0)
    factors = generator.gamma(1.0, 2.0, size=(adata.n_obs, 5))
    counts = generator.poisson(factors[:, np.arange(adata.n_vars) % 5])
    adata.X = type(adata.X)(counts.astype(np.float32))
    GeneMambaModel.setup_anndata(adata)
    model = GeneMambaModel(adata, **TINY)
    with pytest.MonkeyPatch.context() as patch:
        made = []
        contrast = _pathway.PathwayContrast
        patch.setattr(
            _pathway, "PathwayContrast", lambda pairs, *a, **k: made.append(pairs) or contrast(pairs, *a, **k)
        )
        train(model, gene_sets="coexpression")
    column = {gene: i for i, gene in enumerate(adata.var_names)}
    of_token = np.array([column[gene] for gene in model.vocabulary.genes])
    first, second = (of_token[made[0][:, side] - 2] for side in (0, 1))
    assert len(first) > 10
    assert ((first - second) % 5 == 0).mean() > 0.95
    assert (model.history["pathway_train"].to_numpy() > 0).all()


def test_data_without_co_expressed_genes_say_so(adata):
    adata.X = type(adata.X)(np.ones(adata.shape, dtype=np.float32))
    GeneMambaModel.setup_anndata(adata)
    model = GeneMambaModel(adata, **TINY)
    with pytest.raises(ValueError, match="are co-expressed in .* cells: give gene sets"):
        train(model, gene_sets="coexpression")
