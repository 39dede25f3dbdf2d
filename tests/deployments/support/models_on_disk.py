"""A model of each kind that people have, on disk as its own library saves it, with what that library says of some rows.

Each function takes a folder, writes a model into it and tells the spec that serves it: no Python but the model's own.
"""

import base64
import io
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from scipy.io import wavfile
from scipy.special import softmax
from sklearn.datasets import load_iris
from torch import nn

from tests.deployments.support.encoded_pictures import encoded, pixels
from tests.deployments.support.huggingface_folders import (
    TEXTS,
    bert,
    import_transformers,
    trained_tokenizer,
    vit,
    wav2vec2,
)
from tests.deployments.support.patients import patients
from tests.deployments.support.torchvision_operators import import_torchvision

IRIS, SPECIES = ["setosa", "versicolor", "virginica"], load_iris().target
ROWS = load_iris().data.astype(np.float32)
CODE = """
import numpy as np
from torch import nn

def net():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))

def shares(x):
    return (x[:, :3] + 1) / (x[:, :3] + 1).sum(axis=1, keepdims=True)

async def later(x):
    return shares(x)
"""
FLOWERS = """
inputs: {x: {datatype: FP32, shape: [4]}}
classes: [setosa, versicolor, virginica]
members:
  m: {MEMBER, inputs: [x]}
fusion: {rule: mean, deadline_s: 60}
"""
WRITTEN = """
inputs: {text: BYTES}
members:
  m: {MEMBER, inputs: [text]}
fusion: {rule: mean, deadline_s: 60}
"""
PHOTOS = """
inputs: {photo: BYTES}
classes: [cat, dog, owl]
members:
  m: {MEMBER, inputs: [photo]}
fusion: {rule: mean, deadline_s: 60}
"""
PEOPLE = """
inputs: {mean_radius: FP64, area_error: FP64, size: BYTES, points: INT64}
classes: [benign, malignant]
members:
  m: {MEMBER, inputs: [all], output: probabilities}
fusion: {rule: mean, deadline_s: 60}
"""


@dataclass(frozen=True)
class OnDisk:
    """Attributes:
    spec: as a user writes it, but for its name.
    tensors: rows, by input: its datatype and what stands in the request's JSON.
    expected: what the library says of them.
    """

    spec: str
    tensors: dict[str, tuple[str, np.ndarray]]
    expected: np.ndarray

    def body(self) -> dict:
        """The request, as JSON has it."""
        return {
            "inputs": [
                {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.tolist()}
                for name, (datatype, array) in self.tensors.items()
            ]
        }


def flowers(member: str, expected, rows=ROWS[::10]) -> OnDisk:
    return OnDisk(FLOWERS.replace("MEMBER", member), {"x": ("FP32", rows)}, np.asarray(expected))


def said_by(module) -> np.ndarray:
    """(15, 3) shares of a network of flowers."""
    with torch.inference_mode():
        return module.eval()(torch.from_numpy(ROWS[::10])).softmax(dim=1).numpy()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).eval()


def layer():
    torch.manual_seed(0)
    return nn.Linear(4, 3).eval()


def torch_factory(folder):
    from safetensors.torch import save_file

    (folder / "nets_on_disk.py").write_text(CODE)
    save_file(network().state_dict(), folder / "net.safetensors")
    return flowers('model: "nets_on_disk:net", weights: net.safetensors', said_by(network()))


def torch_export(folder):
    rows = torch.from_numpy(ROWS[:2])
    program = torch.export.export(network(), (rows,), dynamic_shapes=({0: torch.export.Dim("rows")},))
    torch.export.save(program, folder / "net.pt2")
    return flowers("model: net.pt2", said_by(network()))


def torchscript(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(network()), folder / "net.pt")
    return flowers("model: net.pt", said_by(network()))


LAYER = 'model: "torch.nn:Linear", config: {in_features: 4, out_features: 3}, weights: '


def state_dict(folder):
    torch.save(layer().state_dict(), folder / "net.pth")
    return flowers(LAYER + "net.pth", said_by(layer()))


def checkpoint_of_lightning(folder):
    state = {f"model.{name}": tensor for name, tensor in layer().state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "optimizer_states": [{"lr": 0.1}]}, folder / "net.ckpt")
    return flowers(LAYER + "net.ckpt", said_by(layer()))


def pickled_module(folder):
    import quorate

    torch.save(layer(), folder / "whole.pt")
    quorate.convert(folder / "whole.pt", to="safetensors")
    return flowers(LAYER + "whole.safetensors", said_by(layer()))


def hf_text(folder):
    model = bert(folder / "mood")
    with torch.inference_mode():
        logits = model(**trained_tokenizer()(TEXTS, padding=True, return_tensors="pt")).logits.numpy()
    spec = WRITTEN.replace("MEMBER", 'model: "hf:mood"')
    return OnDisk(spec, {"text": ("BYTES", np.array(TEXTS))}, softmax(logits, 1))


def hf_adapter(folder):
    import peft

    base = bert(folder / "mood")
    torch.manual_seed(1)
    settings = peft.LoraConfig(task_type="SEQ_CLS", r=2, init_lora_weights=False, target_modules=["query", "value"])
    with warnings.catch_warnings():  # PEFT 0.21 asks transformers 5.24 by an old name
        warnings.simplefilter("ignore", FutureWarning)
        tuned = peft.get_peft_model(base, settings).eval()
        tuned.save_pretrained(folder / "lora")
    with torch.inference_mode():
        logits = tuned(**trained_tokenizer()(TEXTS, padding=True, return_tensors="pt")).logits.numpy()
    member = 'model: "hf:mood", config: {adapter: lora}'
    return OnDisk(WRITTEN.replace("MEMBER", member), {"text": ("BYTES", np.array(TEXTS))}, softmax(logits, 1))


def in_json(pictures) -> np.ndarray:
    return np.array([base64.b64encode(content).decode() for content in encoded(pictures)])


def hf_image(folder):
    from PIL import Image

    model = vit(folder / "eye")
    ready = import_transformers().AutoImageProcessor.from_pretrained(folder / "eye", backend="pil")
    with torch.inference_mode():
        images = [Image.fromarray(image) for image in pixels(3)]
        logits = model(**ready(images, return_tensors="pt")).logits.numpy()
    spec = PHOTOS.replace("MEMBER", 'model: "hf:eye", config: {image_backend: pil}').replace(
        "classes: [cat, dog, owl]\n", ""
    )
    return OnDisk(spec, {"photo": ("BYTES", in_json(pixels(3)))}, softmax(logits, 1))


def hf_audio(folder):
    model = wav2vec2(folder / "ear")
    ready = import_transformers().AutoFeatureExtractor.from_pretrained(folder / "ear")
    sound = np.random.default_rng(0).normal(size=(2, 900)).astype(np.float32)
    with torch.inference_mode():
        logits = model(**ready(list(sound), sampling_rate=8000, return_tensors="pt")).logits.numpy()
    spec = WRITTEN.replace("text: BYTES", "sound: {datatype: FP32, shape: [-1]}").replace("[text]", "[sound]")
    return OnDisk(spec.replace("MEMBER", 'model: "hf:ear"'), {"sound": ("FP32", sound)}, softmax(logits, 1))


def hf_sound_files(folder):
    """Files of other lengths, each as base64."""
    model = wav2vec2(folder / "ear")
    ready = import_transformers().AutoFeatureExtractor.from_pretrained(folder / "ear")
    files, logits = [], []
    for samples in (900, 2500, 1300):
        buffer = io.BytesIO()
        sound = np.random.default_rng(samples).normal(scale=0.2, size=samples).astype(np.float32)
        wavfile.write(buffer, 8000, sound)
        files.append(base64.b64encode(buffer.getvalue()).decode())
        with torch.inference_mode():
            logits.append(model(**ready(sound, sampling_rate=8000, return_tensors="pt")).logits.numpy())
    spec = WRITTEN.replace("text", "sound").replace("MEMBER", 'model: "hf:ear"')
    return OnDisk(spec, {"sound": ("BYTES", np.array(files))}, softmax(np.concatenate(logits), 1))


def hf_tokens(folder):
    model = bert(folder / "tagger", "TokenClassification", ("O", "B-PER", "I-PER"))
    words = ["the", "cast", "is", "good"]
    tokens = trained_tokenizer()([words], is_split_into_words=True, return_tensors="pt")
    first = [tokens.word_to_tokens(0, at).start for at in range(len(words))]
    with torch.inference_mode():
        logits = model(**tokens).logits[:, first].numpy()
    spec = WRITTEN.replace("text: BYTES", "words: {datatype: BYTES, shape: [-1]}").replace("[text]", "[words]")
    spec = f"\ntask: tagging{spec}".replace("MEMBER", 'model: "hf:tagger"')
    return OnDisk(spec, {"words": ("BYTES", np.array([words]))}, softmax(logits, 2))


def timm(folder):
    import_torchvision()
    import timm as library
    from PIL import Image
    from safetensors.torch import save_file

    torch.manual_seed(0)
    net = library.create_model("test_vit", num_classes=3).eval()
    save_file(net.state_dict(), folder / "eye.safetensors")
    transform = library.data.create_transform(**library.data.resolve_data_config({}, net.pretrained_cfg))
    return pictures("timm:test_vit", net, [transform(Image.fromarray(image)) for image in pixels(3)])


def torchvision(folder):
    models = import_torchvision().models
    from PIL import Image
    from safetensors.torch import save_file

    torch.manual_seed(0)
    net = models.get_model("shufflenet_v2_x0_5", weights=None, num_classes=3).eval()
    save_file(net.state_dict(), folder / "eye.safetensors")
    transform = models.get_model_weights("shufflenet_v2_x0_5").DEFAULT.transforms()
    ready = [transform(Image.fromarray(image)) for image in pixels(3)]
    return pictures("torchvision:shufflenet_v2_x0_5", net, ready)


def pictures(model, net, ready) -> OnDisk:
    with torch.inference_mode():
        said = net(torch.stack(ready)).softmax(dim=1).numpy()
    member = f'model: "{model}", weights: eye.safetensors, config: {{num_classes: 3}}'
    return OnDisk(PHOTOS.replace("MEMBER", member), {"photo": ("BYTES", in_json(pixels(3)))}, said)


def onnx_of_scikit_learn(folder):
    """Two outputs, label and probabilities, the latter as maps."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=500).fit(ROWS, np.array(IRIS)[SPECIES])
    (folder / "model.onnx").write_bytes(to_onnx(model, ROWS[:1]).SerializeToString())
    return flowers("model: model.onnx, output: probabilities", model.predict_proba(ROWS[::10]))


def people(member: str, model, frame) -> OnDisk:
    """Some rows of patients, with text and gaps, which JSON has as null."""
    frame = frame[:40]
    plain = frame.astype(object).where(frame.notna(), None)
    kinds = {"mean radius": "FP64", "area error": "FP64", "size": "BYTES", "points": "INT64"}
    tensors = {name.replace(" ", "_"): (kind, plain[name].to_numpy()) for name, kind in kinds.items()}
    return OnDisk(PEOPLE.replace("MEMBER", member), tensors, model.predict_proba(frame))


def pipeline():
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame, labels = patients()
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    columns = make_column_transformer((numbers, ["mean radius", "area error", "points"]), (words, ["size"]))
    return make_pipeline(columns, LogisticRegression()).fit(frame, labels)


def skops(folder):
    import skops.io

    model = pipeline()
    skops.io.dump(model, folder / "model.skops")
    return people("model: model.skops", model, patients()[0])


def joblib(folder):
    import joblib

    import quorate

    model = pipeline()
    joblib.dump(model, folder / "model.joblib")
    quorate.convert(folder / "model.joblib", to="skops")
    return people("model: model.skops", model, patients()[0])


def booster(library, file):
    """A function that trains one, with the numbers of benign and malignant as labels."""

    def save(folder):
        from tests.deployments.support.boosters import estimator
        from tests.deployments.support.boosters import save as save_model

        frame, labels = patients()
        if library == "catboost":
            frame = frame.assign(size=frame["size"].fillna(""))
            model = estimator(library, "Classifier").fit(frame, labels, cat_features=["size"])
        else:
            frame = frame.assign(size=frame["size"].astype("category"))
            model = estimator(library, "Classifier").fit(frame, (labels == "malignant").astype(int))
        save_model(model, folder / file)
        return people(f"model: {file}", model, frame)

    return save


def mlflow(folder):
    """LightGBM's flavour, as ``mlflow.lightgbm.save_model`` writes it."""
    from tests.deployments.support.boosters import estimator

    frame, labels = patients()
    frame = frame[["mean radius", "points"]]
    model = estimator("lightgbm", "Classifier").fit(frame, (labels == "malignant").astype(int))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.lightgbm

        mlflow.lightgbm.save_model(model.booster_, folder / "saved", pip_requirements=["lightgbm"])
    spec = PEOPLE.replace("area_error: FP64, size: BYTES, ", "").replace("MEMBER", 'model: "mlflow:saved"')
    few = frame[:40]
    tensors = {"mean_radius": ("FP64", few["mean radius"].to_numpy()), "points": ("INT64", few["points"].to_numpy())}
    return OnDisk(spec, tensors, model.predict_proba(few))


def function(folder):
    (folder / "nets_on_disk.py").write_text(CODE)
    return flowers('model: "nets_on_disk:shares", output: probabilities', shares(ROWS[::10]))


def coroutine(folder):
    (folder / "nets_on_disk.py").write_text(CODE)
    return flowers('model: "nets_on_disk:later", output: probabilities', shares(ROWS[::10]))


def shares(rows):
    return (rows[:, :3] + 1) / (rows[:, :3] + 1).sum(axis=1, keepdims=True)


KINDS = {
    "torch-factory": torch_factory, "torch-export": torch_export, "torchscript": torchscript,
    "state-dict": state_dict, "lightning": checkpoint_of_lightning, "pickled-module": pickled_module,
    "hf-text": hf_text, "hf-adapter": hf_adapter, "hf-image": hf_image, "hf-audio": hf_audio,
    "hf-wav": hf_sound_files, "hf-tokens": hf_tokens,
    "timm": timm, "torchvision": torchvision, "onnx": onnx_of_scikit_learn,
    "skops": skops, "joblib": joblib, "xgboost-ubj": booster("xgboost", "m.ubj"),
    "xgboost-json": booster("xgboost", "m.json"), "lightgbm": booster("lightgbm", "m.txt"),
    "catboost": booster("catboost", "m.cbm"), "mlflow": mlflow, "function": function, "coroutine": coroutine,
}  # fmt: skip
