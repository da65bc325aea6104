//! The Jinja that chat templates are written for: jinja2 as transformers sets it up.
//! Source: transformers, chat_template_utils.py, _cached_compile_jinja_template.

use crate::python::{as_float, float_repr, is_space, repr, split_lines, text_of, to_json};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{from_args, Kwargs, Rest, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, Value};
use std::cell::Cell;

/// Instructions of one rendering. A long chat with tools takes some 100,000.
const FUEL: u64 = 20_000_000;

/// What raise_exception was called with; found again in an error's chain of sources.
#[derive(Debug)]
pub struct Raised(pub String);

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

thread_local! {
    /// Seconds since 1970 that strftime_now shows during the present rendering.
    pub static NOW: Cell<i64> = const { Cell::new(0) };
}

fn unknown_method() -> Error {
    Error::from(ErrorKind::UnknownMethod)
}

/// Python's strftime on a datetime without a time zone.
fn strftime(format: &str, now: i64) -> Result<String, Error> {
    let failed = || Error::new(ErrorKind::InvalidOperation, "strftime_now: no such time or format");
    // libc knows neither microseconds nor that there is no zone.
    let mut plain = String::with_capacity(format.len());
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '%' { chars.next() } else { None }) {
            ('%', Some('f')) => plain.push_str("000000"),
            ('%', Some('z' | 'Z')) => {}
            ('%', Some(other)) => plain.extend(['%', other]),
            ('%', None) => plain.push_str("%%"),
            (c, _) => plain.push(c),
        }
    }
    if plain.is_empty() {
        return Ok(plain);
    }
    if plain.len() > 4096 {
        return Err(failed());
    }
    // A trailing mark tells "no room" from "nothing to write".
    let pattern = std::ffi::CString::new(plain + "|").map_err(|_| failed())?;
    let mut out = vec![0u8; 64 * pattern.as_bytes().len() + 256];
    let written = unsafe {
        let time = now as libc::time_t;
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&time, &mut parts).is_null() {
            return Err(failed());
        }
        libc::strftime(out.as_mut_ptr().cast(), out.len(), pattern.as_ptr(), &parts)
    };
    out.truncate(written);
    out.pop().ok_or_else(failed)?;
    String::from_utf8(out).map_err(|_| failed())
}

fn indent(
    value: &Value,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let width = match width {
        Some(width) => Some(width),
        None => kwargs.get("width")?,
    };
    let first = first.or(kwargs.get("first")?).unwrap_or(false);
    let blank = blank.or(kwargs.get("blank")?).unwrap_or(false);
    kwargs.assert_all_used()?;
    let indention = match width {
        None => " ".repeat(4),
        Some(w) => match w.as_str() {
            Some(s) => s.to_string(),
            None => " ".repeat(i64::try_from(w)?.clamp(0, 1024) as usize),
        },
    };
    let text = text_of(value)? + "\n";
    let mut out = String::with_capacity(text.len());
    if first {
        out.push_str(&indention);
    }
    for (i, line) in split_lines(&text).into_iter().enumerate() {
        if i > 0 {
            out.push('\n');
            if blank || !line.is_empty() {
                out.push_str(&indention);
            }
        }
        out.push_str(line);
    }
    Ok(out)
}

fn as_number(v: &Value) -> Option<f64> {
    match v.as_str() {
        Some(s) => s.trim().replace('_', "").parse().ok(),
        None if v.kind() == ValueKind::Bool => Some(v.is_true() as u8 as f64),
        None => f64::try_from(v.clone()).ok(),
    }
}

fn to_int(
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let default = default.or(kwargs.get("default")?).unwrap_or(Value::from(0));
    let base = base.or(kwargs.get("base")?).unwrap_or(10);
    kwargs.assert_all_used()?;
    if let Some(s) = value.as_str() {
        let digits = s.trim().replace('_', "");
        if (2..=36).contains(&base) {
            if let Ok(i) = i128::from_str_radix(&digits, base) {
                return Ok(i64::try_from(i).map_or_else(|_| Value::from(i), Value::from));
            }
        }
    } else if value.is_integer() {
        return Ok(value.clone());
    }
    Ok(match as_number(value) {
        Some(x) if x.is_finite() => Value::from(x.trunc() as i64),
        _ => default,
    })
}

fn to_float(value: &Value, default: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let default = default.or(kwargs.get("default")?).unwrap_or(Value::from(0.0));
    kwargs.assert_all_used()?;
    Ok(as_number(value).map_or(default, Value::from))
}

enum Side {
    Left,
    Right,
    Both,
}

fn strip(s: &str, chars: Option<&Value>, side: Side) -> Result<Value, Error> {
    let set: Option<Vec<char>> = match chars {
        None => None,
        Some(v) if v.is_none() => None,
        Some(v) => Some(v.as_str().ok_or_else(unknown_method)?.chars().collect()),
    };
    let goes = |c: char| set.as_ref().map_or_else(|| is_space(c), |set| set.contains(&c));
    Ok(Value::from(match side {
        Side::Left => s.trim_start_matches(goes),
        Side::Right => s.trim_end_matches(goes),
        Side::Both => s.trim_matches(goes),
    }))
}

/// `center`, `ljust`, `rjust`, `zfill` share the arithmetic of padding.
fn padded(s: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (width, fill): (i64, Option<&str>) = from_args(args)?;
    let fill = if method == "zfill" { "0" } else { fill.unwrap_or(" ") };
    let length = s.chars().count() as i64;
    let missing = (width.min(1 << 20) - length).max(0) as usize;
    let (before, after) = match method {
        "ljust" => (0, missing),
        "center" => {
            let left = missing / 2 + (missing & width as usize & 1);
            (left, missing - left)
        }
        _ => (missing, 0),
    };
    let (sign, rest) = match (method, s.strip_prefix(['-', '+'])) {
        ("zfill", Some(rest)) => s.split_at(s.len() - rest.len()),
        _ => ("", s),
    };
    Ok(Value::from(format!("{sign}{}{rest}{}", fill.repeat(before), fill.repeat(after))))
}

/// Methods of str that minijinja's own Python mode lacks or does otherwise.
fn string_method(s: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let text = |i: usize| args.get(i).and_then(Value::as_str).ok_or_else(unknown_method);
    Ok(match (method, args.len()) {
        ("strip", 0 | 1) => strip(s, args.first(), Side::Both)?,
        ("lstrip", 0 | 1) => strip(s, args.first(), Side::Left)?,
        ("rstrip", 0 | 1) => strip(s, args.first(), Side::Right)?,
        ("splitlines", 0) => split_lines(s).into_iter().map(Value::from).collect(),
        ("split", 0) => s.split(is_space).filter(|x| !x.is_empty()).map(Value::from).collect(),
        ("removeprefix", 1) => Value::from(s.strip_prefix(text(0)?).unwrap_or(s)),
        ("removesuffix", 1) => Value::from(s.strip_suffix(text(0)?).unwrap_or(s)),
        ("partition", 1) => {
            let separator = text(0)?;
            let (a, b, c) = match s.split_once(separator) {
                Some((a, c)) => (a, separator, c),
                None => (s, "", ""),
            };
            [a, b, c].into_iter().map(Value::from).collect()
        }
        ("rpartition", 1) => {
            let separator = text(0)?;
            let (a, b, c) = match s.rsplit_once(separator) {
                Some((a, c)) => (a, separator, c),
                None => ("", "", s),
            };
            [a, b, c].into_iter().map(Value::from).collect()
        }
        ("casefold", 0) => Value::from(s.to_lowercase()),
        ("isspace", 0) => Value::from(!s.is_empty() && s.chars().all(is_space)),
        ("zfill", 1) | ("center" | "ljust" | "rjust", 1 | 2) => padded(s, method, args)?,
        _ => return Err(unknown_method()),
    })
}

fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(s) = value.as_str() {
        match string_method(s, name, args) {
            Err(e) if e.kind() == ErrorKind::UnknownMethod => {}
            known => return known,
        }
    }
    if value.kind() == ValueKind::Map && name == "copy" && args.is_empty() {
        return Ok(value.clone());
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// Writes values as Python's `str` does: floats, lists and dicts differ from Rust's.
fn write_value(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    let written = if let Some(s) = value.as_str() {
        out.write_str(s)
    } else if let Some(x) = as_float(value) {
        out.write_str(&float_repr(x))
    } else if matches!(value.kind(), ValueKind::Seq | ValueKind::Map) {
        let mut text = String::new();
        repr(value, &mut text)?;
        out.write_str(&text)
    } else {
        return minijinja::escape_formatter(out, state, value);
    };
    written.map_err(|_| Error::new(ErrorKind::WriteFailure, "the output has no room left"))
}

/// An environment without templates.
pub fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_formatter(write_value);
    env.set_unknown_method_callback(method);
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        env.set_syntax(syntax);
    }
    env.set_fuel(Some(FUEL));
    minijinja_contrib::add_to_environment(&mut env);

    env.add_function("raise_exception", |text: &Value| -> Result<Value, Error> {
        let text = text_of(text)?;
        Err(Error::new(ErrorKind::InvalidOperation, text.clone()).with_source(Raised(text)))
    });
    env.add_function("strftime_now", |format: &str| strftime(format, NOW.get()));

    env.add_filter("tojson", |v: &Value, args: Rest<Value>, kwargs: Kwargs| {
        to_json(v, args, kwargs)
    });
    env.add_filter("indent", indent);
    env.add_filter("int", to_int);
    env.add_filter("float", to_float);
    env.add_filter("string", |v: &Value| text_of(v));
    env.add_filter("trim", |v: &Value, chars: Option<Value>| -> Result<Value, Error> {
        strip(&text_of(v)?, chars.as_ref(), Side::Both)
    });
    for name in ["length", "count"] {
        env.add_filter(name, |v: &Value| -> Result<usize, Error> {
            if v.is_undefined() {
                return Ok(0);
            }
            v.len().ok_or_else(|| {
                let text = format!("object of type {} has no len()", v.kind());
                Error::new(ErrorKind::InvalidOperation, text)
            })
        });
    }

    env.add_test("iterable", |v: &Value| !v.is_none() && v.try_iter().is_ok());
    env.add_test("sequence", |v: &Value| {
        matches!(
            v.kind(),
            ValueKind::String
                | ValueKind::Bytes
                | ValueKind::Seq
                | ValueKind::Map
                | ValueKind::Undefined
        )
    });
    env.add_test("number", |v: &Value| matches!(v.kind(), ValueKind::Number | ValueKind::Bool));
    env.add_test("callable", |v: &Value| v.kind() == ValueKind::Plain);
    env
}
