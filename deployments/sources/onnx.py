"""ONNX files, run by ONNX Runtime."""

from __future__ import annotations

from quorate.deployments.sources.model import Model
from quorate.deployments.sources.request import LoadRequest


def load(request: LoadRequest) -> Model:
    """Load the file into a session of the member's device."""
    try:
        import onnxruntime
    except ImportError:
        raise request.error("onnxruntime is not installed", "pip install 'quorate[onnx]'") from None
    gpu = ["CUDAExecutionProvider"] if request.device.type == "cuda" else []
    try:
        session = onnxruntime.InferenceSession(str(request.path), providers=[*gpu, "CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise request.error(f"{request.path.name} cannot be loaded: {error}", "check the file") from None
    names = [node.name for node in session.get_inputs()]
    return request.model(lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0], tensors=False)
