"""Published checkpoints: what they compute, what is said about them, and every way in and out."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData
from safetensors.torch import load_file, save_file

from scgenemamba import GeneMambaModel
from tests.conftest import simulate_counts

from .published import (
    GENES,
    MIXER,
    PAD,
    SYMBOLS,
    cells,
    classify,
    make_published,
    oracle,
    random_classifier,
    relative,
    write_config,
    write_tokenizer,
    write_weights,
)

CLOSE = 1e-5


def compare(model, tensors, tokens, lengths, fusion="mean", flip="masked"):
    """Hold hidden states and logits of real tokens against the oracle."""
    hidden, logits = oracle(tensors, tokens, lengths, fusion, flip)
    found = model.hidden_states(tokens)
    assert found.dtype == np.float32
    assert relative(found, hidden) <= CLOSE
    if logits is not None:
        real = tokens != PAD
        assert relative(model.token_logits(tokens)[real], logits[real]) <= CLOSE
    return found


def human_data(names=GENES, n_cells=40, seed=0):
    """Counts of human genes with batches and labels, in another order than the vocabulary's."""
    counts, types, batches = simulate_counts(n_cells, len(names), 3, 2, seed)
    obs = pd.DataFrame(
        {"batch": [f"batch{b}" for b in batches], "cell_type": [f"type{t}" for t in types]},
        index=[f"cell{i}" for i in range(n_cells)],
    )
    return AnnData(sp.csr_matrix(counts), obs=obs.astype("category"), var=pd.DataFrame(index=list(names)[::-1]))


def ranked(adata, factors, genes=GENES, ids=None):
    """Token table of each cell by the definition: positive values over factors, largest first, ties by token."""
    values = adata.X.toarray().astype(float)
    token = {gene: i + 2 for i, gene in enumerate(genes)}
    columns = np.array([token[name] for name in (adata.var_names if ids is None else ids)])
    rows = []
    for row in values:
        scores = row / factors[columns - 2]
        order = sorted(np.flatnonzero(row), key=lambda j: (-scores[j], columns[j]))
        rows.append(columns[order])
    table = np.full((len(rows), max(map(len, rows))), PAD)
    for place, row in zip(table, rows, strict=True):
        place[: len(row)] = row
    return table


def medians_of(adata, genes=GENES):
    """Median of each gene's nonzero values at 10,000 counts per cell, in the order of the genes."""
    values = adata.X.toarray().astype(float)
    scaled = values / values.sum(1, keepdims=True) * 1e4
    found = np.array([np.median(column[column > 0]) if (column > 0).any() else np.nan for column in scaled.T])
    found = pd.Series(found, index=adata.var_names).reindex(genes).to_numpy()
    return np.where(np.isnan(found), np.nanmedian(found), found)


def factors_of(model):
    """Factors that a model keeps; ranks by them are exact, where two computations of a median may break ties apart."""
    return np.asarray(model.registry_["field_registries"]["X"]["state_registry"]["medians"])


def masked_mean(hidden, tokens):
    real = (tokens != PAD)[..., None]
    return (hidden * real).sum(1) / real.sum(1)


def encoder_of(model):
    return {name: value.clone() for name, value in model.module.network.encoder.state_dict().items()}


def train(model, **kwargs):
    model.train(max_epochs=1, batch_size=16, enable_progress_bar=False, accelerator="cpu", **kwargs)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "published"


@pytest.fixture
def said(recwarn):
    """Texts of the warnings so far, joined."""
    return lambda: "\n".join(str(w.message) for w in recwarn)


# ---------------------------------------------------------------- parity


@pytest.mark.parametrize("lengths", [(9, 9, 9), (12, 1, 7)], ids=["unpadded", "padded"])
@pytest.mark.parametrize("d_model", [64, 128])
@pytest.mark.parametrize("fusion", ["mean", "sum", "gate", "concat"])
def test_hidden_states_and_logits_are_those_of_the_definition(folder, fusion, d_model, lengths):
    tensors = make_published(folder, fusion=fusion, d_model=d_model)
    model = GeneMambaModel.from_pretrained(folder, fusion="sum" if fusion == "sum" else None)
    assert model.module.config.fusion == fusion
    compare(model, tensors, *cells(lengths), fusion)


@pytest.mark.parametrize(("d_model", "n_layers"), [(512, 2), (768, 1)])
def test_the_real_widths(folder, d_model, n_layers):
    tensors = make_published(folder, d_model=d_model, n_layers=n_layers)
    model = GeneMambaModel.from_pretrained(folder)
    config = model.module.config
    assert (config.d_inner, config.n_heads, config.d_state, config.headdim) == (2 * d_model, d_model // 32, 64, 64)
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    assert shapes[MIXER.format(0) + "in_proj.weight"] == {512: (2192, 512), 768: (3224, 768)}[d_model]
    compare(model, tensors, *cells((10, 6)))


@pytest.mark.parametrize("fusion", ["mean", "gate"])
def test_the_full_flip_reads_padding(folder, fusion):
    tensors = make_published(folder, fusion=fusion)
    full = GeneMambaModel.from_pretrained(folder, flip="full")
    masked = GeneMambaModel.from_pretrained(folder)
    even = cells((8, 8))
    np.testing.assert_array_equal(full.hidden_states(even[0]), masked.hidden_states(even[0]))
    uneven = cells((12, 5, 3))
    a, b = compare(full, tensors, *uneven, fusion, "full"), compare(masked, tensors, *uneven, fusion, "masked")
    assert relative(a[0], b[0]) < CLOSE
    assert relative(a[1], b[1]) > 1e-2


def test_padding_changes_nothing_with_the_masked_flip(folder):
    make_published(folder)
    model = GeneMambaModel.from_pretrained(folder)
    tokens, lengths = cells((7, 4))
    wider = np.pad(tokens, ((0, 0), (0, 9)), constant_values=PAD)
    assert relative(model.hidden_states(wider)[:, :7], model.hidden_states(tokens)) < 1e-6
    assert not model.hidden_states(wider)[:, 7:].any()
    np.testing.assert_array_equal(model.hidden_states(tokens), model.hidden_states(tokens, lengths))


@pytest.mark.parametrize("prefix", ["", "model.", "module.model.", "genemamba.", "backbone."])
@pytest.mark.parametrize("n_shards", [1, 3])
def test_prefixes_and_shards(folder, prefix, n_shards):
    tensors = make_published(folder, prefix=prefix, n_shards=n_shards, fusion="gate")
    compare(GeneMambaModel.from_pretrained(folder), tensors, *cells((6, 3)), "gate")


def test_only_the_backbone_has_a_prefix(folder):
    tensors = make_published(folder)
    write_weights(folder, {k if k.startswith("lm_head") else f"backbone.{k}": v for k, v in tensors.items()})
    compare(GeneMambaModel.from_pretrained(folder), tensors, *cells((6, 3)))


@pytest.mark.parametrize("prefix", ["", "model."])
def test_other_name_of_the_embeddings(folder, prefix):
    tensors = make_published(folder)
    renamed = {k.replace("embeddings.weight", "embeddings.word_embeddings.weight"): v for k, v in tensors.items()}
    write_weights(folder, {prefix + name: value for name, value in renamed.items()})
    compare(GeneMambaModel.from_pretrained(folder), tensors, *cells((6, 3)))


def test_number_of_layers_is_that_of_the_indices(folder):
    tensors = make_published(folder, n_layers=12, config=False)
    model = GeneMambaModel.from_pretrained(folder)
    assert model.module.config.n_layers == 12
    compare(model, tensors, *cells((6, 3)))


@pytest.mark.parametrize("d_state", [16, 128])
def test_state_size_is_that_of_the_convolution(folder, d_state):
    tensors = make_published(folder, d_state=d_state)
    compare(GeneMambaModel.from_pretrained(folder), tensors, *cells((6, 3)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_files_of_other_precision(folder, dtype):
    tensors = make_published(folder, dtype=dtype)
    model = GeneMambaModel.from_pretrained(folder)
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    compare(model, tensors, *cells((6, 3)))


def test_one_tokenizer_for_all_sizes_lies_above(tmp_path):
    tensors = make_published(tmp_path / "24l-512d")
    (tmp_path / "24l-512d" / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    compare(GeneMambaModel.from_pretrained(tmp_path, subfolder="24l-512d"), tensors, *cells((6, 3)))


def test_first_release_calls_the_tokenizer_gene_tokenizer(folder):
    tensors = make_published(folder)
    (folder / "tokenizer.json").rename(folder / "gene_tokenizer.json")
    compare(GeneMambaModel.from_pretrained(str(folder)), tensors, *cells((6, 3)))


def test_without_head_there_are_no_logits(folder):
    tensors = make_published(folder, head=False)
    model = GeneMambaModel.from_pretrained(folder)
    compare(model, tensors, *cells((6, 3)))
    with pytest.raises(ValueError, match="head"):
        model.token_logits(cells((6, 3))[0])


def test_without_a_head_none_is_written(folder, tmp_path):
    tensors = make_published(folder, head=False)
    GeneMambaModel.from_pretrained(folder).save_pretrained(tmp_path / "again", format="published")
    assert set(load_file(tmp_path / "again" / "model.safetensors")) == set(tensors)


def test_masked_genes_can_be_left_out(folder):
    tensors = make_published(folder)
    model = GeneMambaModel.from_pretrained(folder, masked_weight=0.0)
    with pytest.raises(ValueError, match="masked_weight"):
        model.token_logits(cells((6, 3))[0])
    assert relative(model.hidden_states(cells((6, 3))[0]), oracle(tensors, *cells((6, 3)))[0]) <= CLOSE


@pytest.mark.parametrize("pooling", ["mean", "cls", ("cls", "mean")], ids=str)
def test_fine_tuned_files_have_a_row_for_cls(folder, pooling):
    tensors = make_published(folder, cls=True)
    model = GeneMambaModel.from_pretrained(folder, pooling=pooling)
    assert model.module.config.n_tokens == 3 + len(GENES)
    assert len(model.vocabulary) == len(GENES)
    # [CLS] is the last row
    tokens, lengths = cells((6, 3))
    with_cls = np.column_stack([np.full(2, 2 + len(GENES)), tokens])
    hidden = compare(model, tensors, with_cls, lengths + 1)
    adata = human_data()
    latent = model.get_latent_representation(adata)
    ids = ranked(adata, factors_of(model))
    starts = np.full((len(ids), 1), 2 + len(GENES))
    wanted = []
    for kind in (pooling,) if isinstance(pooling, str) else pooling:
        if kind == "cls":
            wanted.append(model.hidden_states(np.hstack([starts, ids]))[:, 0])
        elif pooling == "mean":
            wanted.append(masked_mean(model.hidden_states(ids), ids))
        else:
            wanted.append(masked_mean(model.hidden_states(np.hstack([starts, ids]))[:, 1:], ids))
    assert relative(latent, np.hstack(wanted)) <= CLOSE
    assert hidden.shape == (2, 7, 64)


def test_cls_starts_as_the_mean_of_all_rows(folder):
    tensors = make_published(folder)
    model = GeneMambaModel.from_pretrained(folder, pooling="cls")
    encoder = model.module.network.encoder
    assert model.module.config.n_tokens == 3 + len(GENES)
    torch.testing.assert_close(encoder.embeddings.weight[-1], tensors["embeddings.weight"].mean(0))
    torch.testing.assert_close(encoder.embeddings.weight[:-1], tensors["embeddings.weight"])
    head = model.module.objectives["masked_genes"].head
    torch.testing.assert_close(head.bias[:-1], tensors["lm_head.bias"])
    torch.testing.assert_close(head.weight[:-1], tensors["lm_head.weight"])


def test_hidden_states_refuse_what_are_no_tokens(folder):
    make_published(folder)
    model = GeneMambaModel.from_pretrained(folder)
    for wrong in ([[2, 34]], [[-1, 2]], [2, 3], np.zeros((0, 3), int), np.zeros((2, 0), int), [[2.5, 3.0]]):
        with pytest.raises(ValueError, match="tokens"):
            model.hidden_states(np.array(wrong))


@pytest.mark.parametrize("lengths", [[1, 2, 3], [4], [-1], [[1]]], ids=str)
def test_lengths_that_do_not_fit_the_table(folder, lengths):
    make_published(folder)
    model = GeneMambaModel.from_pretrained(folder)
    with pytest.raises(ValueError, match="length"):
        model.hidden_states(np.array([[2, 3, 4]]), np.array(lengths))


# ---------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"mamba_layer": 24}, "mamba_layer 24"),
        ({"num_hidden_layers": 24}, "num_hidden_layers 24"),
        ({"d_model": 512}, "d_model 512"),
        ({"hidden_size": 512}, "hidden_size 512"),
        ({"vocab_size": 25426}, "vocab_size 25426"),
        ({"mode": "gate"}, "gate"),
        ({"mamba_mode": "concat"}, "concat"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_tensors_win_over_the_config(folder, said, settings, named):
    tensors = make_published(folder)
    write_config(folder, **settings)
    compare(GeneMambaModel.from_pretrained(folder), tensors, *cells((6, 3)))
    assert named in said()


def test_a_config_that_agrees_is_not_worth_a_word(folder, said):
    make_published(folder)
    GeneMambaModel.from_pretrained(folder)
    assert not said()


def test_gate_and_concat_are_told_apart_by_the_config_or_the_user(folder, said, messages):
    tensors = make_published(folder, fusion="concat")
    tokens = cells((6, 3))
    compare(GeneMambaModel.from_pretrained(folder), tensors, *tokens, "concat")
    compare(GeneMambaModel.from_pretrained(folder, fusion="gate"), tensors, *tokens, "gate")
    (folder / "config.json").unlink()
    compare(GeneMambaModel.from_pretrained(folder), tensors, *tokens, "gate")
    assert "gate" in messages[-1]
    assert "concat" in messages[-1]


@pytest.mark.parametrize(("there", "asked"), [("mean", "gate"), ("mean", "concat"), ("gate", "mean"), ("gate", "sum")])
def test_fusion_that_does_not_fit_is_refused(folder, there, asked):
    make_published(folder, fusion=there)
    with pytest.raises(ValueError, match=f"{asked}.*aggregator"):
        GeneMambaModel.from_pretrained(folder, fusion=asked)


def test_sum_is_never_taken_unasked(folder):
    make_published(folder, config=False)
    assert GeneMambaModel.from_pretrained(folder).module.config.fusion == "mean"


@pytest.mark.parametrize("part", ["x_proj.weight", "dt_proj.weight", "dt_proj.bias", "A_log"])
def test_mamba_1_is_refused(folder, part):
    tensors = make_published(folder)
    tensors[MIXER.format(0) + part] = torch.ones(128, 16)
    write_weights(folder, tensors)
    with pytest.raises(ValueError, match="Mamba-[12]"):
        GeneMambaModel.from_pretrained(folder)


def test_mixers_that_were_never_trained(folder, said):
    tensors = make_published(folder)
    ones = {name: torch.ones_like(v) for name, v in tensors.items() if name.endswith((".D", "mamba.norm.weight"))}
    write_weights(folder, {**tensors, **ones})
    GeneMambaModel.from_pretrained(folder)
    assert "never trained" in said()


def test_one_moved_weight_means_trained(folder, said):
    tensors = make_published(folder)
    ones = {name: torch.ones_like(v) for name, v in tensors.items() if name.endswith((".D", "mamba.norm.weight"))}
    ones[MIXER.format(1) + "D"][1] += 1e-6
    write_weights(folder, {**tensors, **ones})
    GeneMambaModel.from_pretrained(folder)
    assert not said()


def test_unused_tensors_are_named(folder, said):
    tensors = make_published(folder)
    more = {"pooler.dense.weight": torch.ones(2, 2), MIXER.format(0) + "B_norm.weight": torch.ones(3)}
    write_weights(folder, {**tensors, **more})
    compare(GeneMambaModel.from_pretrained(folder), tensors, *cells((6, 3)))
    assert all(name in said() for name in more)


@pytest.fixture
def annotated(folder):
    """Fine-tuned file with a classifier of four types, all of its tensors, and its classifier's."""
    tensors, classifier = make_published(folder, cls=True), random_classifier(64, 4)
    write_weights(folder, {**tensors, **classifier})
    write_config(folder, id2label={str(i): name for i, name in enumerate(["B", "T", "NK", "Mono"])})
    return tensors, classifier


@pytest.mark.parametrize("pooling", ["cls", ("mean", "cls")], ids=str)
def test_the_classifier_of_a_fine_tuned_file_annotates(folder, annotated, pooling):
    tensors, classifier = annotated
    model = GeneMambaModel.from_pretrained(folder, pooling=pooling)
    adata = human_data()
    soft = model.predict(adata, soft=True)
    tokens = ranked(adata, factors_of(model))
    starts = np.full((len(tokens), 1), 2 + len(GENES))
    hidden, _ = oracle(tensors, np.hstack([starts, tokens]), (tokens != PAD).sum(1) + 1)
    assert list(soft.columns) == ["B", "T", "NK", "Mono"]
    assert relative(soft.to_numpy(), classify(classifier, hidden[:, 0])) <= CLOSE
    assert model.predict(adata).tolist() == soft.idxmax(axis=1).tolist()


def test_classes_without_names_are_numbered(folder, annotated):
    write_config(folder, id2label=["a list"])
    assert set(GeneMambaModel.from_pretrained(folder, pooling="cls").predict(human_data())) <= set("0123")


def test_a_classifier_needs_cls(folder, annotated, said):
    model = GeneMambaModel.from_pretrained(folder)
    assert "classifier" in said()
    with pytest.raises(ValueError, match="labels"):
        model.predict(human_data())


def test_a_classifier_survives_every_way_out(folder, annotated, tmp_path):
    tensors, classifier = annotated
    model = GeneMambaModel.from_pretrained(folder, pooling="cls")
    soft = model.predict(human_data(), soft=True)
    model.save(tmp_path / "saved")
    model.save_pretrained(tmp_path / "ours")
    model.save_pretrained(tmp_path / "back", format="published")
    written = load_file(tmp_path / "back" / "model.safetensors")
    assert set(written) == {*tensors, *classifier}
    counters = {name for name in written if name.endswith("num_batches_tracked")}
    assert all(torch.equal(written[k], v) for k, v in {**tensors, **classifier}.items() if k not in counters)
    ways = [
        GeneMambaModel.load(tmp_path / "saved", adata=False),
        GeneMambaModel.from_pretrained(tmp_path / "back", pooling="cls"),
        GeneMambaModel.from_pretrained(tmp_path / "ours"),
    ]
    for loaded in ways:
        pd.testing.assert_frame_equal(loaded.predict(human_data(), soft=True), soft)


# ---------------------------------------------------------------- out again


@pytest.mark.parametrize("fusion", ["mean", "sum", "gate", "concat"])
@pytest.mark.parametrize("cls", [False, True], ids=["plain", "cls"])
def test_ours_and_back_without_loss(folder, tmp_path, fusion, cls):
    tensors = make_published(folder, fusion=fusion, cls=cls)
    asked = "sum" if fusion == "sum" else None
    model = GeneMambaModel.from_pretrained(folder, fusion=asked, pooling=("cls", "mean") if cls else "mean")
    tokens, _ = cells((12, 5))
    model.save_pretrained(tmp_path / "ours")
    ours = GeneMambaModel.from_pretrained(tmp_path / "ours")
    assert ours.module.config == model.module.config
    ours.save_pretrained(tmp_path / "back", format="published")
    written = load_file(tmp_path / "back" / "model.safetensors")
    assert set(written) == set(tensors)
    assert all(torch.equal(written[name], value) for name, value in tensors.items())
    vocabularies = [
        json.loads((place / "tokenizer.json").read_text())["model"]["vocab"] for place in (folder, tmp_path / "back")
    ]
    assert vocabularies[0] == vocabularies[1]
    back = GeneMambaModel.from_pretrained(tmp_path / "back")
    for other in (ours, back):
        np.testing.assert_array_equal(other.hidden_states(tokens), model.hidden_states(tokens))
        np.testing.assert_array_equal(other.token_logits(tokens), model.token_logits(tokens))


def test_what_is_written_loads_where_the_package_tokenizers_is(folder, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    make_published(folder)
    GeneMambaModel.from_pretrained(folder).save_pretrained(tmp_path / "back", format="published")
    ids = [
        tokenizers.Tokenizer.from_file(str(place / "tokenizer.json")).encode("ENSG00000010610 nonsense").ids
        for place in (folder, tmp_path / "back")
    ]
    assert ids[0] == ids[1] == [2 + GENES.index("ENSG00000010610"), 0]


def test_models_of_our_own_do_not_fit_the_published_layout(trained, tmp_path):
    with pytest.raises(ValueError, match="pre_norm"):
        trained.save_pretrained(tmp_path / "out", format="published")
    with pytest.raises(ValueError, match="folder"):
        (tmp_path / "file").touch()
        trained.save_pretrained(tmp_path / "file")
    with pytest.raises(ValueError, match="onnx"):
        trained.save_pretrained(tmp_path / "out", format="onnx")
    assert not (tmp_path / "out").exists()


def test_our_own_models_come_back_as_they_are(trained, tmp_path):
    trained.save_pretrained(tmp_path / "ours")
    assert not [path for path in (tmp_path / "ours").iterdir() if path.suffix in (".pt", ".pkl", ".bin")]
    loaded = GeneMambaModel.from_pretrained(tmp_path / "ours")
    adata = trained.adata.copy()
    np.testing.assert_array_equal(loaded.get_latent_representation(adata), trained.get_latent_representation())
    assert loaded.predict(adata).tolist() == trained.predict().tolist()
    assert loaded.history["train_loss"].equals(trained.history["train_loss"])
    assert loaded.latent_trained_
    for name, value in trained.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], value)


def test_numbers_as_batches_labels_and_covariates_survive(tmp_path):
    adata = human_data(n_cells=48)
    adata.obs["batch"] = np.arange(48) % 2 + 10
    adata.obs["cell_type"] = np.arange(48) % 3
    adata.obs["donor"] = pd.Categorical(np.arange(48) % 4 == 0)
    adata.obs["age"] = np.linspace(0, 1, 48)
    GeneMambaModel.setup_anndata(
        adata,
        batch_key="batch",
        labels_key="cell_type",
        categorical_covariate_keys=["donor"],
        continuous_covariate_keys=["age"],
    )
    model = GeneMambaModel(adata, n_layers=1, d_model=32, max_tokens=16, n_latent=8)
    train(model)
    model.save_pretrained(tmp_path / "ours")
    loaded = GeneMambaModel.from_pretrained(tmp_path / "ours")
    copy = adata.copy()
    np.testing.assert_array_equal(loaded.get_latent_representation(copy), model.get_latent_representation())
    found, wanted = loaded.predict(copy), model.predict()
    assert found.tolist() == wanted.tolist()
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(copy.obs["_scvi_batch"], adata.obs["_scvi_batch"])
    np.testing.assert_array_equal(copy.obs["_scvi_labels"], adata.obs["_scvi_labels"])


def test_our_own_models_refuse_to_be_changed(trained, tmp_path):
    trained.save_pretrained(tmp_path / "ours")
    asked = {"fusion": "gate", "pooling": "cls", "rank_mode": "raw", "flip": "full", "max_tokens": 3}
    medians = [{"GENE1": 1.0}, pd.Series({"GENE1": 1.0})]
    for name, value in [*asked.items(), *(("gene_medians", given) for given in medians)]:
        with pytest.raises(ValueError, match=name):
            GeneMambaModel.from_pretrained(tmp_path / "ours", **{name: value})


def test_our_own_models_hand_their_tied_head_on_to_new_data(trained, tmp_path):
    """The bias of a tied head was trained as well."""
    trained.save_pretrained(tmp_path / "ours")
    adata = trained.adata.copy()
    GeneMambaModel.setup_anndata(adata, batch_key="batch")
    model = GeneMambaModel.from_pretrained(tmp_path / "ours", adata)
    heads = [m.module.objectives["masked_genes"].head for m in (model, trained)]
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert torch.equal(heads[0].bias, heads[1].bias)


@pytest.mark.parametrize("seen", [False, True], ids=["without data", "with data"])
def test_save_and_load_of_scvi_tools(folder, tmp_path, seen):
    make_published(folder)
    model = GeneMambaModel.from_pretrained(folder)
    adata, tokens = human_data(), cells((12, 5))[0]
    if seen:
        model.get_latent_representation(adata)
    model.save(tmp_path / "saved")
    loaded = GeneMambaModel.load(tmp_path / "saved", adata=False)
    np.testing.assert_array_equal(loaded.hidden_states(tokens), model.hidden_states(tokens))
    np.testing.assert_array_equal(loaded.token_logits(tokens), model.token_logits(tokens))
    np.testing.assert_array_equal(loaded.get_latent_representation(adata), model.get_latent_representation(adata))
    with_data = GeneMambaModel.load(tmp_path / "saved", human_data())
    np.testing.assert_array_equal(with_data.get_latent_representation(), model.get_latent_representation(adata))


@pytest.mark.parametrize("seen", [False, True], ids=["without data", "with data"])
def test_kept_attributes_are_builtins(folder, seen):
    """What is pickled must not depend on another package's version."""

    def check(value):
        assert type(value) in (dict, list, tuple, str, int, float, bool, type(None), np.ndarray, np.int64), type(value)
        for item in [*value, *value.values()] if type(value) is dict else value if type(value) in (list, tuple) else []:
            check(item)

    make_published(folder)
    model = GeneMambaModel.from_pretrained(folder)
    if seen:
        model.get_latent_representation(human_data())
    check(model.gene_report_)
    for name in ("objectives_", "likelihood_", "latent_trained_", "is_trained_"):
        check(getattr(model, name))


def test_without_data_there_is_nothing_to_train_on(folder):
    make_published(folder)
    model = GeneMambaModel.from_pretrained(folder)
    for use in (lambda: train(model), model.get_latent_representation):
        with pytest.raises(ValueError, match="AnnData|adata"):
            use()


def test_factors_travel_with_our_format(folder, tmp_path):
    make_published(folder)
    model = GeneMambaModel.from_pretrained(folder)
    first, second = human_data(), human_data(seed=1)
    model.get_latent_representation(first)
    model.save_pretrained(tmp_path / "ours")
    loaded = GeneMambaModel.from_pretrained(tmp_path / "ours")
    np.testing.assert_array_equal(
        loaded.get_latent_representation(second), model.get_latent_representation(second.copy())
    )


# ---------------------------------------------------------------- the hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with one repository, laid out as the published one; what was fetched of it."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    there, cache = tmp_path / "there", tmp_path / "cache"
    make_published(there)
    make_published(there / "48l-64d", n_layers=3, seed=1)
    # one for all sizes
    (there / "48l-64d" / "tokenizer.json").unlink()
    for name in ("pytorch_model.bin", "modeling_genemamba.py", "training_args.bin", "48l-64d/optimizer.pt"):
        (there / name).write_bytes(b"not to be fetched")
    fetched = []

    def snapshot_download(repo_id, *, revision=None, local_files_only=False, allow_patterns=None, ignore_patterns=None):
        assert repo_id == "owner/genemamba"
        names = [str(path.relative_to(there)) for path in there.rglob("*") if path.is_file()]
        options = {"allow_patterns": allow_patterns, "ignore_patterns": ignore_patterns}
        cache.mkdir(exist_ok=True)
        for name in huggingface_hub.utils.filter_repo_objects(names, **options):
            fetched.append(name)
            (cache / name).parent.mkdir(parents=True, exist_ok=True)
            (cache / name).write_bytes((there / name).read_bytes())
        fetched.append(revision)
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return fetched


def test_a_repository_is_fetched_without_pickles_and_other_sizes(hub):
    model = GeneMambaModel.from_pretrained("owner/genemamba", revision="v1")
    assert model.module.config.n_layers == 2
    assert sorted(hub[:-1]) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert hub[-1] == "v1"


@pytest.mark.parametrize("subfolder", ["48l-64d", "48l-64d/"])
def test_a_subfolder_of_a_repository_comes_with_the_tokenizer_above(hub, subfolder):
    model = GeneMambaModel.from_pretrained("owner/genemamba", subfolder=subfolder)
    assert model.module.config.n_layers == 3
    assert set(hub[:-1]) >= {"48l-64d/config.json", "48l-64d/model.safetensors", "tokenizer.json"}
    assert not {"model.safetensors", "48l-64d/optimizer.pt", "pytorch_model.bin"} & set(hub)


def test_a_tokenizer_above_the_folder_is_mentioned(tmp_path, messages):
    """It may be of any other model with as many genes, whose names would be taken in silence."""
    make_published(tmp_path / "mine")
    (tmp_path / "mine" / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    GeneMambaModel.from_pretrained(tmp_path / "mine")
    assert str(tmp_path / "tokenizer.json") in "\n".join(messages)


# ---------------------------------------------------------------- data


@pytest.mark.parametrize("names", ["identifier", "version removed", "symbol"])
def test_first_anndata_registers_by_name(folder, names):
    tensors = make_published(folder)
    model = GeneMambaModel.from_pretrained(folder)
    adata = human_data()
    named = {"identifier": str, "version removed": "{}.7".format, "symbol": SYMBOLS.get}[names]
    ids = list(adata.var_names)
    factors = medians_of(adata)
    adata.var_names = [named(name) for name in ids]
    latent = model.get_latent_representation(adata)
    np.testing.assert_allclose(factors_of(model), factors, rtol=1e-9)
    tokens = ranked(adata, factors_of(model), ids=ids)
    assert dict(model.gene_report_["by_rule"]) == {names: len(GENES)}
    hidden, _ = oracle(tensors, tokens, (tokens != PAD).sum(1))
    assert latent.dtype == np.float32
    assert relative(latent, masked_mean(hidden, tokens)) <= CLOSE
    assert relative(latent, masked_mean(model.hidden_states(tokens), tokens)) <= CLOSE


def test_extra_genes_and_columns_that_repeat(folder):
    make_published(folder)
    adata = human_data()
    noise = AnnData(sp.csr_matrix(np.full((40, 3), 2.0, dtype=np.float32)), obs=adata.obs)
    noise.var_names = ["NOT-A-GENE-1", "NOT-A-GENE-2", GENES[4] + ".3"]
    wide = AnnData(sp.hstack([adata.X, noise.X], format="csr"), obs=adata.obs)
    wide.var_names = [*adata.var_names, *noise.var_names]
    summed = adata.copy()
    dense = summed.X.toarray()
    dense[:, list(adata.var_names).index(GENES[4])] += 2
    summed.X = sp.csr_matrix(dense)
    latents = [GeneMambaModel.from_pretrained(folder).get_latent_representation(a) for a in (wide, summed)]
    assert relative(latents[0], latents[1]) < 1e-6


def test_factors_are_those_of_the_first_data(folder):
    make_published(folder)
    model = GeneMambaModel.from_pretrained(folder)
    first, second = human_data(), human_data(seed=5)
    model.get_latent_representation(first)
    factors = factors_of(model).copy()
    np.testing.assert_allclose(factors, medians_of(first), rtol=1e-9)
    tokens = ranked(second, factors)
    wanted = masked_mean(model.hidden_states(tokens), tokens)
    assert relative(model.get_latent_representation(second), wanted) <= CLOSE
    np.testing.assert_array_equal(factors_of(model), factors)
    own = ranked(second, medians_of(second))
    assert not np.array_equal(tokens, own)


def test_genes_that_the_first_data_lack_get_a_usual_factor(folder):
    make_published(folder)
    model = GeneMambaModel.from_pretrained(folder)
    first, second = human_data(GENES[:20]), human_data()
    model.get_latent_representation(first)
    np.testing.assert_allclose(factors_of(model), medians_of(first), rtol=1e-9)
    tokens = ranked(second, factors_of(model))
    wanted = masked_mean(model.hidden_states(tokens), tokens)
    assert relative(model.get_latent_representation(second), wanted) <= CLOSE


@pytest.mark.parametrize("given", ["mapping", "tsv", "symbols"])
def test_gene_medians_are_given(folder, tmp_path, given):
    make_published(folder)
    factors = np.random.default_rng(3).uniform(0.1, 20, len(GENES))
    table = dict(zip(GENES, factors.tolist(), strict=True))
    if given == "symbols":
        table = {SYMBOLS[gene]: value for gene, value in table.items()}
    if given == "tsv":
        pd.Series(table, name="median").rename_axis("ensembl_id").to_csv(tmp_path / "medians.tsv", sep="\t")
    model = GeneMambaModel.from_pretrained(folder, gene_medians=tmp_path / "medians.tsv" if given == "tsv" else table)
    adata = human_data()
    tokens = ranked(adata, factors)
    wanted = masked_mean(model.hidden_states(tokens), tokens)
    assert relative(model.get_latent_representation(adata), wanted) <= CLOSE


def test_genes_without_a_given_median_are_no_tokens(folder):
    make_published(folder)
    model = GeneMambaModel.from_pretrained(folder, gene_medians=dict.fromkeys(GENES[:10], 1.0))
    adata = human_data()
    few = adata[:, adata.var_names.isin(GENES[:10])].copy()
    tokens = ranked(few, np.ones(len(GENES)))
    wanted = masked_mean(model.hidden_states(tokens), tokens)
    assert relative(model.get_latent_representation(adata), wanted) <= CLOSE


def test_raw_ranks_are_those_of_the_counts(folder):
    make_published(folder)
    model = GeneMambaModel.from_pretrained(folder, rank_mode="raw")
    adata = human_data()
    tokens = ranked(adata, np.ones(len(GENES)))
    wanted = masked_mean(model.hidden_states(tokens), tokens)
    assert relative(model.get_latent_representation(adata), wanted) <= CLOSE


def test_official_downstream_ranks_keep_zeros_and_unknown_genes(folder):
    make_published(folder)
    model = GeneMambaModel.from_pretrained(folder, rank_mode="official_downstream", max_tokens=20)
    adata = human_data()
    adata.var_names = ["NOT-A-GENE", *adata.var_names[1:]]
    columns = np.array([GENES.index(name) + 2 if name in GENES else 0 for name in adata.var_names])
    values = adata.X.toarray()
    tokens = columns[np.argsort(-values, axis=1, kind="stable")[:, :20]]
    wanted = model.hidden_states(tokens).mean(1)
    assert relative(model.get_latent_representation(adata), wanted) <= CLOSE


def test_max_tokens_cut_each_cell(folder):
    make_published(folder)
    adata = human_data()
    model = GeneMambaModel.from_pretrained(folder, max_tokens=5)
    latent = model.get_latent_representation(adata)
    tokens = ranked(adata, factors_of(model))[:, :5]
    assert relative(latent, masked_mean(model.hidden_states(tokens), tokens)) <= CLOSE


def test_full_flip_of_data_pads_to_max_tokens(folder):
    tensors = make_published(folder)
    model = GeneMambaModel.from_pretrained(folder, flip="full", max_tokens=40)
    adata = human_data(n_cells=6)
    latent = model.get_latent_representation(adata)
    tokens = ranked(adata, factors_of(model))
    padded = np.pad(tokens, ((0, 0), (0, 40 - tokens.shape[1])), constant_values=PAD)
    hidden, _ = oracle(tensors, padded, (padded != PAD).sum(1), flip="full")
    assert relative(latent, masked_mean(hidden, padded)) <= CLOSE


def test_context_length_is_that_of_the_config(folder):
    make_published(folder)
    write_config(folder, max_position_embeddings=17)
    assert GeneMambaModel.from_pretrained(folder).module.config.max_tokens == 17
    (folder / "config.json").unlink()
    assert GeneMambaModel.from_pretrained(folder).module.config.max_tokens == 2048


def test_names_of_no_gene_are_refused(folder):
    make_published(folder)
    adata = human_data()
    adata.var_names = [f"nonsense{i}" for i in range(adata.n_vars)]
    with pytest.raises(ValueError, match="0.0%"):
        GeneMambaModel.from_pretrained(folder).get_latent_representation(adata)
    with pytest.raises(ValueError, match="0.0%"):
        GeneMambaModel.from_pretrained(folder, adata)


def test_refused_data_leave_the_model_as_it_was(folder):
    """Factors estimated from data that are then refused must not stay."""
    make_published(folder)
    model = GeneMambaModel.from_pretrained(folder)
    wrong = human_data(seed=7)
    wrong.var_names = [*wrong.var_names[:3], *(f"nonsense{i}" for i in range(wrong.n_vars - 3))]
    with pytest.raises(ValueError, match="counts"):
        model.get_latent_representation(wrong)
    adata = human_data()
    model.get_latent_representation(adata)
    np.testing.assert_allclose(factors_of(model), medians_of(adata), rtol=1e-9)


def test_a_lower_limit_accepts_data_with_few_known_genes(folder):
    make_published(folder)
    adata = human_data()
    adata.var_names = [*adata.var_names[:8], *(f"nonsense{i}" for i in range(adata.n_vars - 8))]
    with pytest.raises(ValueError, match="limit"):
        GeneMambaModel.from_pretrained(folder).get_latent_representation(adata)
    model = GeneMambaModel.from_pretrained(folder, min_counts_share=0.01)
    with pytest.warns(UserWarning, match="of the counts"):
        assert np.isfinite(model.get_latent_representation(adata)).all()


def test_genes_in_a_column_and_counts_in_a_layer(folder):
    make_published(folder)
    adata = human_data()
    wanted = GeneMambaModel.from_pretrained(folder).get_latent_representation(adata.copy())
    adata.layers["counts"] = adata.X.copy()
    adata.X = sp.csr_matrix(np.log1p(adata.X.toarray()))
    adata.var["ensembl"] = adata.var_names
    adata.var_names = [f"feature{i}" for i in range(adata.n_vars)]
    asked = {"layer": "counts", "gene_key": "ensembl"}
    later = GeneMambaModel.from_pretrained(folder, **asked).get_latent_representation(adata)
    np.testing.assert_array_equal(later, wanted)
    at_once = GeneMambaModel.from_pretrained(folder, adata, **asked)
    np.testing.assert_array_equal(at_once.get_latent_representation(), wanted)


def test_the_latent_must_be_trained_first(folder):
    make_published(folder)
    model = GeneMambaModel.from_pretrained(folder)
    with pytest.raises(ValueError, match="trained"):
        model.get_latent_representation(human_data(), representation="latent")
    with pytest.raises(ValueError, match="labels"):
        model.predict(human_data())


def test_the_anndata_of_the_user_gets_columns_of_scvi_tools_only(folder):
    make_published(folder)
    adata = human_data()
    before = adata.copy()
    GeneMambaModel.from_pretrained(folder).get_latent_representation(adata)
    GeneMambaModel.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    model = GeneMambaModel.from_pretrained(folder, adata)
    train(model)
    model.predict()
    assert (adata.X != before.X).nnz == 0
    assert adata.X.dtype == before.X.dtype
    pd.testing.assert_frame_equal(adata.obs.loc[:, ~adata.obs.columns.str.startswith("_scvi")], before.obs)
    pd.testing.assert_frame_equal(adata.var, before.var)
    assert {key for key in adata.uns if not key.startswith("_scvi")} == set(before.uns)
    # recent anndata counts X as the layer None
    assert not [*adata.obsm, *adata.varm, *(key for key in adata.layers if key is not None)]


# ---------------------------------------------------------------- fine-tuning


@pytest.fixture
def prepared(folder):
    """Model of a published encoder on data with batches and labels, and its tensors."""
    tensors = make_published(folder, n_layers=3)
    adata = human_data(n_cells=48)
    GeneMambaModel.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    return GeneMambaModel.from_pretrained(folder, adata, n_latent=8), tensors


def test_fine_tuning_starts_from_the_file(prepared):
    model, tensors = prepared
    state = model.module.state_dict()
    assert torch.equal(state["network.encoder.embeddings.weight"], tensors["embeddings.weight"])
    assert torch.equal(state["network.encoder.norm_f.weight"], tensors["norm_f.weight"])
    assert torch.equal(state["objectives.masked_genes.head.weight"], tensors["lm_head.weight"])
    assert torch.equal(state["objectives.masked_genes.head.bias"], tensors["lm_head.bias"])
    for name in tensors:
        if name.startswith("mamba_mixer.layers."):
            ours = name.replace("mamba_mixer.layers.", "network.encoder.layers.").replace(".mamba.", ".mixer.")
            assert torch.equal(state[ours], tensors[name])
    compare(model, tensors, *cells((9, 4)))
    assert {"counts", "batch_alignment", "masked_genes", "cell_type"} == set(model.module.objectives)
    assert (model.summary_stats.n_batch, model.module.config.n_latent) == (2, 8)


def test_fine_tuned_models_predict_and_embed(prepared, tmp_path):
    model, tensors = prepared
    with pytest.raises(ValueError, match="trained"):
        model.get_latent_representation(representation="latent")
    assert model.get_latent_representation().shape == (48, 64)
    train(model)
    assert model.get_latent_representation().shape == (48, 8)
    assert set(model.predict()) <= {"type0", "type1", "type2"}
    soft = model.predict(soft=True)
    np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-5)
    assert not torch.equal(encoder_of(model)["embeddings.weight"], tensors["embeddings.weight"])
    model.save_pretrained(tmp_path / "tuned")
    loaded = GeneMambaModel.from_pretrained(tmp_path / "tuned")
    np.testing.assert_array_equal(
        loaded.get_latent_representation(model.adata.copy()), model.get_latent_representation()
    )
    assert loaded.predict(model.adata.copy()).tolist() == model.predict().tolist()


def test_all_layers_frozen(prepared):
    model, _ = prepared
    before, heads = encoder_of(model), {n: p.clone() for n, p in model.module.objectives.named_parameters()}
    train(model, n_frozen_layers="all")
    after = encoder_of(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(not torch.equal(heads[n], p) for n, p in model.module.objectives.named_parameters())
    assert all(p.requires_grad for p in model.module.parameters())
    train(model)
    assert not torch.equal(encoder_of(model)["embeddings.weight"], before["embeddings.weight"])


def test_first_layers_frozen(prepared):
    model, _ = prepared
    before = encoder_of(model)
    train(model, n_frozen_layers=1)
    changed = {name for name, value in encoder_of(model).items() if not torch.equal(value, before[name])}
    assert not {name for name in changed if name.startswith(("layers.0.", "embeddings."))}
    for i in (1, 2):
        assert f"layers.{i}.mixer.in_proj.weight" in changed
    assert "norm_f.weight" in changed


@pytest.mark.parametrize("wrong", [4, -1, "some", 1.5, None], ids=repr)
def test_numbers_of_frozen_layers_that_make_no_sense(prepared, wrong):
    model, _ = prepared
    before = encoder_of(model)
    with pytest.raises(ValueError, match="n_frozen_layers"):
        train(model, n_frozen_layers=wrong)
    assert all(p.requires_grad for p in model.module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in encoder_of(model).items())


def test_rates_that_fall_from_layer_to_layer(prepared):
    model, _ = prepared
    before = encoder_of(model)
    train(model, plan_kwargs={"layer_decay": 0.1, "weight_decay": 0.0})
    after = encoder_of(model)
    names = [f"layers.{i}.mixer.in_proj.weight" for i in range(3)]
    moved = [float((after[name] - before[name]).abs().max()) for name in names]
    assert 0 < moved[0] < 0.3 * moved[1] < 0.1 * moved[2]


def test_adapters_change_input_projections_only(prepared, tmp_path):
    peft = pytest.importorskip("peft")
    model, _ = prepared
    before, keys = encoder_of(model), list(model.module.state_dict())
    train(model, peft_config=peft.LoraConfig(r=2, init_lora_weights=False))
    changed = {name for name, value in encoder_of(model).items() if not torch.equal(value, before[name])}
    assert changed == {f"layers.{i}.mixer.in_proj.weight" for i in range(3)}
    assert list(model.module.state_dict()) == keys
    assert not [m for m in model.module.modules() if type(m).__module__.startswith("peft")]
    assert all(p.requires_grad for p in model.module.parameters())
    update = encoder_of(model)["layers.0.mixer.in_proj.weight"] - before["layers.0.mixer.in_proj.weight"]
    assert int(torch.linalg.matrix_rank(update.double(), rtol=1e-4)) == 2
    model.save_pretrained(tmp_path / "ours")
    model.save(tmp_path / "saved")
    tokens = cells((9, 4))[0]
    for loaded in (GeneMambaModel.from_pretrained(tmp_path / "ours"), GeneMambaModel.load(tmp_path / "saved", False)):
        np.testing.assert_array_equal(loaded.hidden_states(tokens), model.hidden_states(tokens))
    train(model)
    assert not torch.equal(encoder_of(model)["embeddings.weight"], before["embeddings.weight"])


def test_adapters_fit_input_projections_only(prepared):
    peft = pytest.importorskip("peft")
    model, _ = prepared
    keys = list(model.module.state_dict())
    with pytest.raises(ValueError, match="in_proj"):
        train(model, peft_config=peft.LoraConfig(r=2, target_modules=["out_proj"]))
    with pytest.raises(ValueError, match="n_frozen_layers"):
        train(model, peft_config=peft.LoraConfig(r=2), n_frozen_layers=1)
    assert list(model.module.state_dict()) == keys
    assert all(p.requires_grad for p in model.module.parameters())


def test_unlabelled_cells_take_part(folder):
    make_published(folder)
    adata = human_data(n_cells=48)
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.add_categories("Unknown")
    adata.obs.loc[adata.obs_names[:10], "cell_type"] = "Unknown"
    GeneMambaModel.setup_anndata(adata, labels_key="cell_type")
    model = GeneMambaModel.from_pretrained(folder, adata)
    train(model)
    assert "Unknown" not in set(model.predict())


def test_data_set_up_by_symbol_are_matched(folder):
    tensors = make_published(folder)
    adata = human_data()
    factors, ids = medians_of(adata), list(adata.var_names)
    adata.var_names = [SYMBOLS[name] for name in ids]
    GeneMambaModel.setup_anndata(adata, batch_key="batch")
    model = GeneMambaModel.from_pretrained(folder, adata)
    assert list(model.vocabulary.genes) == list(GENES)
    np.testing.assert_allclose(factors_of(model), factors, rtol=1e-9)
    tokens = ranked(adata, factors_of(model), ids=ids)
    hidden, _ = oracle(tensors, tokens, (tokens != PAD).sum(1))
    assert relative(model.get_latent_representation(), masked_mean(hidden, tokens)) <= CLOSE


def test_a_larger_vocabulary_with_pseudoautosomal_genes(folder):
    genes = (*GENES, *(f"ENSG{i:011d}" for i in range(300_000, 300_500)), "ENSGR0000265658")
    tensors = make_published(folder, genes=genes)
    model = GeneMambaModel.from_pretrained(folder)
    assert model.vocabulary.n_tokens == len(genes) + 2
    assert model.vocabulary.token_ids(["ENSGR0000265658"]).tolist() == [len(genes) + 1]
    compare(model, tensors, *cells((20, 11), n_tokens=len(genes) + 2))
    embeddings = model.get_gene_embeddings()
    np.testing.assert_array_equal(embeddings.loc["ENSGR0000265658"], tensors["embeddings.weight"][-1].numpy())


def test_other_files_in_the_folder_do_not_matter(folder):
    tensors = make_published(folder)
    save_file({"other": torch.ones(2)}, folder / "optimizer.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "modeling_genemamba.py").write_text("raise RuntimeError")
    write_tokenizer(folder, GENES)
    compare(GeneMambaModel.from_pretrained(folder), tensors, *cells((6, 3)))
