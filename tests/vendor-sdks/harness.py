"""Plays the calls of a script with a vendor's own SDK, and checks bodies of requests against the SDK's types.

Reads `{"cases": [names], "bodies": {name: [body, ...]}}` from stdin. Writes `{"missing": [names], "replies": {name: [reply, ...]},
"failures": {name: text}, "faults": {name: text}}` to stdout.
"""

import json
import sys
import traceback
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

MAX_TOKENS = 1000

# The neutral data of the cases, as the tests in Rust have them.
WEATHER = "The weather of a city."


class Weather(BaseModel):
    city: str


class Time(BaseModel):
    zone: str
    style: str | None


class Point(BaseModel):
    name: str = Field(description="The name.")
    weight: int = Field(ge=1, le=5)


class Page(BaseModel):
    kind: Literal["page"]
    read: datetime


class Person(BaseModel):
    kind: Literal["person"]
    ages: list[list[float]]


class Verdict(BaseModel):
    """A verdict with its reasons."""

    answer: Literal["yes", "no"]
    sure: bool
    source: Page | Person
    points: list[Point] = Field(min_length=1)
    note: str | None


def run_tool(name, arguments):
    """Returns the result of a call, and whether it is an error."""
    if arguments.get("city") == "Oslo":
        return "12 °C", False
    return "no such city", True


def whole(value):
    """Reads a validated value to its end: pydantic validates what can only be iterated while it is read."""
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_unset=True, by_alias=True)
    if isinstance(value, Mapping):
        return {name: whole(member) for name, member in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [whole(member) for member in value]
    return value


def fault(adapter, body):
    """Returns why the SDK's type does not describe `body`; `None` if it does."""
    try:
        described = whole(adapter.validate_python(body))
    except ValidationError as error:
        return str(error)
    if described == body:
        return None
    return f"the type describes {json.dumps(described)} of {json.dumps(body)}"


def main(cases, calls_at, parameters):
    """Plays `cases`, each with what `calls_at` makes for an address; `parameters` is the SDK's type of a request's body."""
    address = sys.argv[1]
    asked = json.load(sys.stdin)
    report = {"missing": [name for name in cases if name not in asked["cases"]], "replies": {}, "failures": {}, "faults": {}}
    for name in asked["cases"]:
        try:
            calls = calls_at(f"{address}/sdk/{name}")
            cases[name](calls)
            report["replies"][name] = calls.replies
        except Exception:
            report["failures"][name] = traceback.format_exc()
    adapter = TypeAdapter(parameters)
    for name, bodies in asked["bodies"].items():
        faults = [why for body in bodies if (why := fault(adapter, body)) is not None]
        if faults:
            report["faults"][name] = "\n".join(faults)
    json.dump(report, sys.stdout)
