"""The openai SDK against the real binary."""

import concurrent.futures

import openai
import pytest

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def model(client):
    return client.models.list().data[0].id


def chat(client, model, **more):
    return client.chat.completions.create(
        model=model, messages=QUESTION, **{"max_tokens": 24, "temperature": 0, **more}
    )


def test_a_chat_is_answered(client, model):
    answer = chat(client, model)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_says_what_the_plain_answer_says(client, model):
    plain = chat(client, model)
    chunks = list(chat(client, model, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == plain.choices[0].message.content
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert reasons == [plain.choices[0].finish_reason]
    assert chunks[-1].usage == plain.usage


def test_a_stop_string_ends_the_answer_before_it(client, model):
    answer = chat(client, model, stop=["Paris"])
    assert "Paris" not in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"


def test_log_probabilities_come_with_bytes_and_alternatives(client, model):
    answer = chat(client, model, logprobs=True, top_logprobs=3, max_tokens=4)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    for entry in content:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 3
        assert bytes(entry.bytes).decode(errors="replace").strip() == entry.token.strip()
        assert entry.top_logprobs[0].logprob == pytest.approx(entry.logprob)


def test_a_seed_repeats_a_sample_and_n_gives_as_many_choices(client, model):
    def sampled():
        answer = chat(client, model, temperature=1.0, seed=7, n=3)
        return [choice.message.content for choice in answer.choices]

    first = sampled()
    assert len(first) == 3
    assert len(set(first)) > 1
    assert sampled() == first
    # The first of several is what the seed gives alone, and what it streams.
    assert chat(client, model, temperature=1.0, seed=7).choices[0].message.content == first[0]
    streamed = [""] * 3
    for event in chat(client, model, temperature=1.0, seed=7, n=3, stream=True):
        for choice in event.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == first


def test_completions_take_text_lists_and_token_ids(client, model):
    text = client.completions.create(model=model, prompt="Tea is", max_tokens=8, temperature=0)
    several = client.completions.create(
        model=model, prompt=["Tea is", "Rain is"], max_tokens=8, temperature=0
    )
    assert [c.index for c in several.choices] == [0, 1]
    assert several.choices[0].text == text.choices[0].text
    ids = client.post(
        "../tokenize", cast_to=object, body={"model": model, "prompt": "Tea is"}
    )["tokens"]
    again = client.completions.create(model=model, prompt=ids, max_tokens=8, temperature=0)
    assert again.choices[0].text == text.choices[0].text
    streamed = client.completions.create(
        model=model, prompt="Tea is", max_tokens=8, temperature=0, stream=True
    )
    assert "".join(c.choices[0].text for c in streamed if c.choices) == text.choices[0].text


def test_errors_are_the_sdks_own(client, model):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, model, temperature=3)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=model, messages=[])
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=model, prompt="word " * 20_000, max_tokens=1)
    assert "too long" in caught.value.message
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="no-such-model", messages=QUESTION)


def test_the_answer_does_not_depend_on_the_neighbours(client, model):
    alone = chat(client, model).choices[0].message.content
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        others = [
            pool.submit(
                client.completions.create,
                model=model,
                prompt=f"Story number {i}: once upon a time",
                max_tokens=16 + i,
                temperature=0.8,
            )
            for i in range(8)
        ]
        same = [pool.submit(chat, client, model) for _ in range(4)]
        assert {s.result().choices[0].message.content for s in same} == {alone}
        for other in others:
            assert other.result().choices[0].text


def test_a_cancelled_stream_frees_its_place(client, model, server):
    import time

    import httpx

    stream = client.completions.create(
        model=model, prompt="Count:", max_tokens=1500, temperature=0, stream=True
    )
    next(iter(stream))
    stream.close()
    for _ in range(100):
        metrics = httpx.get(server.url + "/metrics").text
        values = [
            float(line.rsplit(" ", 1)[1])
            for line in metrics.splitlines()
            if line.startswith(("troupe_requests_running", "troupe_kv_blocks_used"))
        ]
        assert values
        if sum(values) == 0:
            return
        time.sleep(0.05)
    pytest.fail("running requests and used KV blocks did not return to zero")
