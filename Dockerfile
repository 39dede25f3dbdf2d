# syntax=docker/dockerfile:1
# Quorate for the pods of a RayService, or for one machine: docs/kubernetes.md. Two images of one file:
#   docker build --target cpu  -t quorate:0.1.0 .
#   docker build --target cuda -t quorate:0.1.0-cuda .
# Versions of Python's packages are those that the tests ran with (constraints.txt).
# The base by the digest of its index, which a tag could leave. Another: --build-arg PYTHON=3.12-slim-bookworm
ARG PYTHON=3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1

FROM python:${PYTHON} AS wheel
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY quorate quorate
COPY cluster cluster
COPY deployments deployments
COPY fusion fusion
COPY tuning tuning
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON} AS packages
COPY constraints.txt /
RUN python -m venv /opt/quorate
ENV PATH=/opt/quorate/bin:$PATH

# What Torch needs of CUDA comes with its wheel; the driver is the node's.
FROM packages AS packages-cuda
RUN pip install --no-cache-dir --constraint /constraints.txt torch==2.13.0

FROM packages AS packages-cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --constraint /constraints.txt --extra-index-url "$TORCH_INDEX" torch==2.13.0+cpu

# Kinds of models beside PyTorch's are extras: --build-arg EXTRAS=serve,onnx,sklearn
FROM packages-cpu AS quorate-cpu
ARG EXTRAS=serve
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --constraint /constraints.txt "$(echo /wheels/quorate-*.whl)[$EXTRAS]"

FROM packages-cuda AS quorate-cuda
ARG EXTRAS=serve
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --constraint /constraints.txt "$(echo /wheels/quorate-*.whl)[$EXTRAS]"

FROM python:${PYTHON} AS runtime
# wget: KubeRay's own probes. libgomp1: libraries of boosted trees. Debian keeps no old versions to pin.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 wget \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 quorate \
    && useradd --uid 1000 --gid 1000 --create-home quorate \
    && mkdir -p /models /var/lib/quorate \
    && chown quorate:quorate /models /var/lib/quorate
ENV PATH=/opt/quorate/bin:$PATH \
    QUORATE_HOME=/var/lib/quorate \
    QUORATE_HTTP_PORT=8000 \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
WORKDIR /models
# By number, so that Kubernetes can see that it is not root.
USER 1000:1000
EXPOSE 8000 8001
# For Docker alone; on Kubernetes the manifest's probes ask the same.
HEALTHCHECK --interval=5s --timeout=5s --start-period=120s --retries=3 \
    CMD ["bash", "-c", "wget -q -T 4 -O /dev/null http://127.0.0.1:$QUORATE_HTTP_PORT/-/healthz"]
CMD ["quorate", "--help"]

FROM runtime AS cpu
COPY --from=quorate-cpu /opt/quorate /opt/quorate

FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=quorate-cuda /opt/quorate /opt/quorate
