"""The body of a prediction: JSON in, checked instances out."""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from .errors import ApiError

MAX_STEPS = 200
MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class Limits:
    """What the loaded pipeline allows and assumes; sizes in pixels."""

    pipeline: str
    max_steps: int
    default_steps: int
    size_multiple: int
    default_width: int
    default_height: int
    unsupported: frozenset[str]


@dataclass(frozen=True)
class Instance:
    """One picture to make. None leaves the value to the pipeline."""

    prompt: str
    negative_prompt: str | None
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float | None
    seed: int


@dataclass(frozen=True)
class Rule:
    """What one parameter may be, for the machine (`accepts`) and for people (`allowed`)."""

    accepts: Callable[[object], bool]
    allowed: str


def parse_instances(body: bytes, limits: Limits, max_instances: int) -> list[Instance]:
    """Turn a request body into instances, seeds filled in.

    Raises ApiError(invalid_request) that names the first wrong parameter, what it was, and what
    is allowed. Nothing is coerced: booleans are no numbers, strings are no numbers, null is not
    "absent".
    """
    document = _parse_json(body)
    if not isinstance(document, dict):
        raise _invalid("the body", document, 'an object {"instances": [...]}')
    for key in document:
        if key != "instances":
            raise _invalid(_shown(key), document[key], 'no key but "instances"')
    items = document.get("instances")
    if not isinstance(items, list) or not 1 <= len(items) <= max_instances:
        raise _invalid("instances", items, f"a list of 1 to {max_instances} objects")
    rules = _rules(limits)
    return [_parse_instance(f"instances[{i}]", item, limits, rules) for i, item in enumerate(items)]


def _parse_json(body: bytes) -> object:
    try:
        return json.loads(body.decode("utf-8"))
    except ValueError as error:
        raise ApiError("invalid_request", f"the body is not JSON: {error}") from None
    except RecursionError:
        raise ApiError("invalid_request", "the body is nested too deeply") from None


def _parse_instance(where: str, item: object, limits: Limits, rules: dict[str, Rule]) -> Instance:
    if not isinstance(item, dict):
        raise _invalid(where, item, "an object")
    if "prompt" not in item:
        raise ApiError(
            "invalid_request", f"{where}.prompt: missing, allowed: {rules['prompt'].allowed}"
        )
    for name, value in item.items():
        rule = rules.get(name)
        if rule is None:
            raise _invalid(f"{where}.{_shown(name)}", value, f"only {', '.join(rules)}")
        if not rule.accepts(value):
            raise _invalid(f"{where}.{name}", value, rule.allowed)
        if name in limits.unsupported and value != "":
            raise _invalid(f"{where}.{name}", value, f"nothing, {limits.pipeline} ignores it")
    return Instance(
        prompt=item["prompt"],
        negative_prompt=item.get("negative_prompt") or None,
        width=item.get("width", limits.default_width),
        height=item.get("height", limits.default_height),
        num_inference_steps=item.get("num_inference_steps", limits.default_steps),
        guidance_scale=item.get("guidance_scale"),
        seed=item.get("seed", secrets.randbelow(MAX_SEED + 1)),
    )


def _rules(limits: Limits) -> dict[str, Rule]:
    return {
        "prompt": _text(1, 2000),
        "negative_prompt": _text(0, 2000),
        "width": _whole(64, 2048, limits.size_multiple),
        "height": _whole(64, 2048, limits.size_multiple),
        "num_inference_steps": _whole(1, limits.max_steps),
        "guidance_scale": _number(0, 20),
        "seed": _whole(0, MAX_SEED),
    }


def _text(low: int, high: int) -> Rule:
    def accepts(value: object) -> bool:
        return isinstance(value, str) and low <= len(value) <= high and _is_unicode(value)

    return Rule(accepts, f"text of {low} to {high} characters")


def _is_unicode(text: str) -> bool:
    # JSON can spell half a surrogate pair ("\ud800"), which no tokenizer takes.
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _whole(low: int, high: int, multiple: int = 1) -> Rule:
    def accepts(value: object) -> bool:
        return type(value) is int and low <= value <= high and value % multiple == 0

    suffix = f", a multiple of {multiple}" if multiple > 1 else ""
    return Rule(accepts, f"a whole number from {low} to {high}{suffix}")


def _number(low: float, high: float) -> Rule:
    def accepts(value: object) -> bool:
        # The comparison is false for NaN, and fails for both infinities.
        return type(value) in (int, float) and low <= value <= high

    return Rule(accepts, f"a number from {low} to {high}")


def _invalid(where: str, value: object, allowed: str) -> ApiError:
    return ApiError("invalid_request", f"{where}: got {_described(value)}, allowed: {allowed}")


def _described(value: object) -> str:
    if isinstance(value, str):
        return f"text of {len(value)} characters" if len(value) > 40 else _shown(value)
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    if value is None:
        return "null or nothing"
    return _shown(value)


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:60] + "..."
