"""Attention as a module: a torch.nn.Module where PyTorch is installed."""

from __future__ import annotations

from ._attention import flash_attn_func, flash_attn_kvpacked_func, flash_attn_qkvpacked_func

try:
    from torch.nn import Module as _Base
except ImportError:

    class _Base:
        def __call__(self, *args, **kwargs):
            return self.forward(*args, **kwargs)


class FlashAttention(_Base):
    """Attention without parameters.

    `forward(q, k, v)`, `forward(q, kv)` or `forward(qkv)`, with the shapes of
    `flash_attn_func`, `flash_attn_kvpacked_func`, `flash_attn_qkvpacked_func`.
    """

    def __init__(
        self,
        softmax_scale=None,
        causal=False,
        window_size=(-1, -1),
        softcap=0.0,
        alibi_slopes=None,
        deterministic=False,
        attention_dropout=0.0,
    ):
        super().__init__()
        self.softmax_scale = softmax_scale
        self.causal = causal
        self.window_size = window_size
        self.softcap = softcap
        self.alibi_slopes = alibi_slopes
        self.deterministic = deterministic
        self.attention_dropout = attention_dropout

    def forward(self, q, k=None, v=None):
        # As torch.nn.Dropout: no dropout in evaluation.
        training = getattr(self, "training", False)
        options = {
            "dropout_p": self.attention_dropout if training else 0.0,
            "softmax_scale": self.softmax_scale,
            "causal": self.causal,
            "window_size": self.window_size,
            "softcap": self.softcap,
            "alibi_slopes": self.alibi_slopes,
            "deterministic": self.deterministic,
        }
        if k is None:
            return flash_attn_qkvpacked_func(q, **options)
        if v is None:
            return flash_attn_kvpacked_func(q, k, **options)
        return flash_attn_func(q, k, v, **options)
