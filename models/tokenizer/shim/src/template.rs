//! Compiling and rendering chat templates.

use crate::template_env::{environment, Raised, NOW};
use crate::{free, guarded, Failure, OwnedString, Slice};
use minijinja::value::Serde;
use minijinja::{Environment, Error};
use serde_json::{Map, Value as Json};
use std::io::Write;

/// The largest template in use has 40 KB.
const MAX_SOURCE: usize = 256 << 10;
/// Operators within one tag nest as deep as the tag is long, in the parser and in its tree's
/// destructor; the stack goes with that.
const MAX_TAG: usize = 64 << 10;
const COMPILE_STACK: usize = 128 << 20;
/// Prefix operators in a row: the compiler's time grows with the square.
const MAX_PREFIXES: usize = 64;
/// A prompt cannot be larger; a template that loops may well write more.
const MAX_OUTPUT: usize = 64 << 20;
const NAME: &str = "chat_template";
const CONTINUE_TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

pub struct Template {
    env: Environment<'static>,
    defaults: Map<String, Json>,
    source: String,
}

/// `{% generation %}` marks the assistant's text for training; here it is a scope.
/// Also makes all line ends "\n", as jinja2 does.
fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        rest = tag;
        let body = tag.trim_start_matches(['-', '+']).trim_start();
        let skipped = tag.len() - body.len();
        for (word, with) in [("generation", "with"), ("endgeneration", "endwith")] {
            if let Some(end) = body.strip_prefix(word) {
                let closes = end.trim_start().trim_start_matches(['-', '+']);
                if closes.starts_with("%}") {
                    out.push_str(&tag[..skipped]);
                    out.push_str(with);
                    rest = end;
                }
            }
        }
    }
    out.push_str(rest);
    out
}

/// The error as one line: what raise_exception said, or the engine's words and the line.
fn describe(error: &Error) -> String {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = source {
        if let Some(raised) = e.downcast_ref::<Raised>() {
            return raised.0.clone();
        }
        source = e.source();
    }
    let mut text = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    if let Some(line) = error.line() {
        text += &format!(" (line {line} of the template)");
    }
    text
}

/// Where the string literal that starts with `quote` ends, or the end of the text.
fn skip_literal(body: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < body.len() && body[at] != quote {
        at += if body[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(body.len())
}

/// Refuses what the compiler takes excessive time or stack for; no template in use comes near.
fn check_tags(source: &str) -> Result<(), Failure> {
    let bytes = source.as_bytes();
    let mut at = 0;
    while let Some(open) = source[at..].find(['{']).map(|i| at + i) {
        let end: &[u8] = match bytes.get(open + 1) {
            Some(b'{') => b"}}",
            Some(b'%') => b"%}",
            Some(b'#') => {
                at = source[open..].find("#}").map_or(bytes.len(), |i| open + i + 2);
                continue;
            }
            _ => {
                at = open + 1;
                continue;
            }
        };
        at = open + 2;
        let mut prefixes = 0;
        while at < bytes.len() && !bytes[at..].starts_with(end) {
            let step = match bytes[at] {
                quote @ (b'"' | b'\'') => {
                    prefixes = 0;
                    skip_literal(&bytes[at..], quote)
                }
                b'-' | b'+' => {
                    prefixes += 1;
                    1
                }
                b'n' if bytes[at..].starts_with(b"not") => {
                    prefixes += 1;
                    3
                }
                c if c.is_ascii_whitespace() => 1,
                _ => {
                    prefixes = 0;
                    1
                }
            };
            at += step;
            if prefixes > MAX_PREFIXES || at - open > MAX_TAG {
                let line = source[..open].matches('\n').count() + 1;
                return Err(Failure::failed(format!("the tag at line {line} is too complex")));
            }
        }
        while !source.is_char_boundary(at.min(bytes.len())) {
            at += 1;
        }
        at = at.min(bytes.len());
    }
    Ok(())
}

fn compile(source: &str, defaults: Map<String, Json>) -> Result<Template, Failure> {
    if source.len() > MAX_SOURCE {
        return Err(Failure::failed(format!(
            "the template has {} bytes, more than {MAX_SOURCE}",
            source.len()
        )));
    }
    let source = prepare(source);
    check_tags(&source)?;
    let work = {
        let source = source.clone();
        move || {
            let mut env = environment();
            match env.add_template_owned(NAME, source) {
                Ok(()) => Ok(env),
                Err(e) => Err(describe(&e)),
            }
        }
    };
    // On a stack of its own: neither the parser nor the destructor of its tree bounds its depth.
    let thread = std::thread::Builder::new()
        .name("chat-template".into())
        .stack_size(COMPILE_STACK)
        .spawn(work)
        .map_err(|e| Failure::failed(format!("no thread to compile the template: {e}")))?;
    match thread.join() {
        Ok(Ok(env)) => Ok(Template { env, defaults, source }),
        Ok(Err(text)) => Err(Failure::failed(text)),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Memory for the rendered text, up to a limit.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(std::io::Error::other(format!(
                "the rendered text exceeds {MAX_OUTPUT} bytes"
            )));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Marks the end of the field that generation is to continue; returns its text.
fn mark_final_message(
    context: &mut Map<String, Json>,
    field: &str,
    source: &str,
) -> Result<String, Failure> {
    let last = context.get_mut("messages").and_then(Json::as_array_mut).and_then(|m| m.last_mut());
    let content =
        last.and_then(|m| m.get_mut(field)).filter(|c| !c.is_null()).ok_or_else(|| {
            Failure::bad_input(format!(
            "continue_final_message is set but the final message has no \"{field}\" to continue"
        ))
        })?;
    if !source.contains(field) {
        return Err(Failure::bad_input(format!(
            "continue_final_message is set to \"{field}\", which the chat template does not use"
        )));
    }
    let place = match content {
        Json::Array(blocks) => blocks.iter_mut().rev().find_map(|block| block.get_mut("text")),
        other => Some(other),
    };
    match place {
        Some(Json::String(text)) => {
            let original = text.clone();
            text.push_str(CONTINUE_TAG);
            Ok(original)
        }
        _ => Err(Failure::bad_input(
            "continue_final_message is set but the final message has no text to continue",
        )),
    }
}

/// Cuts the rendered chat where the final message ends.
fn cut_at_mark(mut rendered: String, message: &str) -> Result<String, Failure> {
    let place = rendered.rfind(CONTINUE_TAG.trim());
    match place {
        Some(at) if rendered.contains(message.trim()) => {
            let spaced = rendered[at..].starts_with(CONTINUE_TAG);
            rendered.truncate(at);
            if !spaced {
                rendered.truncate(rendered.trim_end().len());
            }
            Ok(rendered)
        }
        _ => Err(Failure::failed(
            "continue_final_message is set but the chat template drops or changes the final message",
        )),
    }
}

impl Template {
    fn context(&self, json: &[u8]) -> Result<Map<String, Json>, Failure> {
        let bad = |e: &dyn std::fmt::Display| {
            Failure::bad_input(format!("the chat's context is not a JSON object: {e}"))
        };
        let mut context: Map<String, Json> = match serde_json::from_slice(json) {
            Ok(Json::Object(map)) => map,
            Ok(_) => return Err(bad(&"it is of another type")),
            Err(e) => return Err(bad(&e)),
        };
        match context.get("messages") {
            Some(Json::Array(messages)) if !messages.is_empty() => {}
            Some(Json::Array(_)) => {
                return Err(Failure::bad_input("messages is empty: give at least one message"))
            }
            _ => return Err(Failure::bad_input("messages is missing or not an array")),
        }
        for (name, absent) in [
            ("tools", Json::Null),
            ("documents", Json::Null),
            ("add_generation_prompt", Json::Bool(false)),
        ] {
            context.entry(name).or_insert(absent);
        }
        for (name, value) in &self.defaults {
            context.entry(name.as_str()).or_insert_with(|| value.clone());
        }
        Ok(context)
    }

    fn render(&self, json: &[u8], now: i64) -> Result<String, Failure> {
        let mut context = self.context(json)?;
        let field = match context.shift_remove("continue_final_message") {
            Some(Json::Bool(true)) => Some("content".to_string()),
            Some(Json::String(field)) if !field.is_empty() => Some(field),
            _ => None,
        };
        if field.is_some() && context["add_generation_prompt"] == Json::Bool(true) {
            return Err(Failure::bad_input(
                "continue_final_message and add_generation_prompt exclude each other",
            ));
        }
        let continued = match &field {
            Some(field) => Some(mark_final_message(&mut context, field, &self.source)?),
            None => None,
        };
        NOW.set(if now >= 0 {
            now
        } else {
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |d| d.as_secs() as i64)
        });
        let failed = |e: Error| Failure::failed(describe(&e));
        let template = self.env.get_template(NAME).map_err(failed)?;
        let mut out = Bounded(Vec::new());
        template
            .render_captured_to(minijinja::Value::from(Serde(&context)), &mut out)
            .map_err(failed)?;
        let text = String::from_utf8(out.0).map_err(|e| Failure::failed(e.to_string()))?;
        match continued {
            Some(message) => cut_at_mark(text, &message),
            None => Ok(text),
        }
    }
}

/// # Safety
/// As in `shim.h`.
#[no_mangle]
pub unsafe extern "C" fn tt_template_compile(
    source: Slice,
    defaults: Slice,
    out: *mut *mut Template,
    err: *mut OwnedString,
) -> i32 {
    guarded(err, || {
        let source = source.text("the template")?;
        let defaults =
            serde_json::from_slice(defaults.bytes()).map_err(|e| Failure::failed(e.to_string()))?;
        let template = compile(source, defaults)?;
        out.write(Box::into_raw(Box::new(template)));
        Ok(())
    })
}

/// # Safety
/// As in `shim.h`.
#[no_mangle]
pub unsafe extern "C" fn tt_template_free(t: *mut Template) {
    free(t);
}

/// # Safety
/// As in `shim.h`.
#[no_mangle]
pub unsafe extern "C" fn tt_template_render(
    t: *const Template,
    context: Slice,
    now: i64,
    out: *mut OwnedString,
    err: *mut OwnedString,
) -> i32 {
    guarded(err, || {
        out.write(OwnedString::of((*t).render(context.bytes(), now)?));
        Ok(())
    })
}
