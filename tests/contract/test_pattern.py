"""The checker itself: what each pattern matches, and what it must not."""

import pytest
from pattern import match, match_body, match_headers, match_stream, parse_json

MATCHES = [
    ("plain", "plain"),
    (None, None),
    (True, True),
    (424, 424),
    ("<string>", ""),
    ("<nonempty>", "x"),
    ("<int>", -3),
    ("<int:1..5>", 5),
    ("<float>", 2),
    ("<float>", 0.5),
    ("<bool>", False),
    ("<prob>", 1),
    ("<logprob>", 0),
    ("<logprob>", -0.25),
    ("<logprob|null>", None),
    ("<enum:length|eos_token>", "eos_token"),
    ("<uuid>", "0aced43b-3c6e-41d5-ba65-fef91c19dd1b"),
    ("<timestamp>", 1795375203),
    ("<iso8601>", "2026-11-22T19:19:14.123Z"),
    ([1, "<int>"], [1, 2]),
    ({"a": 1, "b?": True}, {"a": 1}),
    ({"a": 1, "b?": True}, {"a": 1, "b": [None]}),
    ({"a?": "<int>"}, {"a": 1}),
    ({"<key:model>": {"status": "Healthy"}}, {"llama": {"status": "Healthy"}}),
    ({"a": 1, "<key:other>": 2}, {"b": 2, "a": 1}),
    ({"$list": "<int>", "min": 1, "max": 2}, [1, 2]),
    ({"$list": "<int>"}, []),
    ({"$list": {"$list": "<int>", "min": 1}, "min": 1}, [[1], [2, 3]]),
    ({"$prefix": "chatcmpl-"}, "chatcmpl-1"),
    ({"$contains": "b"}, "abc"),
    ({"$excludes": "."}, "abc"),
]

MISMATCHES = [
    ("plain", "plainer"),
    (None, False),
    (True, 1),
    (1, True),
    (1, 1.0),
    (0, False),
    (424, "424"),
    ("<string>", None),
    ("<nonempty>", ""),
    ("<int>", True),
    ("<int>", 1.5),
    ("<int>", "1"),
    ("<int:1..5>", 6),
    ("<int:1..5>", 0),
    ("<float>", "0.5"),
    ("<float>", True),
    ("<float>", float("nan")),
    ("<bool>", 0),
    ("<prob>", 1.01),
    ("<prob>", -0.01),
    ("<logprob>", 0.01),
    ("<logprob>", None),
    ("<logprob>", float("-inf")),
    ("<logprob|null>", "null"),
    ("<enum:length|eos_token>", "eos"),
    ("<enum:length|eos_token>", None),
    ("<uuid>", "0aced43b-3c6e-41d5-ba65-fef91c19dd1"),
    ("<timestamp>", 1795375203.5),
    ("<timestamp>", 17),
    ("<iso8601>", "2026-11-22T19:19:14Z"),
    ([1, 2], [1]),
    ([1], {"0": 1}),
    ({"a": 1}, {}),
    ({"a": 1}, {"a": 1, "b": 2}),
    ({"a": 1}, [1]),
    ({"a": True}, {"a": 2}),
    ({"a?": "<int>"}, {"a": "x"}),
    ({"<key:model>": 1}, {}),
    ({"<key:model>": 1}, {"a": 1, "b": 1}),
    ({"<key:model>": 1}, {"a": 2}),
    ({"$list": "<int>", "min": 1}, []),
    ({"$list": "<int>", "max": 1}, [1, 2]),
    ({"$list": "<int>"}, [1, "2"]),
    ({"$list": "<int>"}, {"0": 1}),
    ({"$prefix": "a"}, "ba"),
    ({"$contains": "x"}, "abc"),
    ({"$contains": "x"}, ["x"]),
    ({"$excludes": "."}, "a.c"),
    ({"$excludes": "."}, None),
]


@pytest.mark.parametrize("pattern, value", MATCHES)
def test_matches(pattern, value):
    assert match(pattern, value) == []


@pytest.mark.parametrize("pattern, value", MISMATCHES)
def test_does_not_match(pattern, value):
    assert match(pattern, value)


@pytest.mark.parametrize(
    "pattern",
    [
        "<strign>",
        "<int:1-5>",
        {"$regex": "."},
        {"$prefix": "a", "$contains": "b"},
        {"$list": 1, "mx": 1},
    ],
)
def test_an_unknown_pattern_is_an_error(pattern):
    with pytest.raises(ValueError):
        match(pattern, "anything")


def test_a_mismatch_names_its_place():
    wrong = match({"a": [{"b": "<int>"}]}, {"a": [{"b": "x"}]})
    assert wrong == ['body.a[0].b: "x" is not <int>']


def test_json_is_read_strictly():
    for text in ('{"a": NaN}', '{"a": 1, "a": 2}', "[1,]", ""):
        with pytest.raises(ValueError):
            parse_json(text)


LINES = {
    "$stream": "jsonlines",
    "first": {"n": 0, "role": "x"},
    "each": {"n": "<int>"},
    "last": {"n": "<int>", "end": True, "text?": True},
    "min": 1,
    "max": 3,
}


@pytest.mark.parametrize(
    "text, fits",
    [
        ('{"n":0,"role":"x"}\n{"n":1}\n{"n":2,"end":true}\n', True),
        ('{"n":2,"end":true}\n', True),
        ('{"n":0,"role":"x"}\n{"n":2,"end":true}', False),
        ('{"n":0,"role":"x"}\n{"n":2}\n', False),
        ('{"n":0}\n{"n":2,"end":true}\n', False),
        ('{"n":0,"role":"x"}\n\n{"n":2,"end":true}\n', False),
        ('{"n":0,"role":"x"}\n{"n":1}\n{"n":1}\n{"n":2,"end":true}\n', False),
        ('{"n":0,"role":"x"}\n{"n":2,"end":true,"text":"\u2028\x85"}\n', True),
        ("", False),
    ],
)
def test_json_lines(text, fits):
    assert (match_stream(LINES, text) == []) == fits


EVENTS = {"$stream": "sse", "each": {"n": "<int>"}, "min": 1, "terminator": "[DONE]"}


@pytest.mark.parametrize(
    "text, fits",
    [
        ('data: {"n":1}\n\ndata: [DONE]\n\n', True),
        ('data: {"n":1}\n\n', False),
        ('data: {"n":1}\n\ndata: [DONE]\n', False),
        ('{"n":1}\n\ndata: [DONE]\n\n', False),
        ('data: {"n":1}\ndata: [DONE]\n\n', False),
        ("data: [DONE]\n\n", False),
    ],
)
def test_events(text, fits):
    assert (match_stream(EVENTS, text) == []) == fits


def test_a_terminator_that_nobody_asked_for_is_a_mismatch():
    bare = {key: value for key, value in EVENTS.items() if key != "terminator"}
    assert match_stream(bare, 'data: {"n":1}\n\n') == []
    assert match_stream(bare, 'data: {"n":1}\n\ndata: [DONE]\n\n')


def test_headers_lose_their_parameters_in_content_types_only():
    headers = {"content-type": "text/plain; version=0.0.4", "connection": "close;x"}
    assert match_headers({"content-type": "text/plain"}, headers) == []
    assert match_headers({"connection": "close"}, headers)
    assert match_headers({"x-request-id": "<uuid>"}, headers) == ["header x-request-id is missing"]


def test_a_body_is_json_by_its_content_type():
    assert match_body({"a": 1}, '{"a": 1}', "application/json; charset=utf-8") == []
    assert match_body({"$contains": "a 1"}, "a 1\n", "text/plain") == []
    assert match_body({"a": 1}, "no", "application/json")
