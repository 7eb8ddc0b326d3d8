"""The model's words: a tokenizer in CLIP's format in which every word of the captions is one token."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

POSITIONS = 16


def make_tokenizer(captions: Iterable[str], folder: Path) -> CLIPTokenizer:
    """Learns the byte pairs that join the captions' words, and writes the tokenizer's files."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    word = Regex(r"'s|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(word, "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,
        min_frequency=2,
        end_of_word_suffix="</w>",
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    import json

    merges = [
        tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair)
        for pair in json.loads(tokenizer.to_str())["model"]["merges"]
    ]
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in merges)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    clip = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=POSITIONS)
    clip.save_pretrained(folder)
    return clip


def encode(tokenizer: CLIPTokenizer, captions: list[str]) -> list[list[int]]:
    """Token ids, padded and cut to the model's positions."""
    return tokenizer(captions, padding="max_length", truncation=True, max_length=POSITIONS).input_ids
