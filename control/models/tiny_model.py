"""A model of 70 KB that really loads and answers, whatever it is asked: "Hello from a tiny model: this host answers."

A llama of one layer. Its weights are random and small, but for one path: each word of the answer has a direction of its own in the
embedding, and the output layer reads that direction as the next word. Any other token points at the first word, the last word at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

VERSION = "tiny-1"
"""Counted up when the file is to be another one."""

ANSWER = ("▁Hello", "▁from", "▁a", "▁tiny", "▁model:", "▁this", "▁host", "▁answers.")

CONTEXT = 32768
EMBEDDING = 32  # with one head its dimension is 32, a whole block of every quantization of the KV cache
FEED_FORWARD = 64

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)

UNKNOWN, BOS, EOS = 0, 1, 2
NEWLINE = 3 + 0x0A


def write(path: Path, answer: Sequence[str] = ANSWER, chat_template: str = CHAT_TEMPLATE) -> Path:
    """Writes the model to `path`: the same bytes each time. An answer has less tokens than the embedding has dimensions, each once."""
    from gguf import GGUFWriter, TokenType

    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *answer]
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256, *[TokenType.NORMAL] * (1 + len(answer))]
    writer = GGUFWriter(path, "llama")
    writer.add_name("Paddock's tiny model")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_chat_template(chat_template)
    for name, weights in _tensors(len(tokens), len(answer)).items():
        writer.add_tensor(f"{name}.weight", weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors(vocabulary: int, answer: int) -> dict[str, numpy.ndarray]:
    import numpy

    random = numpy.random.RandomState(36)  # its stream is frozen, unlike the newer generators'

    def noise(*shape: int) -> numpy.ndarray:
        return (0.02 * random.standard_normal(shape)).astype(numpy.float16)

    words = range(vocabulary - answer, vocabulary)
    embedding, output = noise(vocabulary, EMBEDDING), noise(vocabulary, EMBEDDING)
    embedding[:, 0] += 1
    output[words[0], 0] += 4
    for direction, word in enumerate(words, start=1):
        embedding[word, 0] -= 1
        embedding[word, direction] += 1
        output[word + 1 if word + 1 < vocabulary else EOS, direction] += 4
    output[NEWLINE, answer] += 2.5  # where the end is not allowed, it begins again on a new line
    ones = numpy.ones(EMBEDDING, numpy.float32)
    square, wide, tall = (EMBEDDING, EMBEDDING), (FEED_FORWARD, EMBEDDING), (EMBEDDING, FEED_FORWARD)
    layer = {
        "attn_q": square,
        "attn_k": square,
        "attn_v": square,
        "attn_output": square,
        "ffn_gate": wide,
        "ffn_up": wide,
        "ffn_down": tall,
    }
    return {
        "token_embd": embedding,
        "output_norm": ones,
        "output": output,
        "blk.0.attn_norm": ones,
        "blk.0.ffn_norm": ones,
        **{f"blk.0.{name}": noise(*shape) for name, shape in layer.items()},
    }
