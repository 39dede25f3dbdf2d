"""What a folder must hold to be a member, and what is said when it does not."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from quorate.deployments import load_model, load_spec, parse_spec
from quorate.deployments.errors import MemberLoadError, SpecError
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.wire.datatypes import bytes_array
from tests.deployments.support.huggingface_folders import TEXTS, bert, import_transformers, trained_tokenizer

ROWS = {"text": bytes_array([text.encode() for text in TEXTS])}

# PEFT 0.21 asks transformers 5.24 by an old name.
OF_PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with every model that these tests change copies of."""
    folder = tmp_path_factory.mktemp("saved")
    bert(folder / "named")
    bert(folder / "unnamed", labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    bert(folder / "reversed", labels=("pos", "neg"))
    bert(folder / "others", labels=("good", "bad"))
    bert(folder / "many", labels=("red", "green"), problem_type="multi_label_classification")
    bert(folder / "filler", head="MaskedLM")
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    return tmp_path


def spec(folder, members, **top):
    data = {
        "name": "mood", "inputs": {"text": {"datatype": "BYTES", "shape": []}},
        "members": {name: {"inputs": ["text"], **member} for name, member in members.items()},
        "fusion": {"rule": "mean"}, **top,
    }  # fmt: skip
    (folder / "spec.yaml").write_text(yaml.safe_dump(data))
    return load_spec(folder / "spec.yaml")


def predictor(folder, found, member="m"):
    job = found.job(member)
    return Predictor(load_model(job.name, job.member, folder), job)


def answers(folder, found, member="m", probabilities=True):
    return predictor(folder, found, member).run(ROWS, probabilities)[0]


def test_models_that_order_their_classes_differently_are_aligned_by_name(folder):
    found = spec(folder, {"a": {"model": "hf:named"}, "b": {"model": "hf:reversed"}})
    assert found.classes == ("neg", "pos")
    assert found.members["b"].classes == ("pos", "neg")
    np.testing.assert_allclose(answers(folder, found, "b"), answers(folder, found, "a")[:, ::-1], atol=1e-6)


def test_a_spec_that_orders_the_classes_of_a_model_differently_gets_them_by_name(folder):
    found = spec(folder, {"a": {"model": "hf:named"}, "b": {"model": "hf:named", "classes": ["pos", "neg"]}})
    np.testing.assert_array_equal(answers(folder, found, "b"), answers(folder, found, "a"))
    other = spec(folder, {"m": {"model": "hf:named", "classes": ["bad", "good"]}}, classes=["good", "bad"])
    np.testing.assert_array_equal(answers(folder, other), answers(folder, found, "a")[:, ::-1])


@pytest.mark.parametrize(
    ("members", "top", "said"),
    [
        (["named", "others"], {}, "classes: the models name different ones: m0 has neg, pos; m1 has good, bad; name"),
        (["others"], {"classes": ["bad", "fine"]}, r"members.m0.classes: .* calls its outputs good, bad, and good is"),
    ],
)
def test_classes_that_do_not_fit_each_other_are_refused(folder, members, top, said):
    with pytest.raises(SpecError, match=said):
        spec(folder, {f"m{at}": {"model": f"hf:{name}"} for at, name in enumerate(members)}, **top)


def test_classes_that_nobody_has_named_are_the_ensembles_by_place(folder):
    assert spec(folder, {"m": {"model": "hf:unnamed"}}).classes is None
    found = spec(folder, {"m": {"model": "hf:unnamed"}}, classes=["x", "y", "z"])
    assert answers(folder, found).shape == (len(TEXTS), 3)


def test_a_multilabel_model_gives_a_probability_for_each_label(folder):
    found = spec(folder, {"m": {"model": "hf:many", "output": "probabilities"}}, task="multilabel")
    model = import_transformers().AutoModelForSequenceClassification.from_pretrained(folder / "many")
    with torch.inference_mode():
        said = model(**trained_tokenizer()(TEXTS, padding=True, return_tensors="pt")).logits.sigmoid().numpy()
    np.testing.assert_allclose(answers(folder, found), said, atol=1e-6)


def test_features_are_what_the_model_pools_or_the_mean_of_its_last_layer(folder):
    tokens = trained_tokenizer()(TEXTS, padding=True, return_tensors="pt")
    auto = import_transformers().AutoModel
    with torch.inference_mode():
        pooled = auto.from_pretrained(folder / "named")(**tokens).pooler_output.numpy()
        hidden = auto.from_pretrained(folder / "filler", add_pooling_layer=False)(**tokens).last_hidden_state
        mask = tokens["attention_mask"].bool()
        means = np.stack([row[seen].mean(dim=0).numpy() for row, seen in zip(hidden, mask, strict=True)])
    for name, expected in (("named", pooled), ("filler", means)):
        head = {"model": "torch.nn:Linear", "config": {"in_features": 16, "out_features": 2}, "inputs": ["m"]}
        found = spec(folder, {"m": {"model": f"hf:{name}", "output": "features"}, "head": head})
        np.testing.assert_allclose(answers(folder, found), expected, atol=1e-6)


def test_two_inputs_are_a_pair_of_texts(folder):
    inputs = {name: {"datatype": "BYTES", "shape": []} for name in ("premise", "claim")}
    found = spec(folder, {"m": {"model": "hf:named", "inputs": ["premise", "claim"]}}, inputs=inputs)
    rows = {"premise": ROWS["text"], "claim": ROWS["text"][::-1]}
    model = import_transformers().AutoModelForSequenceClassification.from_pretrained(folder / "named")
    cut = {"padding": True, "truncation": True, "max_length": 24, "return_tensors": "pt"}
    with torch.inference_mode():
        expected = model(**trained_tokenizer()(TEXTS, TEXTS[::-1], **cut)).logits.numpy()
    np.testing.assert_allclose(predictor(folder, found).run(rows, probabilities=False)[0], expected, atol=1e-6)


def test_a_tokenizer_that_cannot_pad_runs_rows_alone(folder):
    file = folder / "named" / "tokenizer_config.json"
    file.write_text(json.dumps({key: v for key, v in json.loads(file.read_text()).items() if key != "pad_token"}))
    found = spec(folder, {"m": {"model": "hf:named"}})
    same = spec(folder, {"m": {"model": "hf:named", "config": {"max_length": 24}}})
    np.testing.assert_allclose(answers(folder, found), answers(folder, same), atol=1e-6)


def test_half_precision_is_asked_for_in_the_spec(folder):
    found = spec(folder, {"m": {"model": "hf:named", "config": {"dtype": "bfloat16"}}})
    np.testing.assert_allclose(
        answers(folder, found), answers(folder, spec(folder, {"m": {"model": "hf:named"}})), atol=0.1
    )


def test_a_name_of_a_hub_is_not_fetched_and_the_command_that_does_is_said(folder):
    with pytest.raises(SpecError, match=r"no folder .*org/nameb; .*hf download org/nameb --local-dir nameb, and give"):
        spec(folder, {"m": {"model": "hf:org/nameb"}})
    with pytest.raises(SpecError, match=r"m.model: there is no folder .*nambed; did you mean 'named'\?"):
        spec(folder, {"m": {"model": "hf:nambed"}})
    (folder / "hf.py").write_text("")
    with pytest.raises(SpecError, match=r"no folder .*make; hf: names a folder of transformers, so give a module of"):
        spec(folder, {"m": {"model": "hf:make"}})


@pytest.mark.parametrize(
    ("file", "config", "said"),
    [
        ("config.json", {}, "m.model: there is no config.json in .*named; give a folder that save_pretrained wrote"),
        ("model.safetensors", {}, "m.model: there are no weights in .*named; put model.safetensors there"),
        (None, {"max_lenght": 9}, "m.config.max_lenght: unknown key; did you mean 'max_length'?"),
        (None, {"dtype": "half"}, "m.config.dtype: found 'half'; input should be 'float32', 'float16' or 'bfloat16'"),
        (None, {"adapter": "none"}, "m.config.adapter: there is no folder .*none"),
        (None, {"adapter": "filler"}, "m.config.adapter: there is no adapter_config.json in .*filler"),
    ],
)
def test_what_a_folder_lacks_is_said_before_anything_starts(folder, file, config, said):
    if file:
        (folder / "named" / file).unlink()
    with pytest.raises(SpecError, match=said):
        spec(folder, {"m": {"model": "hf:named", "config": config}})


def test_weights_that_only_a_pickle_holds_are_refused_with_the_command_that_converts_them(folder):
    weights = folder / "named" / "model.safetensors"
    before = answers(folder, spec(folder, {"m": {"model": "hf:named"}}))
    pickled = folder / "named" / "pytorch_model.bin"
    torch.save(load_file(weights), pickled)
    weights.unlink()
    with pytest.raises(
        SpecError, match=rf"as a pickle, .*quorate convert {pickled} --to safetensors --output {weights}"
    ):
        spec(folder, {"m": {"model": "hf:named"}})
    save_file(torch.load(pickled, weights_only=True), weights)  # as quorate convert does it
    np.testing.assert_array_equal(answers(folder, spec(folder, {"m": {"model": "hf:named"}})), before)


def test_a_model_that_classifies_nothing_is_refused(folder):
    found = spec(folder, {"m": {"model": "hf:filler"}}, classes=["a", "b"])
    with pytest.raises(MemberLoadError, match=r"holds a BertForMaskedLM, which classifies nothing; give a model for"):
        predictor(folder, found)


def test_a_head_without_weights_is_refused_and_not_filled_up_at_random(folder):
    file = folder / "named" / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if not name.startswith("classifier")}
    save_file(kept, file, {"format": "pt"})
    found = spec(folder, {"m": {"model": "hf:named"}})
    with pytest.raises(MemberLoadError, match=r"named has no weights for classifier.bias, classifier.weight; save the"):
        predictor(folder, found)


def test_code_that_a_folder_brings_is_never_run_nor_is_anybody_asked(folder, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *words: pytest.fail(f"it asked {words}"))
    file = folder / "named" / "config.json"
    config = {**json.loads(file.read_text()), "model_type": "mine", "architectures": ["Mine"]}
    config["auto_map"] = {"AutoConfig": "mine.Config", "AutoModelForSequenceClassification": "mine.Mine"}
    file.write_text(json.dumps(config))
    (folder / "named" / "mine.py").write_text("raise SystemExit('it was run')")
    found = spec(folder, {"m": {"model": "hf:named"}})
    with pytest.raises(MemberLoadError, match="named cannot be loaded"):
        predictor(folder, found)


def test_a_regression_gives_its_value(folder):
    model = bert(folder / "price", labels=("price",))
    inputs = {"text": {"datatype": "BYTES", "shape": []}}
    found = spec(folder, {"m": {"model": "hf:price", "output": "values"}}, inputs=inputs, task="regression")
    assert found.classes is None
    with torch.inference_mode():
        said = model(**trained_tokenizer()(TEXTS, padding=True, return_tensors="pt")).logits.numpy()
    np.testing.assert_allclose(answers(folder, found), said, atol=1e-6)


@OF_PEFT
def test_an_adapter_answers_as_peft_does_and_another_is_another_member(folder):
    import peft

    base = import_transformers().AutoModelForSequenceClassification.from_pretrained(folder / "named")
    said = {}
    for seed in (1, 2):
        torch.manual_seed(seed)
        settings = peft.LoraConfig(task_type="SEQ_CLS", r=2, init_lora_weights=False, target_modules=["query", "value"])
        tuned = peft.get_peft_model(base, settings).eval()
        tuned.save_pretrained(folder / f"adapter{seed}")
        with torch.inference_mode():
            tokens = trained_tokenizer()(TEXTS, padding=True, return_tensors="pt")
            said[f"adapter{seed}"] = tuned(**tokens).logits.numpy()
        base = tuned.unload()
    members = {f"m{seed}": {"model": "hf:named", "config": {"adapter": f"adapter{seed}"}} for seed in (1, 2)}
    found = spec(folder, members)
    for seed in (1, 2):
        np.testing.assert_allclose(
            answers(folder, found, f"m{seed}", probabilities=False), said[f"adapter{seed}"], atol=1e-6
        )
    assert np.abs(said["adapter1"] - said["adapter2"]).max() > 1e-3


@OF_PEFT
def test_an_adapter_brings_the_head_of_a_base_that_has_none(folder):
    import peft

    transformers = import_transformers()
    shutil.copytree(folder / "named", folder / "bare")
    transformers.AutoModel.from_pretrained(folder / "named").save_pretrained(folder / "bare")
    base = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "bare", num_labels=3)
    settings = peft.LoraConfig(task_type="SEQ_CLS", r=2, init_lora_weights=False, target_modules=["query"])
    tuned = peft.get_peft_model(base, settings).eval()
    tuned.save_pretrained(folder / "adapter")
    with torch.inference_mode():
        said = tuned(**trained_tokenizer()(TEXTS, padding=True, return_tensors="pt")).logits.numpy()
    classes = ["x", "y", "z"]
    member = {"model": "hf:bare", "config": {"adapter": "adapter"}, "classes": classes}
    nameless = spec(folder, {"m": {**member, "classes": None}}, classes=classes)
    with pytest.raises(MemberLoadError, match="bare does not say for how many classes; name the member's classes"):
        predictor(folder, nameless)
    found = spec(folder, {"m": member}, classes=classes)
    np.testing.assert_allclose(answers(folder, found, probabilities=False), said, atol=1e-6)


def test_a_spec_without_its_folder_at_hand_says_at_loading_what_is_wrong(folder):
    data = {"model": "hf:nowhere", "inputs": ["text"]}
    found = parse_spec(
        {
            "name": "mood", "inputs": {"text": {"datatype": "BYTES", "shape": []}},
            "members": {"m": data}, "fusion": {"rule": "mean"},
        }
    )  # fmt: skip
    with pytest.raises(MemberLoadError, match=r"there is no config.json in .*nowhere"):
        predictor(folder, found)
