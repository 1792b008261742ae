"""Tiny Hugging Face models of many architectures, all their weights drawn at random, saved as folders."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

D_VOCAB = 96
BOS = 3
_OLD = dict(n_embd=24, n_layer=3, n_head=3, n_positions=128)
_WIDE = dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=3, max_position_embeddings=128)
_GROUPED = dict(
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=48,
    max_position_embeddings=128,
)

CONFIGS = {
    "gpt2": (transformers.GPT2Config, _OLD),
    "gpt_neo": (
        transformers.GPTNeoConfig,
        dict(
            hidden_size=24,
            num_layers=3,
            num_heads=3,
            attention_types=[[["global", "local", "global"], 1]],
            window_size=128,
            max_position_embeddings=128,
        ),
    ),
    "gpt_neox": (transformers.GPTNeoXConfig, dict(_WIDE, intermediate_size=48, rotary_pct=0.5)),
    "gptj": (transformers.GPTJConfig, dict(_OLD, rotary_dim=4)),
    "llama": (transformers.LlamaConfig, _GROUPED),
    "mistral": (transformers.MistralConfig, dict(_GROUPED, sliding_window=None)),
    "qwen2": (transformers.Qwen2Config, _GROUPED),
    "qwen3": (transformers.Qwen3Config, dict(_GROUPED, head_dim=12)),
    "gemma2": (
        transformers.Gemma2Config,
        dict(_GROUPED, head_dim=12, query_pre_attn_scalar=9, sliding_window=128),
    ),
    "opt": (transformers.OPTConfig, dict(_WIDE, ffn_dim=48, word_embed_proj_dim=24)),
    "bloom": (transformers.BloomConfig, dict(hidden_size=24, n_layer=3, n_head=3)),
    "phi": (transformers.PhiConfig, dict(_WIDE, intermediate_size=48)),
    "sequential gpt_neox": (transformers.GPTNeoXConfig, dict(_WIDE, intermediate_size=48, use_parallel_residual=False)),
    "gpt_bigcode": (transformers.GPTBigCodeConfig, dict(_OLD, multi_query=True)),
    "gemma3": (transformers.Gemma3TextConfig, dict(_GROUPED, head_dim=12, sliding_window=128)),
    "mpt": (transformers.MptConfig, dict(d_model=32, n_heads=4, n_layers=3, max_seq_len=128)),
    "phi3": (transformers.Phi3Config, _GROUPED),
    "stablelm": (transformers.StableLmConfig, _GROUPED),
    "query-normed stablelm": (transformers.StableLmConfig, dict(_GROUPED, qk_layernorm=True)),
    "olmo": (transformers.OlmoConfig, _GROUPED),
    "olmo2": (transformers.Olmo2Config, _GROUPED),
    "nemotron": (transformers.NemotronConfig, _GROUPED),
    "glm4": (transformers.Glm4Config, dict(_GROUPED, head_dim=8)),
    "falcon": (transformers.FalconConfig, dict(_WIDE, multi_query=True, parallel_attn=True, bias=False, alibi=False)),
}

_LATENT = dict(
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=3,
    num_key_value_heads=3,
    intermediate_size=48,
    max_position_embeddings=128,
    kv_lora_rank=10,
    qk_nope_head_dim=6,
    qk_rope_head_dim=4,
    v_head_dim=5,
    first_k_dense_replace=3,
)

# Architectures whose attention TransformerLens does not show in the usual form, or not without corrections.
UNUSUAL = {
    "codegen": (transformers.CodeGenConfig, dict(n_embd=32, n_layer=3, n_head=4, n_positions=128, rotary_dim=4)),
    "falcon new decoder": (
        transformers.FalconConfig,
        dict(_WIDE, num_attention_heads=6, num_kv_heads=2, new_decoder_architecture=True, bias=True, alibi=False),
    ),
    "falcon new decoder, one norm": (
        transformers.FalconConfig,
        dict(
            _WIDE,
            num_attention_heads=6,
            num_kv_heads=2,
            new_decoder_architecture=True,
            num_ln_in_parallel_attn=1,
            alibi=True,
        ),
    ),
    "deepseek_v2": (transformers.DeepseekV2Config, dict(_LATENT, q_lora_rank=None)),
    "deepseek_v3": (transformers.DeepseekV3Config, dict(_LATENT, q_lora_rank=12)),
    "granite": (
        transformers.GraniteConfig,
        dict(_GROUPED, residual_multiplier=0.4, embedding_multiplier=3.0, attention_multiplier=0.2),
    ),
    "nanochat": (transformers.NanoChatConfig, _GROUPED),
}

WITHOUT_BOS = {"bloom", "gpt2", "llama"}


def bos_of(name: str) -> int | None:
    return None if name in WITHOUT_BOS else BOS


def random_hugging_face_model(name: str, seed: int = 0) -> transformers.PreTrainedModel:
    """A model whose weights, biases and norm scales are all drawn at random, so that nothing is an identity."""
    kind, shape = (CONFIGS | UNUSUAL)[name]
    config = kind(vocab_size=D_VOCAB, bos_token_id=bos_of(name), eos_token_id=None, pad_token_id=None, **shape)
    with torch.random.fork_rng():
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return randomised(model.eval(), seed)


@torch.no_grad()
def randomised(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        drawn = 0.3 * torch.randn(parameter.shape, generator=generator)
        parameter.copy_(drawn if parameter.ndim >= 2 else parameter + drawn)
    return model


def save(model: transformers.PreTrainedModel, folder: Path) -> Path:
    """The model with a tokenizer of one word a token ("t0 t1 ..."), which has a BOS token if the model has one."""
    model.save_pretrained(folder)
    vocabulary = {f"t{i}": i for i in range(D_VOCAB)}
    special = {}
    bos = getattr(model.config, "bos_token_id", None)
    if bos is not None:
        vocabulary["<bos>"] = vocabulary.pop(f"t{bos}")
        special["bos_token"] = "<bos>"
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="t1"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    return folder
