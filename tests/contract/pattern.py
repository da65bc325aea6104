"""The pattern language of the example exchanges in `examples/`.

A pattern is JSON. Its plain parts match themselves, with the exact keys and the exact type (1 is
neither 1.0 nor true); the rest stands for a set of values:

| pattern | matches |
|---|---|
| `"<string>"`, `"<nonempty>"` | a string; one that isn't empty |
| `"<int>"`, `"<int:a..b>"`, `"<float>"`, `"<bool>"` | an integer (from a to b), a number, a boolean |
| `"<prob>"`, `"<logprob>"`, `"<logprob|null>"` | a number from 0 to 1; at most 0; or null |
| `"<enum:a|b>"`, `"<uuid>"` | one of the words; a UUID |
| `"<timestamp>"`, `"<iso8601>"` | unix seconds; UTC with milliseconds and Z |
| key `"name?"` | may be missing; its value `true` matches anything |
| key `"<key:...>"` | one key of any name |
| `{"$list": p, "min", "max"}` | an array of min to max elements that match p |
| `{"$prefix"}`, `{"$contains"}`, `{"$excludes"}` | strings by what they start with, hold, don't hold |
| `{"$stream", "first", "each", "last", "min", "max", "terminator"}` | a streamed body |

`match` returns what differs, as sentences that begin with the place; an empty list is a match. A
pattern that nobody defined raises `ValueError`, so that a typing error can't match everything.
"""

import json
import math
import re

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_ISO8601 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_INT_RANGE = re.compile(r"<int:(-?\d+)\.\.(-?\d+)>")
_STREAM_KEYS = {"$stream", "first", "each", "last", "min", "max", "terminator"}
_YEAR_2020, _YEAR_2200 = 1577836800, 7258118400


def _is_int(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value):
    return _is_int(value) or isinstance(value, float) and math.isfinite(value)


_WORDS = {
    "<string>": lambda v: isinstance(v, str),
    "<nonempty>": lambda v: isinstance(v, str) and v != "",
    "<int>": _is_int,
    "<float>": _is_number,
    "<bool>": lambda v: isinstance(v, bool),
    "<prob>": lambda v: _is_number(v) and 0 <= v <= 1,
    "<logprob>": lambda v: _is_number(v) and v <= 0,
    "<logprob|null>": lambda v: v is None or _is_number(v) and v <= 0,
    "<uuid>": lambda v: isinstance(v, str) and _UUID.fullmatch(v) is not None,
    "<timestamp>": lambda v: _is_int(v) and _YEAR_2020 <= v < _YEAR_2200,
    "<iso8601>": lambda v: isinstance(v, str) and _ISO8601.fullmatch(v) is not None,
}

_TEXTS = {
    "$prefix": lambda text, part: text.startswith(part),
    "$contains": lambda text, part: part in text,
    "$excludes": lambda text, part: part not in text,
}


def parse_json(text):
    """Strict JSON: no NaN, no infinity, no key twice in an object."""

    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    def unique(pairs):
        keys = [key for key, _ in pairs]
        if len(set(keys)) != len(keys):
            raise ValueError(f"a key appears twice in {keys}")
        return dict(pairs)

    return json.loads(text, parse_constant=refuse, object_pairs_hook=unique)


def _shown(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:200] + "..."


def _match_text(pattern, value, at):
    if pattern in _WORDS:
        fits = _WORDS[pattern](value)
    elif found := _INT_RANGE.fullmatch(pattern):
        fits = _is_int(value) and int(found[1]) <= value <= int(found[2])
    elif pattern.startswith("<enum:") and pattern.endswith(">"):
        fits = value in pattern[len("<enum:") : -1].split("|")
    elif pattern.startswith("<") and pattern.endswith(">"):
        raise ValueError(f"unknown pattern {pattern}")
    else:
        fits = value == pattern
    return [] if fits else [f"{at}: {_shown(value)} is not {pattern}"]


def _match_operator(pattern, value, at):
    keys = set(pattern)
    if "$list" in keys and keys <= {"$list", "min", "max"}:
        if not isinstance(value, list):
            return [f"{at}: {_shown(value)} is no array"]
        least, most = pattern.get("min", 0), pattern.get("max", math.inf)
        wrong = []
        if not least <= len(value) <= most:
            wrong.append(f"{at}: {len(value)} elements are not {least} to {most}")
        for i, one in enumerate(value):
            wrong += match(pattern["$list"], one, f"{at}[{i}]")
        return wrong
    if len(keys) == 1 and (name := next(iter(keys))) in _TEXTS:
        part = pattern[name]
        if isinstance(value, str) and _TEXTS[name](value, part):
            return []
        return [f"{at}: {_shown(value)} fails {name} {_shown(part)}"]
    raise ValueError(f"unknown pattern {_shown(pattern)}")


def _match_object(pattern, value, at):
    if not isinstance(value, dict):
        return [f"{at}: {_shown(value)} is no object"]
    rest, wrong, any_name = dict(value), [], None
    for key, sub in pattern.items():
        if key.startswith("<key:"):
            if any_name is not None:
                raise ValueError("an object has two keys of any name")
            any_name = sub
            continue
        optional = key.endswith("?")
        name = key[:-1] if optional else key
        if name in rest:
            one = rest.pop(name)
            if not (optional and sub is True):
                wrong += match(sub, one, f"{at}.{name}")
        elif not optional:
            wrong.append(f"{at}: the key {name} is missing")
    if any_name is not None:
        if len(rest) != 1:
            return wrong + [f"{at}: {sorted(rest)} should be one key of any name"]
        name, one = rest.popitem()
        wrong += match(any_name, one, f"{at}.{name}")
    return wrong + [f"{at}: the key {name} is too much" for name in rest]


def match(pattern, value, at="body"):
    """What of `value` (parsed JSON) doesn't fit `pattern`; nothing when all of it does."""
    if isinstance(pattern, str):
        return _match_text(pattern, value, at)
    if isinstance(pattern, dict):
        if any(key.startswith("$") for key in pattern):
            return _match_operator(pattern, value, at)
        return _match_object(pattern, value, at)
    if isinstance(pattern, list):
        if not isinstance(value, list) or len(value) != len(pattern):
            return [f"{at}: {_shown(value)} is no array of {len(pattern)}"]
        return [w for i, p in enumerate(pattern) for w in match(p, value[i], f"{at}[{i}]")]
    if type(value) is type(pattern) and value == pattern:
        return []
    return [f"{at}: {_shown(value)} is not {_shown(pattern)}"]


def split_stream(kind, text):
    """The records of a streamed body as texts: lines, or the payloads of `data:` events."""
    if kind == "jsonlines":
        if text and not text.endswith("\n"):
            raise ValueError("the last line has no end")
        return text.split("\n")[:-1]
    if kind != "sse":
        raise ValueError(f"unknown kind of stream {kind}")
    if text and not text.endswith("\n\n"):
        raise ValueError("the last event has no end")
    events = text.split("\n\n")[:-1]
    for event in events:
        if not event.startswith("data: ") or "\n" in event:
            raise ValueError(f"{_shown(event)} is not one data line")
    return [event[len("data: ") :] for event in events]


def stream_records(pattern, text):
    """The parsed records of a streamed body, without the terminator, which must be there."""
    records = split_stream(pattern["$stream"], text)
    if "terminator" in pattern:
        if not records or records[-1] != pattern["terminator"]:
            raise ValueError(f"the stream doesn't end in {pattern['terminator']}")
        records.pop()
    return [parse_json(record) for record in records]


def match_stream(pattern, text):
    """As `match`, for a `$stream` pattern and the body's text."""
    if not set(pattern) <= _STREAM_KEYS:
        raise ValueError(f"unknown keys among {sorted(pattern)}")
    try:
        records = stream_records(pattern, text)
    except ValueError as wrong:
        return [f"body: {wrong}"]
    least, most = pattern["min"], pattern.get("max", math.inf)
    wrong = []
    if not least <= len(records) <= most:
        wrong.append(f"body: {len(records)} records are not {least} to {most}")
    for i, record in enumerate(records):
        fits = pattern["each"]
        if i == len(records) - 1 and "last" in pattern:
            fits = pattern["last"]
        elif i == 0 and "first" in pattern:
            fits = pattern["first"]
        wrong += match(fits, record, f"record {i}")
    return wrong


def match_body(pattern, text, content_type):
    """A whole body against its pattern: a stream, JSON by its content type, or bare text."""
    if isinstance(pattern, dict) and "$stream" in pattern:
        return match_stream(pattern, text)
    if content_type.partition(";")[0].strip() != "application/json":
        return match(pattern, text)
    try:
        value = parse_json(text)
    except ValueError as wrong:
        return [f"body: {wrong} in {_shown(text)}"]
    return match(pattern, value)


def match_headers(patterns, headers):
    """The headers that must be there; `headers` has names in lower case."""
    wrong = []
    for name, pattern in patterns.items():
        if name not in headers:
            wrong.append(f"header {name} is missing")
            continue
        value = headers[name]
        if name == "content-type":
            value = value.partition(";")[0].strip()
        wrong += match(pattern, value, f"header {name}")
    return wrong
