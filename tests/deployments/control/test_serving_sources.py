"""Models as people have them, deployed side by side: over HTTP and offline each gives its own library's answer."""

import numpy as np
import pytest
import torch
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from torch import nn

import quorate
from quorate.deployments import load_spec
from quorate.deployments.engine.offline_graph import OfflineGraph

SPEC = """
name: sources
inputs: {x: {datatype: FP32, shape: [4]}}
classes: [setosa, versicolor, virginica]
members:
  regression: {model: regression.onnx, inputs: [x], output: probabilities, resources: {num_cpus: 0.1}}
  script: {model: script.pt, inputs: [x], output_name: aux, resources: {num_cpus: 0.1}}
  checkpoint: {model: "nets_of_sources:net", weights: net.ckpt, inputs: [x], resources: {num_cpus: 0.1}}
  exported: {model: exported.pt2, inputs: [x], resources: {num_cpus: 0.1}}
  asynchronous:
    {model: "nets_of_sources:shares", config: {table: tables/shares.txt}, inputs: [x], output: probabilities,
     resources: {num_cpus: 0.1}}
fusion: {rule: mean, deadline_s: 5.0}
serving: {resources: {num_cpus: 0.1}}
"""
NETS = """
import numpy as np
from torch import nn

def net():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))

async def shares(x, table):
    return [dict(zip(["virginica", "setosa", "versicolor"], np.loadtxt(table))) for _ in x]
"""


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.main, self.aux = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"main": self.main(x), "aux": self.aux(x)}


def save(folder, rows, labels):
    """Writes the models; returns what each should answer, by member."""
    torch.manual_seed(0)
    tensors, shares = torch.from_numpy(rows), np.array([0.5, 0.25, 0.25])
    regression = LogisticRegression(max_iter=500).fit(rows, labels)
    (folder / "regression.onnx").write_bytes(to_onnx(regression, rows[:1]).SerializeToString())
    heads, net = TwoHeads().eval(), nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).eval()
    with pytest.warns(DeprecationWarning, match="jit"):
        torch.jit.save(torch.jit.script(heads), folder / "script.pt")
    torch.save({"epoch": 1, "state_dict": {f"model.{n}": t for n, t in net.state_dict().items()}}, folder / "net.ckpt")
    torch.export.save(torch.export.export(net, (tensors[:1],)), folder / "exported.pt2")
    (folder / "tables").mkdir()
    np.savetxt(folder / "tables" / "shares.txt", shares)
    with torch.no_grad():
        of_net = net(tensors).softmax(dim=1).numpy()
        of_aux = heads(tensors)["aux"].softmax(dim=1).numpy()
    constant = np.tile(shares[[1, 2, 0]], (len(rows), 1))
    return {
        "regression": regression.predict_proba(rows), "script": of_aux, "checkpoint": of_net, "exported": of_net,
        "asynchronous": constant,
    }  # fmt: skip


def test_every_source_answers_as_its_library_does_over_http_and_offline(cluster, tmp_path):
    from quorate.deployments.control.deploy import delete, deploy
    from quorate.deployments.control.describe import describe_member

    rows, numbers = load_iris(return_X_y=True)
    rows = rows.astype(np.float32)[::10]
    expected = save(tmp_path, rows, np.array(["setosa", "versicolor", "virginica"])[numbers[::10]])
    (tmp_path / "nets_of_sources.py").write_text(NETS)
    (tmp_path / "spec.yaml").write_text(SPEC)
    spec = load_spec(tmp_path / "spec.yaml")
    fused = np.mean([expected[name] for name in spec.members], axis=0)
    try:
        deployed = deploy(spec, tmp_path)
        with quorate.Client(deployed.http, model="sources") as client:
            answer = client.infer(x=rows, explain=True)
        memory = describe_member("sources", "checkpoint")[0]["memory"]
    finally:
        delete("sources")
    assert not answer.parameters["degraded"]
    np.testing.assert_allclose(answer.outputs["fused"], fused, atol=1e-6)
    offline = OfflineGraph(spec, tmp_path, {"x": rows})
    for name, probabilities in expected.items():
        np.testing.assert_allclose(answer.outputs[f"{name}.output"], probabilities, atol=1e-6)
        np.testing.assert_allclose(offline.node(name).aligned, probabilities, atol=1e-6)
    assert 0 <= memory["model_bytes"] < memory["resident_bytes"]
    (note,) = quorate.validate(tmp_path / "spec.yaml").notes
    assert note.startswith("members.exported: exported.pt2 was exported for a row at a time")
