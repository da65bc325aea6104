"""What the notes of the examples say and a pattern cannot: one function per example.

Each takes the client, the example's request and the answer that has matched its pattern.
"""

import copy
import threading


def changed(request, **parameters):
    """The request with other `parameters`; None takes one out."""
    other = copy.deepcopy(request)
    inner = other["body"].setdefault("parameters", {})
    for name, value in parameters.items():
        inner.pop(name, None)
        if value is not None:
            inner[name] = value
    return other


def joined(tokens):
    return "".join(token["text"] for token in tokens)


def beside_others(client, work, count=6):
    """Runs `work` while `count` other requests of several kinds generate; returns its result."""
    bodies = [
        {
            "inputs": f"Beside it, number {i}:",
            "parameters": {"max_new_tokens": 24, "do_sample": bool(i % 2), "seed": i, "top_p": 0.9},
        }
        for i in range(count)
    ]
    statuses = []
    others = [
        threading.Thread(target=lambda b=b: statuses.append(client.post("/invocations", b).status))
        for b in bodies
    ]
    for one in others:
        one.start()
    result = work()
    for one in others:
        one.join()
    assert statuses == [200] * count
    return result


def repeatable(client, request, answer):
    assert client.send(request).json == answer.json
    assert beside_others(client, lambda: client.send(request)).json == answer.json


def details_agree(client, request, answer):
    body = answer.json[0] if isinstance(answer.json, list) else answer.json
    details = body["details"]
    assert details["generated_tokens"] == len(details["tokens"])
    assert joined(details["tokens"]) == body["generated_text"]


def stream_agrees(kind):
    def check(client, request, answer):
        records = answer.records(kind)
        last = records[-1]
        assert joined(record["token"] for record in records) == last["generated_text"]
        if "details" in last:
            assert last["details"]["generated_tokens"] == len(records)
            assert "tokens" not in last["details"]
        plain = copy.deepcopy(request)
        plain["body"]["stream"] = False
        if kind == "sse":
            # An explicit formatter wins against `stream`.
            plain["body"].setdefault("parameters", {})["output_formatter"] = "json"
        whole = client.send(plain).json
        whole = whole[0] if isinstance(whole, list) else whole
        assert whole["generated_text"] == last["generated_text"]
        if "details" in last:
            assert whole["details"].pop("tokens") == [record["token"] for record in records]
            assert whole["details"] == last["details"]

    return check


def stops_before_the_stop(client, request, answer):
    body = answer.json
    details = body["details"]
    assert details["finish_reason"] == "stop_sequence", "the model's continuation has a full stop"
    assert details["generated_tokens"] == len(details["tokens"])
    assert joined(details["tokens"]).startswith(body["generated_text"] + ".")
    assert joined(details["tokens"][:-1]) in (body["generated_text"], body["generated_text"][:-1])
    kept = client.send(changed(request, include_stop_str_in_output=True)).json
    assert kept["generated_text"] == body["generated_text"] + "."


def full_text_is_prompt_and_text(client, request, answer):
    bare = client.send(changed(request, return_full_text=None)).json
    assert answer.json["generated_text"] == request["body"]["inputs"] + bare["generated_text"]


def lists_likely_tokens(client, request, answer):
    details = answer.json["details"]
    first, *rest = details["prefill"]
    assert first["log_prob"] is None
    assert all(token["log_prob"] is not None for token in rest)
    assert joined(details["prefill"]) == request["body"]["inputs"]
    assert len(details["top_tokens"]) == len(details["tokens"]) == details["generated_tokens"]
    for chosen, likely in zip(details["tokens"], details["top_tokens"], strict=True):
        levels = [token["log_prob"] for token in likely]
        assert levels == sorted(levels, reverse=True)
        assert chosen == likely[0], "greedy takes the likeliest"


def best_comes_first(client, request, answer):
    assert "details" not in request["body"]["parameters"]
    details = answer.json["details"]
    all_of_them = [{**details, "generated_text": answer.json["generated_text"]}]
    all_of_them += details["best_of_sequences"]
    scores = [sum(token["log_prob"] for token in one["tokens"]) for one in all_of_them]
    assert scores[0] == max(scores)
    for one in all_of_them:
        assert one["generated_tokens"] == len(one["tokens"])
        assert joined(one["tokens"]) == one["generated_text"]
    assert len({one["generated_text"] for one in all_of_them}) > 1, "each has its own randomness"
    assert client.send(request).json == answer.json


def beams_come_by_score(client, request, answer):
    details = answer.json["details"]
    all_of_them = [{**details, "generated_text": answer.json["generated_text"]}]
    all_of_them += details["best_of_sequences"]
    scores = []
    for one in all_of_them:
        assert one["generated_tokens"] == len(one["tokens"])
        assert joined(one["tokens"]) == one["generated_text"]
        scores.append(sum(token["log_prob"] for token in one["tokens"]) / len(one["tokens"]))
    assert scores == sorted(scores, reverse=True)
    assert len({one["generated_text"] for one in all_of_them}) == len(all_of_them)
    repeatable(client, request, answer)
    best = client.send(changed(request, n=1, details=True)).json
    assert best["generated_text"] == answer.json["generated_text"]
    assert best["details"]["tokens"] == details["tokens"]
    assert "best_of_sequences" not in best["details"]
    greedy = client.send(changed(request, num_beams=None, details=True)).json["details"]["tokens"]
    assert scores[0] >= sum(token["log_prob"] for token in greedy) / len(greedy) - 1e-6


def contrastive_is_itself(client, request, answer):
    repeatable(client, request, answer)
    greedy = client.send(
        changed(request, decoding_strategy=None, top_k=None, penalty_alpha=None)
    ).json["generated_text"]
    assert client.send(changed(request, penalty_alpha=0)).json["generated_text"] == greedy
    assert client.send(changed(request, penalty_alpha=1)).json["generated_text"] != greedy
    streamed = copy.deepcopy(request)
    streamed["body"]["stream"] = True
    last = client.send(streamed).records("jsonlines")[-1]
    assert last["generated_text"] == answer.json["generated_text"]


def prompts_do_not_depend_on_each_other(client, request, answer):
    for prompt, whole in zip(request["body"]["inputs"], answer.json, strict=True):
        alone = copy.deepcopy(request)
        alone["body"]["inputs"] = prompt
        assert client.send(alone).json == [whole]
        bare = changed(alone, return_full_text=False)
        assert client.send(bare).json == [{"generated_text": whole["generated_text"][len(prompt) :]}]
    several = changed(request, do_sample=True, num_return_sequences=2, seed=5)
    answers = client.send(several).json
    assert [len(one) for one in answers] == [2, 2]
    assert client.send(several).json == answers
    assert client.send(changed(request, num_return_sequences=2)).status == 424
    beams = client.send(changed(request, num_beams=3, num_return_sequences=2)).json
    assert beams == client.send(changed(request, num_beams=3, num_return_sequences=2)).json
    assert client.send(changed(request, max_length=3)).status in (200, 424)


def a_line_per_token(client, request, answer):
    lines = answer.records("jsonlines")
    assert len(lines) <= 3
    text = copy.deepcopy(request)
    text["body"]["inputs"] = "Red and"
    assert client.send(text).status == 424, "a list is wanted"


def reuses_the_prefix(client, request, answer):
    assert client.send(request).json == answer.json
    together = copy.deepcopy(request)
    together["body"]["inputs"] = together["body"].pop("cached_prompt") + request["body"]["inputs"]
    whole = client.send(together).json
    assert whole["details"]["tokens"] == answer.json["details"]["tokens"]
    # A prefix of many blocks, because the example's is shorter than one.
    long = copy.deepcopy(request)
    long["body"]["cached_prompt"] = "The lighthouse keeper counts each ship that passes. " * 8
    before = client.gauge("troupe_cached_prompt_tokens_total")
    first = client.send(long).json
    between = client.gauge("troupe_cached_prompt_tokens_total")
    long["body"]["inputs"] = " And one planet more?"
    client.send(long)
    assert client.gauge("troupe_cached_prompt_tokens_total") - between >= 64
    long["body"]["inputs"] = request["body"]["inputs"]
    assert client.send(long).json == first
    assert between == before, "nobody had sent the long prefix yet"


def leaves_others_alone(client, request, answer):
    good = changed(request, max_new_tokens=24)
    alone = client.send(good).json
    beside = []
    thread = threading.Thread(target=lambda: beside.append(client.send(good).json))
    thread.start()
    while thread.is_alive():
        assert client.send(request).status == 424
    assert beside == [alone]


def names_both_lengths(client, request, answer):
    assert "exceeds limit of 16" in answer.json["error"]
    assert client.post("/invocations", {"inputs": "Hi"}).status == 200


def usage_adds_up(client, request, answer):
    usage = answer.json["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 1 <= usage["completion_tokens"] <= request["body"]["max_tokens"]


def is_chat_on_every_route(client, request, answer):
    usage_adds_up(client, request, answer)
    for path in ("/predictions/MODEL", "/models/MODEL/invoke"):
        other = client.send({**request, "path": path}).json
        assert other["choices"] == answer.json["choices"]
    text = copy.deepcopy(request)
    text["body"]["messages"][0]["content"] = "Count to\nthree."
    other = client.send(text).json
    assert other["choices"] == answer.json["choices"]
    assert other["usage"] == answer.json["usage"]


def chat_stream_agrees(kind, terminator=None):
    def check(client, request, answer):
        records = answer.records(kind, terminator)
        assert len({(record["id"], record["created"]) for record in records}) == 1
        choices = [record["choices"][0] for record in records]
        plain = copy.deepcopy(request)
        plain["body"]["stream"] = False
        whole = client.send(plain).json["choices"][0]
        content = "".join(choice["delta"].get("content", "") for choice in choices)
        assert content == whole["message"]["content"]
        assert choices[-1]["finish_reason"] == whole["finish_reason"]

    return check


def logprobs_are_those_of_the_text(client, request, answer):
    usage_adds_up(client, request, answer)
    choice = answer.json["choices"][0]
    entries = choice["logprobs"]["content"]
    assert len(entries) == answer.json["usage"]["completion_tokens"]
    spoken = b"".join(bytes(entry["bytes"]) for entry in entries)
    if choice["finish_reason"] == "length":
        assert spoken.decode() == choice["message"]["content"]
    for entry in entries:
        likely = entry["top_logprobs"]
        levels = [one["logprob"] for one in likely]
        assert levels == sorted(levels, reverse=True)
        assert {**entry, "top_logprobs": 0} == {**likely[0], "top_logprobs": 0}


def lmi_route_refuses_alike(client, request, answer):
    other = client.send({**request, "path": "/invocations"})
    assert other.status == 424
    body = other.json
    assert body["code"] == 424 and set(body) == {"code", "error"}
    assert body["error"].startswith("Input Parsing failed.")
    assert "temperature must be between 0 and 2" in body["error"]


def only_what_was_asked(client, request, answer):
    samples = [line for line in answer.text.splitlines() if not line.startswith("#")]
    assert len(samples) == 1
    assert samples[0].startswith("StartupLatency{Host=")
    assert float(samples[0].split()[-1]) > 0


RELATIONS = {
    "generate-beams": beams_come_by_score,
    "generate-contrastive": contrastive_is_itself,
    "pipeline-text-generation-list": prompts_do_not_depend_on_each_other,
    "pipeline-legacy-streaming": a_line_per_token,
    "generate-basic": repeatable,
    "generate-details": details_agree,
    "generate-stream-jsonlines": stream_agrees("jsonlines"),
    "generate-stream-sse-option": stream_agrees("sse"),
    "tgi-compat-json": details_agree,
    "tgi-compat-stream": stream_agrees("sse"),
    "generate-stop-sequence": stops_before_the_stop,
    "generate-return-full-text": full_text_is_prompt_and_text,
    "generate-prefill-and-top-tokens": lists_likely_tokens,
    "generate-seeded-sampling": repeatable,
    "generate-best-of": best_comes_first,
    "generate-cached-prompt": reuses_the_prefix,
    "generate-bad-parameter": leaves_others_alone,
    "generate-prompt-too-long": names_both_lengths,
    "chat-basic": usage_adds_up,
    "chat-on-invocations-content-parts": is_chat_on_every_route,
    "chat-stream-jsonlines": chat_stream_agrees("jsonlines"),
    "chat-stream-sse": chat_stream_agrees("sse", "[DONE]"),
    "chat-logprobs": logprobs_are_those_of_the_text,
    "chat-temperature-out-of-range": lmi_route_refuses_alike,
    "completions-openai-ours": usage_adds_up,
    "metrics-filtered": only_what_was_asked,
}
