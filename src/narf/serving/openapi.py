"""OpenAPI of a replica, with each model's own schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import narf
from narf.serving.package import Manifest
from narf.serving.tensors import TensorSpec

_JSON_TYPES = {"BOOL": "boolean", "BYTES": "string"}


def document(models: Mapping[str, Manifest]) -> dict[str, Any]:
    paths: dict[str, Any] = {
        "/v2": _get("The server, its version and its extensions."),
        "/v2/health/live": _get("Whether the process answers."),
        "/v2/health/ready": _get("Whether every model is loaded."),
        "/v2/repository/index": _get("The models here."),
    }
    schemas: dict[str, Any] = {"Error": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}}
    for name, manifest in models.items():
        schemas[f"{name}.request"], schemas[f"{name}.response"] = _request(manifest), _response(manifest)
        for base in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{manifest.version}"):
            paths[base] = _get(f"The signature of {name}.")
            paths[f"{base}/ready"] = _get(f"Whether {name} is loaded.")
            paths[f"{base}/infer"] = _post(f"Predict with {name} (Open Inference Protocol V2).", f"{name}.request", f"{name}.response")
        prefix = "" if len(models) == 1 else f"/models/{name}"
        schemas[f"{name}.plain"] = _plain(manifest)
        paths[f"{prefix}/invocations"] = _post(f"Predict with {name} (MLflow).", f"{name}.plain", None)
        paths[f"{prefix}/predict"] = _post(f"Predict with {name}.", f"{name}.plain", None)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Narf inference", "version": narf.__version__},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _get(summary: str) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": {"200": {"description": "Yes."}, "503": {"description": "Not now."}}}}


def _post(summary: str, request: str, response: str | None) -> dict[str, Any]:
    answer: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{response}"}} if response else {"schema": {"type": "object"}}
    failures = {
        "400": "The input is not what the model takes.",
        "413": "Too large.",
        "429": "Too many requests wait.",
        "500": "The model failed.",
        "503": "Not ready.",
        "504": "Too late.",
    }
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    responses = {status: {"description": text, "content": error} for status, text in failures.items()}
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{request}"}}}},
            "responses": {"200": {"description": "The prediction.", "content": {"application/json": answer}}, **responses},
        }
    }


def _request(manifest: Manifest) -> dict[str, Any]:
    tensors = [_tensor(spec) for spec in manifest.caller_inputs]
    properties = {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "items": {"oneOf": tensors}, "minItems": len(tensors), "maxItems": len(tensors)},
        "outputs": {
            "type": "array",
            "items": {"type": "object", "properties": {"name": {"enum": [s.name for s in manifest.caller_outputs]}}, "required": ["name"]},
        },
    }
    return {"type": "object", "properties": properties, "required": ["inputs"]}


def _response(manifest: Manifest) -> dict[str, Any]:
    outputs = {"type": "array", "items": {"anyOf": [_tensor(spec) for spec in manifest.caller_outputs]}}
    text = {"type": "string"}
    return {
        "type": "object",
        "properties": {"model_name": text, "model_version": text, "id": text, "outputs": outputs},
        "required": ["model_name", "outputs"],
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    dimensions = [{"const": size} if size > 0 else {"type": "integer", "minimum": 1} for size in spec.shape]
    return {
        "type": "object",
        "description": f"{spec.datatype} {list(spec.shape)}",
        "properties": {
            "name": {"const": spec.name},
            "datatype": {"const": spec.datatype},
            "shape": {"type": "array", "prefixItems": dimensions, "items": False, "minItems": len(dimensions)},
            "data": {"type": "array"},
            "parameters": {"type": "object"},
        },
        "required": ["name", "datatype", "shape"],
    }


def _plain(manifest: Manifest) -> dict[str, Any]:
    def values(spec: TensorSpec) -> dict[str, Any]:
        kind = _JSON_TYPES.get(spec.datatype, "integer" if "INT" in spec.datatype else "number")
        schema: dict[str, Any] = {"type": kind}
        for size in reversed(spec.shape):
            schema = {"type": "array", "items": schema, **({"minItems": size, "maxItems": size} if size > 0 else {"minItems": 1})}
        return schema

    tensors = {spec.name: values(spec) for spec in manifest.caller_inputs}
    named = {"type": "object", "properties": tensors, "required": list(tensors)}
    inputs = {"oneOf": [named, next(iter(tensors.values()))]} if len(tensors) == 1 else named
    return {"type": "object", "properties": {"inputs": inputs}, "required": ["inputs"]}
