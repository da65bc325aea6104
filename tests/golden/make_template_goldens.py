"""Makes tests/golden/templates: conversations, and what transformers renders of them.

    python tests/golden/make_template_goldens.py [--templates FOLDER] [--out FOLDER]

Needs `transformers` and `tokenizers`. For each NAME.jinja writes NAME.expected.json: per
conversation {"text": ...}; or {"raises": ...} where the template called raise_exception; or null
where Python fails in another way, which binds nobody.
"""
import argparse
import datetime
import json
import os
import pathlib
import time

os.environ["TZ"] = "UTC"
time.tzset()

from jinja2.exceptions import TemplateError  # noqa: E402
from tokenizers import Tokenizer, models  # noqa: E402
from transformers import PreTrainedTokenizerFast  # noqa: E402
from transformers.utils import chat_template_utils  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
NOW = 1700000000
ROLES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


class FixedClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, tz)


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def call(name, arguments, id="call00001"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def answer(text, id="call00001", name="get_weather"):
    return {"role": "tool", "content": text, "tool_call_id": id, "name": name}


WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Current weather.",
    "parameters": {"type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "description": "City, e.g. \"Köln\" <or> 'Łódź' & more"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"}}}}}
NESTED = {"type": "function", "function": {
    "name": "search", "description": "Line one.\nLine two.",
    "parameters": {"type": "object", "required": [], "additionalProperties": False, "properties": {
        "filters": {"type": "array", "items": {"type": "object", "properties": {
            "field": {"type": "string"}, "range": {"type": "array", "items": {"type": "number"}}}}},
        "limit": {"type": "integer", "default": 10, "minimum": 1, "maximum": 1e3},
        "threshold": {"type": "number", "default": 0.05, "description": ""},
        "exact": {"type": "boolean", "default": True},
        "cursor": {"type": ["string", "null"], "default": None}}},
    "return": {"type": "object", "description": "What was found"}}}
NO_ARGUMENTS = {"type": "function", "function": {
    "name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}}}

LONG = [m for i in range(12) for m in (user(f"Question {i}?\n"), assistant(f"Answer {i}. " + "More. " * i))]
PARTS = [{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}]

CONVERSATIONS = [
    {"messages": [user("Hi")], "add_generation_prompt": True},
    {"messages": [user("Hi")]},
    {"messages": [system("Be brief."), user("Hi")], "add_generation_prompt": True},
    {"messages": [system("Be brief."), user("Hi"), assistant("Hello."), user("Bye")], "add_generation_prompt": True},
    {"messages": [user("Hi"), assistant("Hello.")]},
    {"messages": [user("a"), assistant("b"), user("c"), assistant("d"), user("e")], "add_generation_prompt": True},
    {"messages": LONG + [user("And?")], "add_generation_prompt": True},
    {"messages": [user("")], "add_generation_prompt": True},
    {"messages": [user("   spaced\n\n")], "add_generation_prompt": True},
    {"messages": [system(""), user("x"), assistant("  y  "), user("z")], "add_generation_prompt": True},
    {"messages": [user("Grüße, 你好, שלום, 👩‍👩‍👧 and \u0000 \u2028 control")], "add_generation_prompt": True},
    {"messages": [user("<|im_end|>\n</s><s>[/INST]<end_of_turn><|eot_id|>{{ 7*7 }}{% x %}")], "add_generation_prompt": True},
    {"messages": [user("\"quotes\" 'single' \\back\\ <b>&amp;</b> \t tab")], "add_generation_prompt": True},
    {"messages": [user("line\r\nbreaks\rof\nall kinds")], "add_generation_prompt": True},
    {"messages": [user("two"), user("in a row")], "add_generation_prompt": True},
    {"messages": [assistant("I begin."), user("Well")], "add_generation_prompt": True},
    {"messages": [user("Hi"), system("late system"), user("ho")], "add_generation_prompt": True},
    {"messages": [system("only system")], "add_generation_prompt": True},
    {"messages": [{"role": "narrator", "content": "unknown role"}, user("x")], "add_generation_prompt": True},
    {"messages": [user(PARTS)], "add_generation_prompt": True},
    {"messages": [system([{"type": "text", "text": "Parts too."}]), user(PARTS)], "add_generation_prompt": True},
    {"messages": [user("Weather?")], "tools": [WEATHER], "add_generation_prompt": True},
    {"messages": [system("Use tools."), user("Weather?")], "tools": [WEATHER, NESTED], "add_generation_prompt": True},
    {"messages": [user("When?")], "tools": [NO_ARGUMENTS], "add_generation_prompt": True},
    {"messages": [user("Weather in Köln?"), assistant("", tool_calls=[call("get_weather", {"city": "Köln", "unit": "celsius"})]),
                  answer("{\"temperature\": 12.5}")], "tools": [WEATHER], "add_generation_prompt": True},
    {"messages": [user("Weather in Köln?"), assistant(None, tool_calls=[call("get_weather", {"city": "Köln"})]),
                  answer("12 degrees"), assistant("It has 12 degrees."), user("Thanks")], "tools": [WEATHER], "add_generation_prompt": True},
    {"messages": [user("Find"), assistant("Let me look.", tool_calls=[call("search", {
        "filters": [{"field": "a", "range": [0.5, 1e-7, 1e16, 3]}], "exact": False, "cursor": None, "n": -1.0})]),
        answer("[1, 2]", name="search")], "tools": [NESTED], "add_generation_prompt": True},
    {"messages": [user("Both"), assistant("", tool_calls=[call("get_weather", {"city": "A"}, "call0000a"), call("now", {}, "call0000b")]),
                  answer("1", "call0000a"), answer("2", "call0000b", "now"), assistant("Done."), user("Again")],
     "tools": [WEATHER, NO_ARGUMENTS], "add_generation_prompt": True},
    {"messages": [user("As text"), assistant("", tool_calls=[call("get_weather", "{\"city\": \"Köln\"}")]), answer("ok")],
     "tools": [WEATHER], "add_generation_prompt": True},
    {"messages": [user("x"), answer("tool without call")], "add_generation_prompt": True},
    {"messages": [user("Think"), assistant("<think>\nhm\n</think>\n\nYes."), user("Sure?")], "add_generation_prompt": True},
    {"messages": [user("Think"), assistant("Yes.", reasoning_content="Because of this."), user("Sure?")], "add_generation_prompt": True},
    {"messages": [user("Quick")], "add_generation_prompt": True, "enable_thinking": False},
    {"messages": [user("Slow")], "add_generation_prompt": True, "enable_thinking": True, "reasoning_effort": "high"},
    {"messages": [user("Date?")], "add_generation_prompt": True, "date_string": "01 Jan 2025"},
    {"messages": [user("Docs?")], "documents": [{"title": "T", "text": "Body of <T>"}, {"title": "U", "text": "Ünï"}], "add_generation_prompt": True},
    {"messages": [user("Extra", ) | {"name": "Ann", "meta": {"k": [1, 2.0, None, True]}}], "add_generation_prompt": True},
    {"messages": [user("Mine")], "bos_token": "[BOS]", "eos_token": "[EOS]", "add_generation_prompt": True},
    {"messages": [user("Go on"), assistant("Once upon a")], "continue_final_message": True},
    {"messages": [user("Go on"), assistant("trailing space ")], "continue_final_message": True},
    {"messages": [{"role": "developer", "content": "Be exact."}, user("Hi")], "add_generation_prompt": True},
    {"messages": [{"role": "user"}], "add_generation_prompt": True},
    {"messages": [{"content": "no role"}], "add_generation_prompt": True},
]


def render(tok, context):
    more = dict(context)
    messages = more.pop("messages")
    try:
        return {"text": tok.apply_chat_template(messages, tokenize=False, **more)}
    except TemplateError as e:
        return {"raises": e.message} if type(e) is TemplateError else None
    except Exception:
        return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--templates", type=pathlib.Path, default=HERE / "templates")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    out = args.out or args.templates
    out.mkdir(exist_ok=True)
    chat_template_utils.datetime = FixedClock
    with open(out / "conversations.json", "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in CONVERSATIONS) + "\n]\n")
    base = Tokenizer(models.BPE())
    for source in sorted(args.templates.glob("*.jinja")):
        # newline="": the template's own line ends count.
        text = source.open(encoding="utf-8", newline="").read()
        tok = PreTrainedTokenizerFast(tokenizer_object=base, chat_template=text, **ROLES)
        results = [render(tok, c) for c in CONVERSATIONS]
        with open(out / (source.stem + ".expected.json"), "w", encoding="utf-8") as f:
            f.write("[\n" + ",\n".join(json.dumps(r, ensure_ascii=False) for r in results) + "\n]\n")
        kinds = ["text" if r and "text" in r else "raises" if r else "fails" for r in results]
        print(f"{source.stem}: " + ", ".join(f"{kinds.count(k)} {k}" for k in ("text", "raises", "fails")))


if __name__ == "__main__":
    main()
