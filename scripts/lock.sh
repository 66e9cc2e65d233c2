#!/usr/bin/env bash
# Resolve every dependency again and write requirements.lock, hashed.
#
# torch stays out of it (its wheels carry a local version, "+cpu" or "+cu130", that no single hash
# fits) and so does what only a CUDA build of torch needs: torch.txt pins torch alone.
set -euo pipefail
cd "$(dirname "$0")/.."
skip=()
for package in torch setuptools triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti \
  nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver \
  nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx; do
  skip+=(--no-emit-package "$package")
done
uv pip compile pyproject.toml --extra all --group dev --universal --python-version 3.11 --generate-hashes \
  --no-header --no-emit-index-url --no-annotate --output-file requirements.lock "${skip[@]}" "$@"
