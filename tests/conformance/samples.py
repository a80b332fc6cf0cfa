"""Samples of ops that declare none of their own: movement, contractions and pools."""

from __future__ import annotations

from aino_ir.op import Sample

MORE_SAMPLES: dict[str, list[Sample]] = {}
