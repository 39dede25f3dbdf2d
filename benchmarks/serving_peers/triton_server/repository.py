"""Triton's model repository: members, a model that averages them, and the ensemble that wires them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bodies import MODEL
from mlp import NUM_CLASSES, NUM_FEATURES, NUM_HIDDEN, build

HERE = Path(__file__).parent
_BATCHING = "dynamic_batching { }"
# A session per model, each with a thread of its own: with Triton's default they have two a core, which wait for work
# by turning round and round.
_ONE_THREAD = "\n".join(
    f'parameters {{ key: "{name}" value: {{ string_value: "1" }} }}'
    for name in ("intra_op_thread_count", "inter_op_thread_count")
)


@dataclass(frozen=True)
class Repository:
    """One at a folder, for so many members of rows of so many numbers."""

    root: Path
    members: int
    features: int

    def write_python(self, paths: list[str]) -> None:
        """With the Python backend; ``paths`` are the models' packages."""
        backend = f'backend: "python"\n{_BATCHING}'
        for seed in range(self.members):
            parameters = "\n".join(
                f'parameters {{ key: "{name}" value: {{ string_value: "{value}" }} }}'
                for name, value in (("seed", seed), ("features", self.features))
            )
            self._write_member(seed, f"{backend}\n{parameters}").write_text(_code("member.py", paths))
        self._write_mean(backend).write_text(_code("mean.py", paths))
        self._write_ensemble()

    def write_onnx(self) -> None:
        """With the ONNX Runtime backend."""
        backend = f'backend: "onnxruntime"\n{_BATCHING}\n{_ONE_THREAD}'
        for seed in range(self.members):
            file = self._write_member(seed, backend).with_name("model.onnx")
            file.write_bytes(member_graph(seed, self.features))
        self._write_mean(backend).with_name("model.onnx").write_bytes(mean_graph(self.members))
        self._write_ensemble()

    def _write_member(self, seed: int, rest: str) -> Path:
        x, probabilities = _tensor("input", "x", self.features), _tensor("output", "probabilities", NUM_CLASSES)
        return self._write(f"mlp{seed}", x, probabilities, rest)

    def _write_mean(self, rest: str) -> Path:
        columns = "\n".join(_tensor("input", f"probabilities{seed}", NUM_CLASSES) for seed in range(self.members))
        return self._write("mean", columns, _tensor("output", "fused", NUM_CLASSES), rest)

    def _write_ensemble(self) -> None:
        seeds = range(self.members)
        steps = [_step(f"mlp{s}", {"x": "x"}, {"probabilities": f"p{s}"}) for s in seeds]
        steps.append(_step("mean", {f"probabilities{s}": f"p{s}" for s in seeds}, {"fused": "fused"}))
        scheduling = 'platform: "ensemble"\nensemble_scheduling { step [\n' + ",\n".join(steps) + "\n] }"
        x, fused = _tensor("input", "x", self.features), _tensor("output", "fused", NUM_CLASSES)
        self._write(MODEL, x, fused, scheduling)

    def _write(self, name: str, inputs: str, outputs: str, rest: str) -> Path:
        """The configuration; returns where the model's code goes."""
        folder = self.root / name / "1"
        folder.mkdir(parents=True)
        config = f'name: "{name}"\nmax_batch_size: 64\n{inputs}\n{outputs}\n{rest}\n'
        (folder.parent / "config.pbtxt").write_text(config)
        return folder / "model.py"


def member_graph(seed: int, features: int) -> bytes:
    """A member as ONNX, with its softmax: (B, 10) of (B, F)."""
    from onnx import helper, numpy_helper

    nodes, weights, at = [], [], "x"
    if features > NUM_FEATURES:
        nodes.append(helper.make_node("Reshape", ["x", "parts"], ["split"]))
        nodes.append(helper.make_node("ReduceMean", ["split"], ["averaged"], axes=[2], keepdims=0))
        weights.append(helper.make_tensor("parts", 7, [3], [0, NUM_FEATURES, features // NUM_FEATURES]))
        at = "averaged"
    state = build(seed, features).state_dict()
    first, second = sorted({name.split(".")[0] for name in state})
    for name, tensor in state.items():
        weights.append(numpy_helper.from_array(tensor.numpy(), name))
    assert state[f"{first}.weight"].shape == (NUM_HIDDEN, NUM_FEATURES)
    nodes += [
        helper.make_node("Gemm", [at, f"{first}.weight", f"{first}.bias"], ["hidden"], transB=1),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", f"{second}.weight", f"{second}.bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    return _model(nodes, {"x": features}, "probabilities", weights)


def mean_graph(members: int) -> bytes:
    """What averages members, as ONNX: (B, 10) of M times (B, 10)."""
    from onnx import helper

    names = [f"probabilities{seed}" for seed in range(members)]
    return _model([helper.make_node("Mean", names, ["fused"])], dict.fromkeys(names, NUM_CLASSES), "fused", [])


def _model(nodes: list[object], inputs: dict[str, int], output: str, weights: list[object]) -> bytes:
    from onnx import TensorProto, checker, helper

    def described(name: str, size: int) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])

    given = [described(name, size) for name, size in inputs.items()]
    graph = helper.make_graph(nodes, "graph", given, [described(output, NUM_CLASSES)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    found: bytes = model.SerializeToString()
    return found


def _code(file: str, paths: list[str]) -> str:
    # The stub starts its interpreter without PYTHONPATH.
    return f"import sys\nsys.path[:0] = {paths}\n{(HERE / file).read_text()}"


def _tensor(kind: str, name: str, size: int) -> str:
    return f'{kind} [{{ name: "{name}" data_type: TYPE_FP32 dims: [ {size} ] }}]'


def _step(model: str, inputs: dict[str, str], outputs: dict[str, str]) -> str:
    maps = [
        f'{kind}_map {{ key: "{key}" value: "{value}" }}'
        for kind, names in (("input", inputs), ("output", outputs))
        for key, value in names.items()
    ]
    return f'  {{ model_name: "{model}" model_version: -1 {" ".join(maps)} }}'
