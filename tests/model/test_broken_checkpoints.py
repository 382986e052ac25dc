"""Broken and malicious checkpoints: a plain error that names the place, nothing executed, no model left behind."""

from __future__ import annotations

import json
import pickle
import shutil
import socket
import struct

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from scgenemamba import GeneMambaModel

from .published import GENES, MIXER, make_published, random_classifier, write_config, write_tokenizer, write_weights

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
D = MIXER.format(0) + "D"


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def refused(folder, words, **asked):
    """Reading raises one of the promised errors, whose text says where, and no model is left."""
    before = set(GeneMambaModel._setup_adata_manager_store)
    with pytest.raises((ValueError, FileNotFoundError, ConnectionError), match=words) as error:
        GeneMambaModel.from_pretrained(folder, **asked)
    # the raw errors of json and codecs are ValueErrors too
    assert error.type in (ValueError, FileNotFoundError, ConnectionError)
    assert len(str(error.value)) < 1000
    assert set(GeneMambaModel._setup_adata_manager_store) <= before


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whatever a checkpoint says, nothing is fetched."""

    def refuse(*args, **kwargs):
        pytest.fail(f"asked for the network: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def folder(tmp_path):
    make_published(tmp_path / "published", n_layers=2)
    return tmp_path / "published"


# ---------------------------------------------------------------- files of weights


def raw(folder, header, data=b"", length=None):
    """A safetensors file with any header and any length in front of it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def edit(folder, change):
    """Write the file again with a header, and data, that were changed."""
    content = (folder / WEIGHTS).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])
    changed = change(header, data)
    raw(folder, header, bytes(data if changed is None else changed))


def set_entry(name, **values):
    return lambda folder: edit(folder, lambda header, data: header[name].update(values))


def cut(n_bytes):
    def damage(folder):
        content = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(content[:n_bytes])

    return damage


def put(content):
    return lambda folder: (folder / WEIGHTS).write_bytes(content)


def overlap(folder):
    def change(header, data):
        header["norm_f.weight"]["data_offsets"] = header[MIXER.format(1) + "D"]["data_offsets"][:1] * 2
        header["norm_f.weight"]["data_offsets"][1] += 4 * 64

    edit(folder, change)


def hole(folder):
    def change(header, data):
        for entry in header.values():
            if "data_offsets" in entry:
                entry["data_offsets"] = [offset + 64 for offset in entry["data_offsets"]]
        return bytes(64) + data

    edit(folder, change)


def named_twice(folder):
    content = (folder / WEIGHTS).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = content[8 : 8 + length].rstrip()
    again = json.dumps({"norm_f.weight": json.loads(header)["lm_head.bias"]}).encode()
    raw(folder, header[:-1] + b"," + again[1:], content[8 + length :])


def nested(depth):
    return "[" * depth + "]" * depth


FILES = {
    "nothing": cut(0),
    "five bytes": cut(5),
    "cut off in the header": cut(200),
    "cut off in the data": cut(-1),
    "half": cut(60_000),
    "garbage": put(np.random.default_rng(0).bytes(5000)),
    "text": put(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 263000000\n"),
    "a page": put(b"<!DOCTYPE html><html><body>Not found</body></html>"),
    "a zip": put(b"PK\x03\x04" + bytes(400)),
    "header of no length": put(bytes(8)),
    "header longer than the file": lambda f: raw(f, {}, length=10_000),
    "header of gigantic length": lambda f: raw(f, {}, length=2**63 + 5),
    "header of the largest length": lambda f: raw(f, {}, length=2**64 - 1),
    "header is no JSON": lambda f: raw(f, b"{'a': 1}      "),
    "header is no text": lambda f: raw(f, b'{"\xff\xfe": 1}  '),
    "header is a list": lambda f: raw(f, [1, 2]),
    "header is a number": lambda f: raw(f, 7),
    "header is nested deeply": lambda f: raw(f, ('{"a":' * 50_000 + "1" + "}" * 50_000).encode()),
    "entry is no object": lambda f: edit(f, lambda header, data: header.update({D: 3})),
    "entry lacks its shape": lambda f: edit(f, lambda header, data: header[D].pop("shape") and None),
    "metadata hold a list": lambda f: edit(f, lambda header, data: header.update(__metadata__=[1])),
    "offsets overlap": overlap,
    "offsets leave a hole": hole,
    "offsets outside": set_entry("norm_f.weight", data_offsets=[10**9, 10**9 + 256]),
    "offsets backwards": set_entry("norm_f.weight", data_offsets=[256, 0]),
    "offsets negative": set_entry("norm_f.weight", data_offsets=[-256, 0]),
    "offsets too few": set_entry("norm_f.weight", data_offsets=[0]),
    "offsets do not fit the shape": set_entry("norm_f.weight", shape=[128]),
    "shape negative": set_entry("norm_f.weight", shape=[-64]),
    "shape with a fraction": set_entry("norm_f.weight", shape=[64.5]),
    "shape that overflows": set_entry("norm_f.weight", shape=[2**62, 2**62]),
    "shape that overflows to the right size": set_entry("norm_f.weight", shape=[2**62 + 16, 4]),
    "type unknown": set_entry("norm_f.weight", dtype="F7"),
    "type is no text": set_entry("norm_f.weight", dtype=["F32"]),
    "data after the last tensor": lambda f: edit(f, lambda header, data: data + b"MZ" * 100),
}


@pytest.mark.parametrize("damage", FILES.values(), ids=FILES.keys())
def test_broken_weight_files(folder, damage):
    damage(folder)
    refused(folder, r"model\.safetensors")


def test_a_name_that_is_there_twice(folder):
    named_twice(folder)
    refused(folder, r"model\.safetensors|norm_f")


@pytest.mark.parametrize("how", ["pickle", "torch", "legacy torch"])
@pytest.mark.parametrize("name", [WEIGHTS, "pytorch_model.bin", "model.pt", "shard"])
def test_pickles_are_never_opened(folder, tmp_path, how, name):
    trap = tmp_path / "executed"
    (folder / WEIGHTS).unlink()
    if name == "shard":
        name = "model-00001-of-00001.safetensors"
        (folder / INDEX).write_text(json.dumps({"weight_map": {"embeddings.weight": name}}))
    if how == "pickle":
        (folder / name).write_bytes(pickle.dumps(Payload(trap)))
    else:
        torch.save(Payload(trap), folder / name, _use_new_zipfile_serialization=how == "torch")
    refused(folder, name)
    assert not trap.exists()


def test_no_weights_at_all(folder):
    (folder / WEIGHTS).unlink()
    refused(folder, r"model\.safetensors")
    (folder / WEIGHTS).mkdir()
    refused(folder, r"model\.safetensors")


# ---------------------------------------------------------------- tensors


def replaced(**values):
    """Damage that puts tensors in the place of others, by the end of their names."""

    def damage(folder):
        tensors = load_file(folder / WEIGHTS)
        for end, make in values.items():
            name = next(name for name in tensors if name.endswith(end))
            tensors[name] = make(tensors[name]).contiguous()
        write_weights(folder, tensors)

    return damage


def spoilt(value, dtype=torch.float32):
    def make(tensor):
        tensor = tensor.to(dtype)
        tensor.view(-1)[-1] = value
        return tensor

    return make


def renamed(old, new):
    def damage(folder):
        tensors = load_file(folder / WEIGHTS)
        write_weights(folder, {name.replace(old, new): value for name, value in tensors.items()})

    return damage


PARTS = ["in_proj.weight", "conv1d.weight", "conv1d.bias", "dt_bias", "A_log", "D", "norm.weight", "out_proj.weight"]
OTHERS = ["embeddings.weight", "norm_f.weight", "lm_head.weight", "lm_head.bias"]
NAMES = [*OTHERS, *(MIXER.format(i) + part for i in (0, 1) for part in PARTS)]


@pytest.mark.parametrize(
    ("name", "value"),
    [*((name, np.nan) for name in NAMES), *((name, value) for name in OTHERS for value in (np.inf, -np.inf))],
)
def test_values_that_are_not_finite(folder, name, value):
    tensors = load_file(folder / WEIGHTS)
    tensors[name].view(-1)[-1] = value
    write_weights(folder, tensors)
    refused(folder, name.replace(".", r"\."))


@pytest.mark.parametrize("name", ["norm_f.weight", D, "embeddings.weight"])
def test_values_that_single_precision_cannot_hold(folder, name):
    tensors = load_file(folder / WEIGHTS)
    tensors[name] = spoilt(1e300, torch.float64)(tensors[name])
    write_weights(folder, tensors)
    refused(folder, name.replace(".", r"\."))


@pytest.mark.parametrize(
    "dtype",
    [torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn],
    ids=lambda dtype: str(dtype).removeprefix("torch."),
)
def test_types_that_are_no_weights(folder, dtype):
    tensors = load_file(folder / WEIGHTS)
    tensors[D] = torch.ones_like(tensors[D]).to(dtype)
    write_weights(folder, tensors)
    refused(folder, D.replace(".", r"\."))


def shape_changes(name):
    """Shapes of as many, fewer and more numbers."""
    return {
        "longer": lambda t: torch.cat([t, t]),
        "one short": lambda t: t[:-1],
        "one axis more": lambda t: t[None],
        "flat" if name.endswith(("D", "bias", "A_log", "norm_f.weight", "norm.weight")) else "transposed": (
            lambda t: t.reshape(-1, 1) if t.ndim == 1 else t.transpose(0, -1)
        ),
        "a number": lambda t: t.reshape(-1)[0].clone(),
        "nothing": lambda t: t[:0],
    }


@pytest.mark.parametrize("name", NAMES[: len(OTHERS) + len(PARTS)])
@pytest.mark.parametrize("how", range(6))
def test_tensors_of_another_shape(folder, name, how):
    tensors = load_file(folder / WEIGHTS)
    tensors[name] = list(shape_changes(name).values())[how](tensors[name]).contiguous()
    write_weights(folder, tensors)
    part = name.rpartition("mamba.")[2].replace(".", r"\.")
    # sizes are taken from some tensors, and others are then found not to fit
    refused(folder, rf"{part}|has shape|do not fit|embedding table|positive integer|Mamba-1")


@pytest.mark.parametrize("name", NAMES)
def test_tensors_that_are_missing(folder, name):
    tensors = load_file(folder / WEIGHTS)
    del tensors[name]
    write_weights(folder, tensors)
    refused(folder, "lm_head" if name.startswith("lm_head") else name.replace(".", r"\."))


@pytest.mark.parametrize("name", ["mamba_mixer.aggr.weight", "mamba_mixer.aggr.bias"])
def test_half_an_aggregator(tmp_path, name):
    tensors = make_published(tmp_path / "gate", fusion="gate")
    write_weights(tmp_path / "gate", {k: v for k, v in tensors.items() if k != name})
    refused(tmp_path / "gate", "aggr")


MEANING = {
    "a layer is missing": (renamed("layers.1.", "layers.2."), "[Ll]ayers are missing"),
    "the first layer is missing": (renamed("layers.0.", "layers.5."), "[Ll]ayers are missing"),
    "a layer with a huge number": (renamed("layers.1.", "layers.999999999."), "number 9999"),
    "a layer with a number of 5,000 digits": (renamed("layers.1.", f"layers.{'9' * 5000}."), "[Ll]ayer"),
    "a layer with leading zeros": (renamed("layers.1.", "layers.0001."), "layers"),
    "a layer in other digits": (renamed("layers.1.", "layers.\u0661."), "layers"),
    "a layer below zero": (renamed("layers.0.", "layers.-1."), "[Ll]ayers"),
    "no layers": (renamed("mamba_mixer", "bert"), "no GeneMamba checkpoint"),
    "no embeddings": (renamed("embeddings", "wte"), "embeddings"),
    "an unknown prefix": (renamed("", "x."), "no GeneMamba checkpoint"),
    "one tensor with two prefixes": (
        lambda f: write_weights(f, {**(t := load_file(f / WEIGHTS)), "model.norm_f.weight": t["norm_f.weight"] + 1}),
        "norm_f.weight",
    ),
    "two names of the embeddings": (
        lambda f: write_weights(
            f, {**(t := load_file(f / WEIGHTS)), "embeddings.word_embeddings.weight": t["embeddings.weight"] + 1}
        ),
        "embeddings",
    ),
    "two-dimensional A_log": (replaced(A_log=lambda t: torch.ones(128, 16)), "Mamba-2"),
    "no heads": (replaced(A_log=lambda t: t[:0]), "heads"),
    "no rows": (replaced(**{"embeddings.weight": lambda t: t[:0]}), "embeddings.weight"),
    "no columns": (replaced(**{"embeddings.weight": lambda t: t[:, :0]}), "embeddings.weight"),
    "no state": (replaced(**{"0.mamba.conv1d.weight": lambda t: t[:128]}), "channels"),
    "other number of heads": (replaced(**{"0.mamba.A_log": lambda t: torch.ones(3)}), "heads"),
    "more rows than tokens": (lambda f: write_tokenizer(f, GENES[:-2]), "34 rows.*32 tokens"),
    "more genes than rows": (lambda f: write_tokenizer(f, [*GENES, "ENSG00000999999"]), "34 rows.*35 tokens"),
    "nothing in it": (lambda f: save_file({}, f / WEIGHTS), "no GeneMamba checkpoint"),
}


@pytest.mark.parametrize(("damage", "words"), MEANING.values(), ids=MEANING.keys())
def test_tensors_that_make_no_model(folder, damage, words):
    damage(folder)
    refused(folder, words)


LAST = "classifier.layers.12.weight"
CLASSIFIERS = {
    "a part is missing": lambda t: t.pop("classifier.layers.5.running_mean"),
    "the last is missing": lambda t: t.pop(LAST),
    "one layer more": lambda t: t.update({"classifier.layers.16.weight": torch.ones(3, 3)}),
    "another width": lambda t: t.update({"classifier.layers.4.weight": torch.ones(256, 512)}),
    "the last is a number": lambda t: t.update({LAST: torch.tensor(1.0)}),
    "the last has three axes": lambda t: t.update({LAST: torch.ones(4, 512, 1)}),
    "no classes": lambda t: t.update({LAST: torch.ones(0, 512), "classifier.layers.12.bias": torch.ones(0)}),
    "not finite": lambda t: t["classifier.layers.1.running_var"].fill_(np.nan),
    "variance below zero": lambda t: t["classifier.layers.1.running_var"].fill_(-1.0),
    "integers": lambda t: t.update({LAST: torch.ones(4, 512, dtype=torch.int32)}),
}


@pytest.mark.parametrize("damage", CLASSIFIERS.values(), ids=CLASSIFIERS.keys())
def test_broken_classifiers(tmp_path, damage):
    tensors = {**make_published(tmp_path / "tuned", cls=True), **random_classifier(64, 4)}
    damage(tensors)
    write_weights(tmp_path / "tuned", tensors)
    refused(tmp_path / "tuned", "classifier", pooling="cls")


# ---------------------------------------------------------------- index of shards


def index(content):
    """Damage that writes an index of its own; bytes and text as they are."""

    def damage(folder):
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / INDEX).write_bytes(text)

    return damage


def pointing(name):
    return index({"weight_map": {"embeddings.weight": name}})


@pytest.fixture
def sharded(tmp_path):
    """Checkpoint in shards, with all of its weights in a file outside as well."""
    tensors = make_published(tmp_path / "sharded", n_shards=2)
    save_file(tensors, tmp_path / "outside.safetensors")
    (tmp_path / "sharded" / "inside").mkdir()
    save_file(tensors, tmp_path / "sharded" / "inside" / "weights.safetensors")
    return tmp_path / "sharded"


INDICES = {
    "outside": (pointing("../outside.safetensors"), "outside"),
    "outside, backwards": (pointing("..\\outside.safetensors"), "outside"),
    "outside, through a folder": (pointing("inside/../../outside.safetensors"), "outside"),
    "in a folder": (pointing("inside/weights.safetensors"), "inside"),
    "absolute": (lambda f: pointing(str(f.parent / "outside.safetensors"))(f), "outside"),
    "an address": (pointing("https://example.org/model.safetensors"), "example"),
    "a pickle": (pointing("pytorch_model.bin"), "pytorch_model"),
    "hidden": (pointing(".hidden.safetensors"), "hidden"),
    "nothing": (pointing(""), "index"),
    "null": (pointing(None), "index"),
    "a list": (pointing(["model-00001-of-00002.safetensors"]), "index"),
    "end of a string": (pointing("model\x00.safetensors"), "index"),
    "line end": (pointing("model-00001-of-00002.safetensors\n"), "index"),
    "the folder itself": (pointing("."), "index"),
    "missing": (pointing("model-00009-of-00009.safetensors"), "model-00009"),
    "no map": (index({"metadata": {}}), "weight_map"),
    "empty map": (index({"weight_map": {}}), "weight_map"),
    "map is a list": (index({"weight_map": ["a"]}), "weight_map"),
    "no JSON": (index(b"{"), "index"),
    "no text": (index(b"\xff\xfe\x00"), "index"),
    "list of maps": (index([{"weight_map": {}}]), "index"),
    "nested deeply": (index(nested(200_000).encode()), "index"),
    "nothing at all": (index(b""), "index"),
}


@pytest.mark.parametrize(("damage", "words"), INDICES.values(), ids=INDICES.keys())
def test_broken_indices(sharded, damage, words):
    damage(sharded)
    refused(sharded, words)


def test_a_shard_that_is_missing(sharded):
    (sharded / "model-00002-of-00002.safetensors").unlink()
    refused(sharded, "model-00002-of-00002")


def test_a_shard_that_is_cut_off(sharded):
    path = sharded / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(sharded, "model-00002-of-00002")


def test_a_tensor_that_no_shard_holds(sharded):
    content = json.loads((sharded / INDEX).read_text())
    content["weight_map"]["mamba_mixer.layers.2.mamba.D"] = "model-00001-of-00002.safetensors"
    (sharded / INDEX).write_text(json.dumps(content))
    refused(sharded, "mamba_mixer.layers.2.mamba.D")


def test_a_tensor_in_two_shards(sharded):
    paths = [sharded / f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    first, second = map(load_file, paths)
    save_file({**second, "norm_f.weight": torch.ones(64), "embeddings.weight": torch.ones(34, 64)}, paths[1])
    assert {"norm_f.weight", "embeddings.weight"} & set(first)
    refused(sharded, "in both model-00001-of-00002.safetensors and model-00002-of-00002.safetensors")


# ---------------------------------------------------------------- JSON beside the weights

CONFIGS = {
    "no JSON": b"{",
    "nothing": b"",
    "no text": b"\xff\xfe{}",
    "a list": b"[1, 2]",
    "a text": b'"MambaModel"',
    "nested deeply": nested(200_000).encode(),
    "nested a little": ('{"a":' * 900 + "1" + "}" * 900).encode(),
    "a number of 10,000 digits": b'{"vocab_size": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("content", CONFIGS.values(), ids=CONFIGS.keys())
def test_broken_configs(folder, content):
    (folder / "config.json").write_bytes(content)
    if content.startswith(b'{"a"'):
        # strange, and nothing of ours
        assert GeneMambaModel.from_pretrained(folder).module.config.n_layers == 2
    else:
        refused(folder, r"config\.json")


def test_configs_too_large_to_be_one(folder):
    with (folder / "config.json").open("wb") as file:
        file.truncate(2**33)
    refused(folder, r"config\.json")


@pytest.mark.parametrize("value", [0, -5, "many", 1.5, [1], 10**30], ids=repr)
def test_context_lengths_that_make_no_sense(folder, value):
    write_config(folder, max_position_embeddings=value)
    refused(folder, "max_position_embeddings")
    assert GeneMambaModel.from_pretrained(folder, max_tokens=8).module.config.max_tokens == 8


@pytest.mark.filterwarnings("ignore:The tensors are believed")
def test_nothing_else_of_a_config_is_believed(folder):
    strange = {
        "auto_map": {"AutoModel": "evil--modeling.Model"},
        "torch_dtype": "os.system",
        "mode": "__import__('os')",
    }
    write_config(folder, d_model="x", vocab_size=[1], mamba_layer=None, **strange)
    (folder / "evil.py").write_text("raise SystemExit")
    config = GeneMambaModel.from_pretrained(folder).module.config
    assert (config.d_model, config.n_layers, config.fusion) == (64, 2, "mean")


def vocabulary(**changes):
    """Damage of the tokenizer's vocabulary; ``None`` takes a token away."""

    def damage(folder):
        vocab = {"[UNK]": 0, "[PAD]": 1, **{gene: i + 2 for i, gene in enumerate(GENES)}, **changes}
        write_tokenizer(folder, GENES, vocab={k: v for k, v in vocab.items() if v is not None})

    return damage


def tokenizer_file(content):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda folder: (folder / "tokenizer.json").write_bytes(text)


def twice(folder):
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace(f'"{GENES[5]}"', f'"{GENES[4]}"'))


TOKENIZERS = {
    "a gap": vocabulary(**{GENES[5]: 40}),
    "a gap at the end": vocabulary(**{GENES[-1]: 34}),
    "two genes of one id": vocabulary(**{GENES[5]: 6}),
    "a gene that is there twice": twice,
    "an id below zero": vocabulary(**{GENES[5]: -1}),
    "an id with a fraction": vocabulary(**{GENES[5]: 7.0}),
    "an id that is a text": vocabulary(**{GENES[5]: "7"}),
    "an id that is true": vocabulary(**{"[PAD]": True}),
    "an id of 20 digits": vocabulary(**{GENES[5]: 10**20}),
    "other specials": vocabulary(**{"[UNK]": None, "[PAD]": None, "<pad>": 0, "<mask>": 1}),
    "specials in another order": vocabulary(**{"[UNK]": 1, "[PAD]": 0}),
    "a special among the genes": vocabulary(**{GENES[5]: None, "[CLS]": 7}),
    "a gene without a name": vocabulary(**{GENES[5]: None, "": 7}),
    "no genes": lambda f: write_tokenizer(f, []),
    "a BPE": lambda f: write_tokenizer(f, GENES, type="BPE", merges=[]),
    "no type": lambda f: write_tokenizer(f, GENES, type=None),
    "no vocabulary": lambda f: write_tokenizer(f, GENES, vocab=None),
    "vocabulary is a list": lambda f: write_tokenizer(f, GENES, vocab=[["A", 0.1]]),
    "no model": tokenizer_file({"version": "1.0"}),
    "a list": tokenizer_file([]),
    "no JSON": tokenizer_file(b"{"),
    "no text": tokenizer_file(b"\xff\xfe"),
    "nothing": tokenizer_file(b""),
    "nested deeply": tokenizer_file(nested(200_000).encode()),
    "a pickle": tokenizer_file(pickle.dumps({"A": 1})),
}


@pytest.mark.parametrize("damage", TOKENIZERS.values(), ids=TOKENIZERS.keys())
def test_broken_tokenizers(folder, damage):
    damage(folder)
    refused(folder, r"tokenizer\.json")


def test_no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    refused(folder, r"tokenizer\.json")


# ---------------------------------------------------------------- sources


@pytest.mark.parametrize("subfolder", ["..", "../..", "inside/../..", "/etc", "missing", "config.json", "out"])
def test_subfolders_outside_and_missing_ones(folder, subfolder):
    make_published(folder.parent / "other")
    make_published(folder.parent)
    (folder / "out").symlink_to(folder.parent / "other")
    refused(folder, "[Ss]ubfolder", subfolder=subfolder)


@pytest.mark.parametrize("subfolder", ["", ".", "../published"])
def test_subfolders_that_stay_where_they_are(folder, subfolder):
    assert GeneMambaModel.from_pretrained(folder, subfolder=subfolder).module.config.n_layers == 2


SOURCES = {
    "nonsense": "no such thing!",
    "an address": "https://huggingface.co/owner/name",
    "three parts": "owner/name/more",
    "one part": "genemamba",
    "a missing folder": "/no/such/folder",
    "a folder above": "../../no_such",
    "options": "--token/x",
    "home of nobody": "~nobody-at-all/model",
    "end of a string": "a\0b",
    "code": "owner/na;me",
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_sources_that_are_none(source):
    refused(source, "neither a folder nor a repository")


@pytest.mark.parametrize("source", ["owner/na--me", "owner/name.git", "owner/name.", f"owner/{'x' * 100}"])
def test_names_that_no_repository_has(source):
    with pytest.raises((ValueError, FileNotFoundError), match="owner/"):
        GeneMambaModel.from_pretrained(source)


def test_a_file_is_no_source(folder):
    refused(folder / WEIGHTS, "neither a folder nor a repository")
    refused(str(folder / "config.json"), "neither a folder nor a repository")


def test_an_empty_folder(tmp_path):
    refused(tmp_path, r"model\.safetensors")


@pytest.mark.parametrize("more", [{}, {"revision": "v1"}, {"subfolder": "24l-768d"}, {"subfolder": "../.."}], ids=str)
def test_repositories_offline(tmp_path, monkeypatch, more):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    refused("nobody-at-all/no-such-model", "cache.*local_files_only", local_files_only=True, **more)


def test_no_network(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    refused("nobody-at-all/no-such-model", "no-such-model.*cannot be reached")


def test_revisions_that_are_no_names(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    refused("nobody-at-all/no-such-model", "no-such-model", local_files_only=True, revision="../../../../etc")


@pytest.mark.parametrize("asked", [{"rank_mode": "log"}, {"flip": "half"}, {"pooling": "median"}, {"pooling": ()}])
def test_arguments_that_make_no_sense(folder, asked):
    refused(folder, next(iter(asked)), **asked)


@pytest.mark.parametrize("asked", [{"max_tokens": 0}, {"max_tokens": -1}, {"fusion": "product"}])
def test_sizes_that_make_no_sense(folder, asked):
    refused(folder, next(iter(asked)), **asked)


# ---------------------------------------------------------------- our own format


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("native")
    trained.save_pretrained(folder)
    return folder


@pytest.fixture
def ours(saved, tmp_path):
    """Copy of a checkpoint in our format, to be damaged."""
    return shutil.copytree(saved, tmp_path / "ours")


def test_our_own_format_loads_undamaged(ours):
    assert GeneMambaModel.from_pretrained(ours).is_trained_


@pytest.mark.parametrize("name", [WEIGHTS, "preprocessing.safetensors", "tokenizer.json", "config.json"])
def test_own_files_that_are_missing(ours, name):
    (ours / name).unlink()
    # without its config it looks like any other
    refused(ours, "no GeneMamba checkpoint" if name == "config.json" else name.replace(".", r"\."))


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04K\x01.", bytes(100), b"{}"], ids=["empty", "pickle", "zeros", "text"]
)
@pytest.mark.parametrize("name", [WEIGHTS, "preprocessing.safetensors", "tokenizer.json"])
def test_own_files_that_are_damaged(ours, name, content):
    (ours / name).write_bytes(content)
    refused(ours, name.replace(".", r"\."))


def arrays(**changes):
    """Damage of the preprocessing's arrays."""

    def damage(folder):
        n_genes = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]) - 2
        content = {
            "medians": np.linspace(1, 2, n_genes),
            "variable_genes": np.arange(2, 2 + n_genes, dtype=np.int32),
        }
        content = {**content, **{k: v(content[k]) if k in content else v(None) for k, v in changes.items()}}
        save_arrays({k: v for k, v in content.items() if v is not None}, folder / "preprocessing.safetensors")

    return damage


def poke(value, dtype=None):
    def make(array):
        array = array.astype(dtype or array.dtype)
        array[3] = value
        return array

    return make


ARRAYS = {
    "medians too short": arrays(medians=lambda a: a[:-1]),
    "medians too long": arrays(medians=lambda a: np.append(a, 1.0)),
    "medians as a table": arrays(medians=lambda a: a[None]),
    "medians missing": arrays(medians=lambda a: None),
    "medians below zero": arrays(medians=poke(-1.0)),
    "medians of zero": arrays(medians=poke(0.0)),
    "medians infinite": arrays(medians=poke(np.inf)),
    "medians are integers": arrays(medians=lambda a: a.astype(np.int64)),
    "medians are truths": arrays(medians=lambda a: a.astype(bool)),
    "variable genes missing": arrays(variable_genes=lambda a: None),
    "variable genes out of range": arrays(variable_genes=poke(10_000)),
    "variable genes are specials": arrays(variable_genes=poke(1)),
    "variable genes below zero": arrays(variable_genes=poke(-1)),
    "variable genes twice": arrays(variable_genes=poke(2)),
    "variable genes with fractions": arrays(variable_genes=lambda a: a.astype(np.float32)),
    "variable genes are not numbers": arrays(variable_genes=poke(np.nan, np.float64)),
    "variable genes as a table": arrays(variable_genes=lambda a: a[None]),
    "variable genes are none": arrays(variable_genes=lambda a: a[:0]),
    "an array too many": arrays(more=lambda a: np.ones(3)),
}


@pytest.mark.parametrize("damage", ARRAYS.values(), ids=ARRAYS.keys())
def test_own_preprocessing_that_is_damaged(ours, damage):
    damage(ours)
    # without decoder genes there is no decoder, which the weights belong to
    refused(ours, r"preprocessing\.safetensors|medians|variable_genes|objectives\.counts|annotation\.safetensors")


def test_own_preprocessing_in_half_precision(ours):
    content = load_file(ours / "preprocessing.safetensors")
    save_file({**content, "medians": content["medians"].bfloat16()}, ours / "preprocessing.safetensors")
    refused(ours, r"preprocessing\.safetensors|medians")


def config(change):
    def damage(folder):
        content = json.loads((folder / "config.json").read_text())
        changed = change(content)
        (folder / "config.json").write_text(json.dumps(content if changed is None else changed))

    return damage


def put_in(*path, value):
    """Damage that sets an entry of the config; a value that is called takes the old one."""

    def change(content):
        *parents, last = path
        for key in parents:
            content = content[key]
        content[last] = value(content.get(last)) if callable(value) else value

    return config(change)


def without(*path):
    def change(content):
        *parents, last = path
        for key in parents:
            content = content[key]
        del content[last]

    return config(change)


FIELDS = ("registry", "field_registries")
STATE = (*FIELDS, "X", "state_registry")
INIT = ("init", "non_kwargs")

OWN_CONFIGS = {
    "a later version": (put_in("format_version", value=99), "version 99"),
    "no version": (without("format_version"), "version"),
    "version as a text": (put_in("format_version", value="1"), "version"),
    "no registry": (without("registry"), "registry"),
    "no architecture": (without("architecture"), "architecture"),
    "no init": (without("init"), "init"),
    "no attributes": (without("attributes"), "attributes"),
    "registry is a list": (put_in("registry", value=[1]), "registry"),
    "registry is empty": (put_in("registry", value={}), "registry|model None"),
    "registry without setup": (without("registry", "setup_args"), "registry|setup_args"),
    "setup is a list": (put_in("registry", "setup_args", value=[1]), "registry|setup_args"),
    "setup with an unknown argument": (put_in("registry", "setup_args", "evil", value=1), "registry|setup_args"),
    "another setup method": (put_in("registry", "setup_method_name", value="push_to_hub"), "push_to_hub"),
    "another model": (put_in("registry", "model_name", value="SCVI"), "SCVI"),
    "no fields": (without(*FIELDS), "registry"),
    "fields are a list": (put_in(*FIELDS, value=[1]), "registry"),
    "no field of the values": (without(*FIELDS, "X"), "registry"),
    "no state of the values": (without(*STATE), "registry"),
    "state is a list": (put_in(*STATE, value=[1]), "registry"),
    "state without scale": (without(*STATE, "scale"), "registry|scale"),
    "scale is unknown": (put_in(*STATE, "scale", value={"evil": 1}), "registry|scale"),
    "no field of the batches": (without(*FIELDS, "batch"), "registry|batch"),
    "no field of the labels": (without(*FIELDS, "labels"), "registry|labels"),
    "more batches": (
        put_in(*FIELDS, "batch", "state_registry", "categorical_mapping", value=["a", "b", "c"]),
        "registry|batch|weights|[Tt]ensor",
    ),
    "fewer labels": (
        put_in(*FIELDS, "labels", "state_registry", "categorical_mapping", value=["a", "Unknown"]),
        "registry|labels|weights|[Tt]ensor",
    ),
    "rank mode unknown": (put_in(*STATE, "rank_mode", value="evil"), "rank mode"),
    "rank mode is a list": (put_in(*STATE, "rank_mode", value=["raw"]), "rank mode"),
    "architecture with an unknown key": (put_in("architecture", "evil", value=1), "evil"),
    "architecture with another depth": (put_in("architecture", "n_layers", value=2), "layers|[Tt]ensor"),
    "architecture of another width": (put_in("architecture", "d_model", value=64), "[Tt]ensor|shape|embedding"),
    "architecture with a text": (put_in("architecture", "d_model", value="32"), "d_model"),
    "architecture without size": (without("architecture", "n_tokens"), "n_tokens"),
    "architecture of another vocabulary": (put_in("architecture", "n_tokens", value=9), "n_tokens|[Tt]ensor|embedding"),
    "architecture of an absurd depth": (
        put_in("architecture", "n_layers", value=10**9),
        "layers|[Tt]ensor|architecture",
    ),
    "arguments with an unknown one": (put_in(*INIT, "evil", value=1), "evil|init"),
    "arguments are a list": (put_in(*INIT, value=[1]), "init"),
    "attributes replace the module": (put_in("attributes", "module", value="evil"), "attributes|module"),
    "attributes replace a method": (put_in("attributes", "predict", value=1), "attributes|predict"),
    "attributes replace the class": (put_in("attributes", "__class__", value="evil"), "attributes|__class__"),
    "attributes replace the vocabulary": (put_in("attributes", "vocabulary", value=[]), "attributes|vocabulary"),
    "attributes with a state": (put_in("attributes", "init_params_", value={}), "attributes|init_params_"),
    "array of no type": (put_in("attributes", "history_", value={"array": [1], "dtype": "evil"}), "config|evil"),
    "array that is a number": (put_in("attributes", "history_", value={"array": 1, "dtype": "int64"}), "config|array"),
    "array of gigantic texts": (
        put_in("attributes", "history_", value={"array": ["a"], "dtype": "U2000000000"}),
        "config|U2000000000",
    ),
    "float that is none": (put_in("attributes", "history_", value={"float": "evil"}), "config|evil"),
    "float that is a list": (put_in("attributes", "history_", value={"float": [1]}), "config|float"),
    "nested deeply": (
        put_in("attributes", "history_", value=lambda _: json.loads('{"a":' * 480 + "1" + "}" * 480)),
        "config",
    ),
}


@pytest.mark.parametrize(("damage", "words"), OWN_CONFIGS.values(), ids=OWN_CONFIGS.keys())
def test_own_configs_that_are_damaged(ours, damage, words):
    damage(ours)
    refused(ours, words)


@pytest.mark.parametrize(
    ("name", "value"), [("d_model", 96), ("d_model", 10**12), ("n_latent", "8"), ("preset", "evil")], ids=str
)
def test_the_architecture_counts_where_the_arguments_differ(ours, trained, name, value):
    """Sizes are written twice: what is made must be what the weights are of, or nothing."""
    put_in(*INIT, name, value=value)(ours)
    try:
        loaded = GeneMambaModel.from_pretrained(ours)
    except ValueError as error:
        assert name in str(error)
    else:
        assert loaded.module.config == trained.module.config


def test_own_weights_that_are_not_finite(ours):
    tensors = load_file(ours / WEIGHTS)
    tensors["network.encoder.norm_f.weight"][0] = np.nan
    save_file(tensors, ours / WEIGHTS)
    refused(ours, "norm_f")


@pytest.mark.parametrize("how", ["extra", "missing", "longer", "classifier missing", "other precision"])
def test_own_weights_that_do_not_fit(ours, how):
    tensors = load_file(ours / WEIGHTS)
    name = "network.encoder.norm_f.weight"
    if how == "extra":
        name = "network.encoder.evil"
        tensors[name] = torch.ones(3)
    elif how == "missing":
        del tensors[name]
    elif how == "longer":
        tensors[name] = torch.ones(33)
    elif how == "classifier missing":
        name = next(key for key in tensors if "cell_type" in key)
        del tensors[name]
    else:
        tensors[name] = spoilt(1e300, torch.float64)(tensors[name])
    save_file(tensors, ours / WEIGHTS)
    refused(ours, name.replace(".", r"\."))


def test_own_weights_of_another_vocabulary(ours):
    content = json.loads((ours / "tokenizer.json").read_text())
    gene = max(content["model"]["vocab"], key=content["model"]["vocab"].get)
    del content["model"]["vocab"][gene]
    (ours / "tokenizer.json").write_text(json.dumps(content))
    refused(ours, "tokenizer|medians")


def test_published_weights_that_claim_to_be_ours(folder):
    write_config(folder, format="scgenemamba", format_version=1)
    refused(folder, r"config\.json lacks")
