"""Every object is one that Kubernetes knows, with no field that it does not."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.manifests import MANIFESTS, Manifests

VERSION = "1.36"
CUSTOM = {("gateway.networking.k8s.io/v1", "Gateway"), ("gateway.networking.k8s.io/v1", "HTTPRoute")}
"""Kinds that a cluster learns by CRDs: `make test-k8s` shows them to a real API server that has these."""


def is_valid(each: Any) -> bool:
    kubernetes_validate.validate(deepcopy(each), VERSION, strict=True)
    return True


def test_every_object_is_valid_and_has_no_unknown_field(manifests: Manifests) -> None:
    custom = {(each["apiVersion"], each["kind"]) for each in manifests.objects if "gateway." in each["apiVersion"]}
    assert custom == CUSTOM
    known = [each for each in manifests.objects if (each["apiVersion"], each["kind"]) not in CUSTOM]
    assert len(known) > 40
    assert all(is_valid(each) for each in known)


def test_the_example_of_an_ingress_is_valid() -> None:
    assert is_valid(yaml.safe_load((MANIFESTS / "examples" / "ingress.yaml").read_text()))


def test_an_unknown_field_is_noticed(manifests: Manifests) -> None:
    wrong = deepcopy(dict(manifests.of("Deployment")["nearby-gateway"]))
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        is_valid(wrong)


def test_no_two_objects_have_one_name(manifests: Manifests) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests.objects]
    assert len(set(names)) == len(names)
