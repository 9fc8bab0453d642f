"""FHIR R4: for each sample a preliminary DiagnosticReport with an Observation a class, in LOINC codes.

The codes mean shares of the leukocytes, so percentages are of all white cells that were given a type: the five mature
types, immature granulocytes and blasts. Where there are none of the latter two they are those of differential.csv.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from wbc_cli.classes import BY_NAME, OTHER, UNIDENTIFIED
from wbc_cli.differential import Share
from wbc_cli.export.library import load
from wbc_cli.export.loinc import CODES, LOINC, PANEL
from wbc_cli.export.results import Results
from wbc_cli.export.samples import SampleCounts, samples_of
from wbc_cli.products.drawing import NOTICE
from wbc_cli.products.report.words import SLIDE_FLAGS, in_words
from wbc_cli.review.times import utc_text

_UCUM = "http://unitsofmeasure.org"
_HL7 = "http://terminology.hl7.org/CodeSystem"
_NAMESPACE = uuid5(NAMESPACE_URL, "wbc-cli/fhir")
_UNTYPED = frozenset({UNIDENTIFIED.name, OTHER})

Resource = dict[str, Any]


def write_fhir(results: Results, out: Path, now: datetime) -> list[Path]:
    """Write a Bundle a sample: report, observations, specimen and device, validated against FHIR.

    Args:
        results: of a run.
        out: a folder, which is there.
        now: when the reports are issued.

    Returns:
        The files.

    Raises:
        SetupError: fhir.resources is not installed.
        UsageError: see `samples_of`.
        OSError: the disk is full or read-only.
    """
    # R4B differs from R4 in none of the resources that are used here
    bundles = load("fhir.resources.R4B.bundle", "fhir.resources")
    written = []
    for sample in samples_of(results):
        entries = list(_entries(sample, results, utc_text(now)))
        bundle = {"resourceType": "Bundle", "type": "collection", "timestamp": utc_text(now), "entry": entries}
        valid = bundles.Bundle.model_validate(bundle)
        name = re.sub(r"[^\w.+-]", "_", sample.name, flags=re.ASCII)[:100]
        written.append(out / f"{name}-{_id(sample, 'report')[:8]}.json")
        written[-1].write_text(valid.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return written


def _entries(sample: SampleCounts, results: Results, issued: str) -> Iterator[Resource]:
    observations = [] if sample.problem else list(_observations(sample))
    report: Resource = {
        "resourceType": "DiagnosticReport",
        "status": "cancelled" if sample.problem else "preliminary",
        "category": [_coded(f"{_HL7}/v2-0074", "HM", "Hematology")],
        "code": {**_coded(LOINC, *PANEL), "text": "White-cell differential of a blood smear, by image analysis"},
        "specimen": [_reference(sample, "specimen")],
        "issued": issued,
        "conclusion": _conclusion(sample),
    }
    if observations:
        report["result"] = [_reference(sample, role) for role, _ in observations]
    if names := dict.fromkeys(name for review in sample.reviews for name in review.reviewers):
        report["resultsInterpreter"] = [{"display": name} for name in names]
    specimen = {"resourceType": "Specimen", "identifier": [{"value": sample.name}], "type": {"text": "Blood smear"}}
    for role, resource in (("report", report), *observations, ("specimen", specimen), ("device", _device(results))):
        made = _id(sample, role)
        yield {"fullUrl": f"urn:uuid:{made}", "resource": {**resource, "id": made}}


def _observations(sample: SampleCounts) -> Iterator[tuple[str, Resource]]:
    counts = sample.counts
    white = sum(count for name, count in counts.items() if BY_NAME[name].white_cell)
    typed = white - counts[UNIDENTIFIED.name]
    for name, kind in BY_NAME.items():
        if name == OTHER:
            continue  # platelets, dirt and whatever else: no figure of a differential
        of = typed if kind.white_cell and name != UNIDENTIFIED.name else white
        code = {**_coded(LOINC, *CODES[name]), "text": kind.label} if name in CODES else {"text": kind.label}
        value = {"value": round(100 * counts[name] / of, 2)} if of else None
        unit = {"unit": "%", "system": _UCUM, "code": "%"}
        if not kind.white_cell:
            unit = {"unit": "/100 WBC", "system": _UCUM, "code": "/100{WBCs}"}
        observation: Resource = {
            "resourceType": "Observation",
            "status": "preliminary",
            "category": [_coded(f"{_HL7}/observation-category", "laboratory", "Laboratory")],
            "code": code,
            "method": {"text": "Image analysis of a stained smear"},
            "specimen": _reference(sample, "specimen"),
            "device": _reference(sample, "device"),
            "component": [
                _component("Cells of this kind", valueInteger=counts[name]),
                _component("White cells that they are counted against", valueInteger=of),
            ],
        }
        if value:
            observation["valueQuantity"] = value | unit
        else:
            observation["dataAbsentReason"] = _coded(f"{_HL7}/data-absent-reason", "unknown", "Unknown")
        share = Share.of(counts[name], of) if kind.white_cell else None
        if share and share.low is not None and share.high is not None:
            ends = {end: {"value": round(v, 2)} | unit for end, v in (("low", share.low), ("high", share.high))}
            observation["component"].append(_component("95 % interval (Clopper-Pearson)", valueRange=ends))
        yield name, observation


def _conclusion(sample: SampleCounts) -> str:
    if sample.problem:
        return f"No differential. {sample.problem}. {NOTICE}"
    flags = [in_words(flag, SLIDE_FLAGS) for flag in sample.flags]
    flags += [
        f"{in_words(flag, SLIDE_FLAGS)} ({number} of {sample.fields_used} fields)"
        for flag, number in sample.field_flags.items()
    ]
    left_out = sample.fields - sample.fields_used
    signed = [f"{s.reviewer} ({s.time})" for review in sample.reviews for s in review.signatures if s.stands]
    disputed = sum(review.disputed for review in sample.reviews)
    parts = (
        NOTICE,
        "Percentages are of all white cells that were given a type, immature granulocytes and blasts among them.",
        f"Doubts: {'; '.join(flags)}." if flags else "",
        f"Left out, as they were refused or failed: {left_out} of {sample.fields} fields." if left_out else "",
        f"Reviewed slides: {', '.join(review.slide for review in sample.reviews)}." if sample.reviews else "",
        f"The reviewers differ on {disputed} cells; the last word counts." if disputed else "",
        f"Signed by {', '.join(signed)}." if signed else "",
    )
    return " ".join(part for part in parts if part)


def _device(results: Results) -> Resource:
    """Describe the program, with its version and that of the weights."""
    run = results.run
    weights = dict.fromkeys(part.get("weights_sha256") for part in run.get("merged_from", [run]))
    versions = [("software", run.get("version")), *(("weights, SHA-256", value) for value in weights)]
    return {
        "resourceType": "Device",
        "manufacturer": "wbc-cli",
        "deviceName": [{"name": "wbc-cli", "type": "model-name"}],
        "type": {"text": "Software that counts white cells on blood smears"},
        "version": [{"type": {"text": kind}, "value": str(value)} for kind, value in versions if value],
    }


def _component(text: str, **value: object) -> Resource:
    return {"code": {"text": text}, **value}


def _coded(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _reference(sample: SampleCounts, role: str) -> Resource:
    return {"reference": f"urn:uuid:{_id(sample, role)}"}


def _id(sample: SampleCounts, role: str) -> str:
    """Make an id that every export of a sample shares, so that a later one takes the place of an earlier."""
    return str(uuid5(_NAMESPACE, f"{sample.origin}\n{sample.name}\n{role}"))
