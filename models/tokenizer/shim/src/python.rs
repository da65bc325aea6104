//! How Python writes values: `json.dumps`, `repr`, `str.splitlines`.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use std::fmt::Write;

fn invalid(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, text)
}

/// `repr` of a float: the shortest digits that read back the same, with an exponent below 1e-4 and
/// from 1e16 on.
pub fn float_repr(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if x == 0.0 || (-4..16).contains(&exponent) {
        let plain = format!("{x}");
        if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    }
}

/// The value as a float, if that is what it is and not an integer.
pub fn as_float(v: &Value) -> Option<f64> {
    if v.kind() == ValueKind::Number && !v.is_integer() {
        f64::try_from(v.clone()).ok()
    } else {
        None
    }
}

/// Whether `repr` writes the character as it is. Covers what occurs in text: controls, formats,
/// separators, surrogates, private use and noncharacters are escaped.
fn printable(c: char) -> bool {
    !(c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c as u32,
            0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x180e | 0x200b..=0x200f
            | 0x2028..=0x202e | 0x2060..=0x206f | 0xe000..=0xf8ff | 0xfeff | 0xfff0..=0xfffb
            | 0xe0001..=0xe007f | 0xf0000..=0x10ffff)
        || (c as u32 & 0xfffe) == 0xfffe)
}

fn string_repr(s: &str, out: &mut String) {
    let quote = if s.contains('\'') && !s.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in s.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if printable(c) => out.push(c),
            c => {
                let code = c as u32;
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

/// `repr(v)`.
pub fn repr(v: &Value, out: &mut String) -> Result<(), Error> {
    if let Some(s) = v.as_str() {
        string_repr(s, out);
    } else if let Some(x) = as_float(v) {
        out.push_str(&float_repr(x));
    } else {
        match v.kind() {
            ValueKind::Undefined => out.push_str("Undefined"),
            ValueKind::Seq => {
                let tuple = v.is_tuple();
                out.push(if tuple { '(' } else { '[' });
                for (i, item) in v.try_iter()?.enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    repr(&item, out)?;
                }
                if tuple && v.len() == Some(1) {
                    out.push(',');
                }
                out.push(if tuple { ')' } else { ']' });
            }
            ValueKind::Map => {
                out.push('{');
                for (i, key) in v.try_iter()?.enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    repr(&key, out)?;
                    out.push_str(": ");
                    repr(&v.get_item(&key)?, out)?;
                }
                out.push('}');
            }
            ValueKind::Invalid => return Err(invalid(v.to_string())),
            _ => {
                let _ = write!(out, "{v}");
            }
        }
    }
    Ok(())
}

/// `str(v)`.
pub fn text_of(v: &Value) -> Result<String, Error> {
    if let Some(s) = v.as_str() {
        return Ok(s.to_string());
    }
    if v.is_undefined() {
        return Ok(String::new());
    }
    let mut out = String::new();
    repr(v, &mut out)?;
    Ok(out)
}

/// `str.isspace` for one character.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `str.splitlines`.
pub fn split_lines(s: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut chars = s.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let ends = matches!(
            c,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        );
        if ends {
            lines.push(&s[start..at]);
            start = at + c.len_utf8();
            if c == '\r' && chars.peek().is_some_and(|&(_, next)| next == '\n') {
                chars.next();
                start += 1;
            }
        }
    }
    if start < s.len() {
        lines.push(&s[start..]);
    }
    lines
}

struct Dump {
    out: String,
    ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

impl Dump {
    fn string(&mut self, s: &str) {
        self.out.push('"');
        for c in s.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\x08' => self.out.push_str("\\b"),
                '\x0c' => self.out.push_str("\\f"),
                c if (c as u32) < 0x20 || (self.ascii && (c as u32) > 0x7e) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn scalar(&mut self, v: &Value) -> Option<()> {
        if let Some(x) = as_float(v) {
            let text = match x {
                x if x.is_nan() => "NaN".into(),
                x if x == f64::INFINITY => "Infinity".into(),
                x if x == f64::NEG_INFINITY => "-Infinity".into(),
                x => float_repr(x),
            };
            self.out.push_str(&text);
            return Some(());
        }
        match v.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if v.is_true() { "true" } else { "false" }),
            ValueKind::Number => {
                let _ = write!(self.out, "{v}");
            }
            _ => return None,
        }
        Some(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
    }

    fn key(&mut self, key: &Value) -> Result<(), Error> {
        if let Some(s) = key.as_str() {
            self.string(s);
            return Ok(());
        }
        self.out.push('"');
        self.scalar(key).ok_or_else(|| {
            invalid(format!("keys must be str, int, float, bool or None, not {}", key.kind()))
        })?;
        self.out.push('"');
        Ok(())
    }

    fn value(&mut self, v: &Value, depth: usize) -> Result<(), Error> {
        if let Some(s) = v.as_str() {
            self.string(s);
            return Ok(());
        }
        if self.scalar(v).is_some() {
            return Ok(());
        }
        match v.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                self.out.push('[');
                let mut empty = true;
                for item in v.try_iter()? {
                    if !std::mem::take(&mut empty) {
                        self.out.push_str(&self.item_separator.clone());
                    }
                    self.line(depth + 1);
                    self.value(&item, depth + 1)?;
                }
                if !empty {
                    self.line(depth);
                }
                self.out.push(']');
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = v.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.out.push('{');
                for (i, key) in keys.iter().enumerate() {
                    if i > 0 {
                        self.out.push_str(&self.item_separator.clone());
                    }
                    self.line(depth + 1);
                    self.key(key)?;
                    self.out.push_str(&self.key_separator.clone());
                    self.value(&v.get_item(key)?, depth + 1)?;
                }
                if !keys.is_empty() {
                    self.line(depth);
                }
                self.out.push('}');
            }
            ValueKind::Undefined => {
                return Err(invalid("Object of type Undefined is not JSON serializable"))
            }
            kind => return Err(invalid(format!("{kind} is not JSON serializable"))),
        }
        Ok(())
    }
}

/// `tojson` as transformers defines it:
/// json.dumps(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False).
pub fn to_json(value: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let argument = |place: usize, name: &str| -> Result<Option<Value>, Error> {
        let named: Option<Value> = kwargs.get(name)?;
        let given = args.0.get(place).cloned().or(named);
        Ok(given.filter(|v| !v.is_none() && !v.is_undefined()))
    };
    let ascii = argument(0, "ensure_ascii")?.is_some_and(|v| v.is_true());
    let indent = match argument(1, "indent")? {
        None => None,
        Some(v) => Some(match v.as_str() {
            Some(s) => s.to_string(),
            None => " ".repeat(i64::try_from(v)?.clamp(0, 64) as usize),
        }),
    };
    let separators = argument(2, "separators")?;
    let sort_keys = argument(3, "sort_keys")?.is_some_and(|v| v.is_true());
    kwargs.assert_all_used()?;
    let (item_separator, key_separator) = match separators {
        Some(pair) => {
            (text_of(&pair.get_item_by_index(0)?)?, text_of(&pair.get_item_by_index(1)?)?)
        }
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
    };
    let out = String::new();
    let mut dump = Dump { out, ascii, indent, item_separator, key_separator, sort_keys };
    dump.value(value, 0)?;
    Ok(dump.out)
}
