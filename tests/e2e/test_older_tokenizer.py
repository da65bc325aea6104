"""A folder with vocab.json and merges.txt in place of tokenizer.json serves as the same model."""

import subprocess

import byte_model
import httpx
import pytest
from conftest import BINARY

TEXTS = ["Grüße, 東京 123", "", "  two  spaces\n", "a</s>b"]
MESSAGES = [{"role": "user", "content": "Hi there"}]


def make_older(folder):
    """What byte_model writes, in the older form of GPT-2's class."""
    byte_model.make_byte_model(folder)
    (folder / "tokenizer.json").unlink()
    model = byte_model.byte_tokenizer()["model"]
    byte_model.write_json(folder / "vocab.json", model["vocab"])
    (folder / "merges.txt").write_text("#version: 0.2\n")
    byte_model.write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "</s>",
        "chat_template": byte_model.TEMPLATE})
    return folder


def answers(server):
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for text in TEXTS:
            yield client.post("/tokenize", json={"prompt": text}).json()
        chat = {"messages": MESSAGES, "max_tokens": 8, "temperature": 0}
        answer = client.post("/v1/chat/completions", json=chat)
        assert answer.status_code == 200, answer.text
        yield answer.json()["choices"], answer.json()["usage"]


def test_it_answers_as_with_tokenizer_json(start, tmp_path):
    older = make_older(tmp_path / "older" / "model")
    before = sorted(p.name for p in older.iterdir())
    newer = byte_model.make_byte_model(tmp_path / "newer" / "model")
    assert list(answers(start(older))) == list(answers(start(newer)))
    assert sorted(p.name for p in older.iterdir()) == before


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_inspect_and_check_tell(tmp_path, command):
    def run(folder):
        done = subprocess.run([str(BINARY), command, str(folder)], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    older = make_older(tmp_path / "model")
    code, text = run(older)
    assert code == 0, text
    if command == "inspect":
        assert "made of vocab.json" in text
    (older / "merges.txt").write_text("#version: 0.2\na b\n")
    code, text = run(older)
    assert code != 0
    assert "merges.txt line 2" in text and "save_pretrained" in text
