"""A model of transformers with its tokenizer, made on the spot: small, and of no use but for tests."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForSequenceClassification as Auto
from transformers import BertConfig, PreTrainedTokenizerFast

NAMES = ("query", "value")  # of modules that can have adapters


def save(folder, **changes):
    """Write it into a folder."""
    tokenizer, special = Tokenizer(models.BPE()), ["[PAD]", "[CLS]", "[SEP]"]
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog"] * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = dict(zip(("pad_token", "cls_token", "sep_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names).save_pretrained(folder)
    sizes = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = BertConfig(**{**sizes, "intermediate_size": 64, "max_position_embeddings": 64, **changes})
    torch.manual_seed(0)
    Auto.from_config(config).save_pretrained(folder)


def ask(net, plain):
    """Logits of the network of the project, and those of plain transformers, of the same inputs."""
    tokens = torch.randint(3, 259, (2, 9))
    tokens[1, 6:] = -1
    return net(tokens), plain(input_ids=tokens.clamp(min=0), attention_mask=(tokens >= 0).long()).logits
