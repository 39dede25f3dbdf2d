"""Members that make ready themselves what they read: answers over HTTP and offline predictions are the same."""

import contextlib

import httpx
import numpy as np
import torch
from scipy.special import softmax

from quorate.deployments import load_spec
from quorate.deployments.wire.datatypes import bytes_array
from quorate.tuning.predictions.run_member import run_in_process
from tests.deployments.support.huggingface_folders import TEXTS, bert, trained_tokenizer

TFIDF = '''
"""Words counted by scikit-learn, beside a BERT that reads the same texts in its own way."""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

TEXTS = ["good film", "fine cast", "dull plot", "waste of an evening"]


class Model:
    def __init__(self):
        self.words = TfidfVectorizer()
        self.model = LogisticRegression().fit(self.words.fit_transform(TEXTS), ["pos", "pos", "neg", "neg"])

    def preprocess(self, text):
        return self.words.transform([content.decode() for content in text])

    def predict(self, counts):
        return self.model.predict_proba(counts).astype(np.float32)
'''
SPEC = """
name: mood
inputs: {text: {datatype: BYTES, shape: []}}
members:
  bert: {model: "hf:tinybert", inputs: [text], resources: {num_cpus: 0.1}}
  words: {model: "words_of_mood:Model", inputs: [text], output: probabilities, resources: {num_cpus: 0.1}}
fusion: {rule: mean, deadline_s: 5, required: [bert, words]}
serving: {resources: {num_cpus: 0.1}}
"""


@contextlib.contextmanager
def deployed(spec, folder):
    from quorate.deployments.control.deploy import delete, deploy

    found = deploy(spec, folder)
    try:
        yield found.http
    finally:
        delete(spec.name)


def asked(url, model, name, data, **parameters):
    inputs = [{"name": name, "datatype": "BYTES", "shape": [len(data)], "data": data}]
    answer = httpx.post(f"{url}/v2/models/{model}/infer", json={"inputs": inputs, **parameters}, timeout=30)
    return answer.json()


def test_one_text_is_read_by_each_member_in_its_own_way_when_served_and_offline(cluster, tmp_path):
    model = bert(tmp_path / "tinybert")
    (tmp_path / "words_of_mood.py").write_text(TFIDF)
    (tmp_path / "mood.yaml").write_text(SPEC)
    spec = load_spec(tmp_path / "mood.yaml")
    with deployed(spec, tmp_path) as url:
        answer = asked(url, "mood", "text", TEXTS)
        alone = asked(url, "bert", "text", TEXTS)
    rows = {"text": bytes_array([text.encode() for text in TEXTS])}
    offline = {name: run_in_process(spec.job(name), tmp_path, rows) for name in spec.members}
    fused = np.mean(list(offline.values()), axis=0)
    np.testing.assert_allclose(np.reshape(answer["outputs"][0]["data"], (-1, 2)), fused, atol=1e-6)
    assert answer["parameters"]["members_used"] == "bert,words"
    with torch.inference_mode():
        logits = model(**trained_tokenizer()(TEXTS, padding=True, return_tensors="pt")).logits.numpy()
    np.testing.assert_allclose(offline["bert"], softmax(logits, axis=1), atol=1e-6)
    np.testing.assert_allclose(np.reshape(alone["outputs"][0]["data"], (-1, 2)), logits, atol=1e-6)
