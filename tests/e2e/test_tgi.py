"""The clients of Text Generation Inference against the real binary, and the raw routes."""

import json
import urllib.error
import urllib.request

import pytest
import text_generation
import text_generation.errors
from huggingface_hub import InferenceClient
from huggingface_hub.errors import GenerationError, OverloadedError, ValidationError

PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def hub(server):
    return InferenceClient(model=server.url, timeout=60)


@pytest.fixture(scope="module")
def tgi(server):
    return text_generation.Client(server.url, timeout=60)


def post(server, path, body):
    """Status, content type and text of a raw answer."""
    ask = urllib.request.Request(
        server.url + path, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(ask, timeout=60) as answer:
            return answer.status, answer.headers["content-type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["content-type"], error.read().decode()


def get(server, path):
    try:
        with urllib.request.urlopen(server.url + path, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_hub_client_gets_text(hub):
    assert "Paris" in hub.text_generation(PROMPT, max_new_tokens=8)
    assert hub.text_generation(PROMPT, max_new_tokens=8, return_full_text=True).startswith(PROMPT)


def test_the_hub_client_gets_details(hub):
    answer = hub.text_generation(
        PROMPT, max_new_tokens=6, details=True, decoder_input_details=True, top_n_tokens=3
    )
    details = answer.details
    assert details.finish_reason == "length" and details.generated_tokens == 6
    assert details.seed is None and not details.best_of_sequences
    assert "".join(token.text for token in details.tokens) == answer.generated_text
    assert all(token.logprob <= 0 and token.special is False for token in details.tokens)
    assert details.prefill[0].logprob is None and details.prefill[1].logprob < 0
    assert "".join(token.text for token in details.prefill) == PROMPT
    assert [len(one) for one in details.top_tokens] == [3] * 6
    for token, top in zip(details.tokens, details.top_tokens):
        assert top[0]["id"] == token.id


def test_the_hub_client_streams_what_the_plain_answer_says(hub):
    plain = hub.text_generation(PROMPT, max_new_tokens=12, details=True)
    events = list(hub.text_generation(PROMPT, max_new_tokens=12, details=True, stream=True))
    assert [e.index for e in events] == list(range(1, len(events) + 1))
    assert [e.token.id for e in events] == [t.id for t in plain.details.tokens]
    assert "".join(e.token.text for e in events) == plain.generated_text
    assert [e.generated_text for e in events[:-1]] == [None] * (len(events) - 1)
    last = events[-1]
    assert last.generated_text == plain.generated_text
    assert last.details.finish_reason == plain.details.finish_reason
    assert last.details.generated_tokens == len(events) and last.details.input_length == 5
    assert "".join(hub.text_generation(PROMPT, max_new_tokens=12, stream=True)) == plain.generated_text


def test_the_hub_client_samples_by_seed(hub):
    def sample(seed):
        return hub.text_generation(
            PROMPT, max_new_tokens=12, do_sample=True, temperature=1.5, top_p=0.95, seed=seed, details=True
        )

    first = sample(7)
    assert first.details.seed == 7
    assert first.generated_text == sample(7).generated_text
    assert len({sample(seed).generated_text for seed in range(4)}) > 1


def test_a_stop_string_ends_the_text_and_stays(hub):
    answer = hub.text_generation(PROMPT, max_new_tokens=20, stop=["Paris"], details=True)
    assert answer.generated_text.endswith("Paris")
    assert answer.details.finish_reason == "stop_sequence"


def test_the_best_of_several_comes_first(hub):
    answer = hub.text_generation(PROMPT, max_new_tokens=6, do_sample=True, best_of=3, details=True)
    others = answer.details.best_of_sequences
    assert len(others) == 2

    def total(sequence):
        return sum(token.logprob if hasattr(token, "logprob") else token["logprob"] for token in sequence)

    sums = [total(answer.details.tokens), *(total(one.tokens) for one in others)]
    assert sums == sorted(sums, reverse=True)


def test_truncating_keeps_the_end(hub):
    answer = hub.text_generation(
        "word " * 50 + PROMPT, max_new_tokens=4, truncate=5, details=True, decoder_input_details=True
    )
    assert "".join(token.text for token in answer.details.prefill).strip() == PROMPT


def test_watermarks_are_ignored(hub):
    plain = hub.text_generation(PROMPT, max_new_tokens=4)
    assert hub.text_generation(PROMPT, max_new_tokens=4, watermark=True) == plain


def test_the_hub_client_raises_what_tgi_would(hub):
    with pytest.raises(ValidationError, match="top_n_tokens"):
        hub.text_generation(PROMPT, top_n_tokens=1000)
    with pytest.raises(ValidationError, match="too long"):
        hub.text_generation("word " * 20_000, max_new_tokens=1)
    assert not issubclass(ValidationError, (GenerationError, OverloadedError))


def test_the_text_generation_client_generates(tgi):
    answer = tgi.generate(
        PROMPT, max_new_tokens=6, decoder_input_details=True, top_n_tokens=2, stop_sequences=["zzz"]
    )
    assert "Paris" in answer.generated_text
    assert answer.details.finish_reason == text_generation.types.FinishReason.Length
    assert len(answer.details.tokens) == 6 and len(answer.details.top_tokens) == 6
    assert answer.details.prefill[0].logprob is None
    sampled = tgi.generate(PROMPT, max_new_tokens=6, do_sample=True, best_of=2)
    assert len(sampled.details.best_of_sequences) == 1


def test_the_text_generation_client_streams(tgi):
    plain = tgi.generate(PROMPT, max_new_tokens=9)
    events = list(tgi.generate_stream(PROMPT, max_new_tokens=9))
    assert "".join(e.token.text for e in events) == plain.generated_text
    assert events[-1].generated_text == plain.generated_text
    assert events[-1].details.generated_tokens == 9


def test_the_text_generation_client_chats(tgi):
    asked = [text_generation.types.Message(role="user", content="What is the capital of France?")]
    answer = tgi.chat(asked, max_tokens=12, temperature=0, seed=1)
    assert isinstance(answer, text_generation.types.ChatComplete)
    assert answer.system_fingerprint.startswith("troupe-")
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_chunks_of_a_chat_bear_the_fingerprint_where_a_model_is_named(server):
    # The client itself cannot read OpenAI's streams: it wants a role in every chunk, and no [DONE].
    ask = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3, "stream": True}
    for named in ({"model": "tgi"}, {}):
        text = post(server, "/v1/chat/completions", {**ask, **named})[2]
        *chunks, done = [line[6:] for line in text.split("\n\n") if line]
        assert done == "[DONE]" and len(chunks) > 1
        marks = {json.loads(chunk).get("system_fingerprint") for chunk in chunks}
        assert len(marks) == 1 and (marks.pop() is None) == (not named)


def test_the_text_generation_client_raises_its_errors(tgi):
    with pytest.raises(text_generation.errors.ValidationError):
        tgi.generate("word " * 20_000, max_new_tokens=1)


def test_the_routes_differ_in_form_only(server):
    ask = {"inputs": PROMPT, "parameters": {"max_new_tokens": 4, "details": True}}
    status, kind, text = post(server, "/generate", ask)
    assert (status, kind) == (200, "application/json")
    one = json.loads(text)
    assert set(one["details"]) == {"finish_reason", "generated_tokens", "seed", "prefill", "tokens"}
    assert json.loads(post(server, "/", ask)[2]) == [one]
    status, kind, text = post(server, "/generate_stream", ask)
    assert (status, kind) == (200, "text/event-stream")
    assert post(server, "/", {**ask, "stream": True})[2] == text
    assert text.startswith('data:{"index":1,"token":')
    # A default of its own: LMI's routes stop after 30.
    full = json.loads(post(server, "/generate", {**ask, "parameters": {"details": True, "ignore_eos": True}})[2])
    assert full["details"]["generated_tokens"] == 100


def test_errors_have_a_type(server):
    status, _, text = post(server, "/generate", {"inputs": ""})
    assert status == 422
    assert json.loads(text) == {
        "error": "Input validation error: `inputs` cannot be empty",
        "error_type": "validation",
    }
    assert get(server, "/generate")[0] == 405


def test_health_and_info(server):
    assert get(server, "/health") == (200, b"")
    status, body = get(server, "/info")
    info = json.loads(body)
    assert status == 200 and info["max_total_tokens"] == info["max_input_tokens"] + 1
    assert get(server, "/info?model_name=nosuch")[0] == 404
