"""Small models of transformers with random weights, as ``save_pretrained`` writes them; no network, no download."""

import functools
import os

import torch

from tests.deployments.support.torchvision_operators import import_torchvision

TEXTS = [
    "a fine film, and a long one", "dull", "the plot is thin but the cast is good", "Schön war's, très bien",
    "what a waste of an evening", "",
]  # fmt: skip


def import_transformers():
    """The package, as members import it; when a test needs it, since that takes seconds."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import_torchvision()
    import transformers

    return transformers


@functools.cache
def trained_tokenizer():
    """A WordPiece tokenizer of a few pieces, trained on the texts above; trained twice it is not the same."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=90, special_tokens=list(special.values()))
    )
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return import_transformers().PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=24, **special)


def bert(folder, head="SequenceClassification", labels=("neg", "pos"), seed=0, **settings):
    """A BERT of two layers and its tokenizer, saved in a folder."""
    transformers = import_transformers()
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=100, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, initializer_range=0.2, id2label=dict(enumerate(labels)),
        label2id={name: at for at, name in enumerate(labels)}, **settings,
    )  # fmt: skip
    model = getattr(transformers, f"BertFor{head}")(config).eval()
    model.save_pretrained(folder)
    trained_tokenizer().save_pretrained(folder)
    return model


def vit(folder, labels=("cat", "dog", "owl"), seed=0):
    """A ViT of two layers and its image processor."""
    transformers = import_transformers()
    torch.manual_seed(seed)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8,
        initializer_range=0.2, id2label=dict(enumerate(labels)), label2id={name: at for at, name in enumerate(labels)},
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessor(size=size, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4]).save_pretrained(
        folder
    )
    return model


def wav2vec2(folder, labels=("yes", "no"), seed=0):
    """A wav2vec 2.0 with two convolutions, two layers, and its feature extractor."""
    transformers = import_transformers()
    torch.manual_seed(seed)
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8, 8),
        conv_kernel=(10, 8), conv_stride=(5, 4), num_feat_extract_layers=2, num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2, classifier_proj_size=8, initializer_range=0.2, vocab_size=10,
        id2label=dict(enumerate(labels)), label2id={name: at for at, name in enumerate(labels)},
    )  # fmt: skip
    model = transformers.Wav2Vec2ForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(folder)
    return model
