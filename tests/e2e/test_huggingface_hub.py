"""huggingface_hub.InferenceClient against the real binary."""

import pytest
from huggingface_hub import InferenceClient

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def client(server):
    return InferenceClient(base_url=server.url + "/v1", timeout=60)


def test_a_chat_is_answered(client):
    answer = client.chat_completion(QUESTION, max_tokens=24, temperature=0)
    assert "Paris" in answer.choices[0].message.content


def test_a_chat_is_streamed(client):
    pieces = [
        chunk.choices[0].delta.content or ""
        for chunk in client.chat_completion(QUESTION, max_tokens=24, temperature=0, stream=True)
        if chunk.choices
    ]
    assert len(pieces) > 3
    assert "Paris" in "".join(pieces)
