//! What each token stands for, so that callers stream text without asking the decoder, and how few
//! tokens a text can become, so that they refuse what is too long before encoding it.

use crate::tokenizer::Tokenizer;
use crate::Failure;
use serde_json::Value as Json;
use tokenizers::{Decoder, ModelWrapper, Tokenizer as HfTokenizer};

const HAS_TOKEN: u8 = 1;
const SPECIAL: u8 = 2;
const BYTE_TOKEN: u8 = 4;

#[derive(Clone, Copy, PartialEq)]
enum Decoding {
    ByteLevel = 0,
    ByteFallback = 1,
    General = 2,
}

pub struct Tables {
    bytes: Vec<u8>,
    starts: Vec<u32>,
    flags: Vec<u8>,
    tokens: usize,
    max_bytes: u32,
    weights: Weights,
    decoding: Decoding,
    strips_first: bool,
}

/// How many tokens each byte of a text accounts for at least, in units of 1 / `UNIT`.
///
/// A byte that lies in tokens of at most L bytes accounts for 1 / L: the bytes of one token then
/// add up to 1 at most, so the sum over a text never exceeds its number of tokens.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Weights {
    /// Of a byte that reaches the model unchanged.
    kept: [u32; 256],
    /// Of a byte that normalization may change; used only if `normalizes` is set, for all bytes but
    /// ASCII before ASCII, which Unicode normalization forms leave alone.
    changed: [u32; 256],
    normalizes: u8,
}

/// The most bytes of text that one token can stand for: any token, and those with a given byte.
struct Reach {
    longest: [u32; 256],
    any: u32,
}

impl Reach {
    /// A token may stand for its bytes or for its spelling, in which "▁" is a text's space or its
    /// own three bytes.
    fn note(&mut self, bytes: &[u8], spelled: &[u8]) {
        let length = bytes.len().max(spelled.len()) as u32;
        self.any = self.any.max(length);
        for &b in bytes.iter().chain(spelled) {
            self.longest[b as usize] = self.longest[b as usize].max(length);
        }
    }
}

const UNIT: u32 = 1 << 20;

#[repr(C)]
pub struct TablesView {
    limit: usize,
    tokens: usize,
    bytes: *const u8,
    starts: *const u32,
    flags: *const u8,
    max_bytes: u32,
    weights: Weights,
    decoding: u8,
    strips_first: u8,
}

/// The character that byte-level vocabularies write for each byte.
/// Source: GPT-2, encoder.py, bytes_to_unicode.
fn byte_characters() -> [char; 256] {
    let plain = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 256;
    let mut out = ['\0'; 256];
    for b in 0..256u32 {
        let code = if plain(b) {
            b
        } else {
            next += 1;
            next - 1
        };
        out[b as usize] = char::from_u32(code).unwrap_or('\0');
    }
    out
}

fn kind(spec: &Json) -> &str {
    spec.get("type").and_then(Json::as_str).unwrap_or("")
}

/// The members of a Sequence, or the component itself.
fn members<'a>(spec: &'a Json, list: &str) -> Vec<&'a Json> {
    if spec.is_null() {
        Vec::new()
    } else if kind(spec) == "Sequence" {
        let inner = spec.get(list).and_then(Json::as_array);
        inner.into_iter().flatten().flat_map(|x| members(x, list)).collect()
    } else {
        vec![spec]
    }
}

/// Whether a Replace is the usual one of "▁" by a space.
fn is_metaspace_replace(spec: &Json) -> bool {
    spec.pointer("/pattern/String").and_then(Json::as_str) == Some("\u{2581}")
        && spec.get("content").and_then(Json::as_str) == Some(" ")
}

fn decoding_of(decoder: &Json) -> (Decoding, bool) {
    let steps = members(decoder, "decoders");
    let kinds: Vec<&str> = steps.iter().map(|s| kind(s)).collect();
    match kinds.as_slice() {
        ["ByteLevel"] => (Decoding::ByteLevel, false),
        ["Replace", "ByteFallback", "Fuse"] if is_metaspace_replace(steps[0]) => {
            (Decoding::ByteFallback, false)
        }
        ["Replace", "ByteFallback", "Fuse", "Strip"] if is_metaspace_replace(steps[0]) => {
            let strip = steps[3];
            let number = |name| strip.get(name).and_then(Json::as_u64);
            let space = strip.get("content").and_then(Json::as_str) == Some(" ");
            match (space, number("start"), number("stop")) {
                (true, Some(1), Some(0)) => (Decoding::ByteFallback, true),
                _ => (Decoding::General, false),
            }
        }
        _ => (Decoding::General, false),
    }
}

/// "<0x0A>" is the byte 10.
fn byte_token(token: &str) -> Option<u8> {
    if token.len() == 6 && token.starts_with("<0x") && token.ends_with('>') {
        u8::from_str_radix(token.get(3..5)?, 16).ok()
    } else {
        None
    }
}

/// What the normalizers may do to a text's bytes.
struct Normalizing {
    /// So many bytes can become one; 0 when text can vanish. NFC takes at most 3 bytes to one
    /// (Kelvin sign), NFKC 4 (mathematical letters).
    shrink: u32,
    /// ASCII before ASCII stays as it is.
    keeps_ascii: bool,
    /// Nothing changes but how a space is written.
    keeps_all: bool,
}

fn normalizing(normalizer: &Json) -> Normalizing {
    let mut n = Normalizing { shrink: 1, keeps_ascii: true, keeps_all: true };
    for step in members(normalizer, "normalizers") {
        let (shrink, keeps_ascii, keeps_all) = match kind(step) {
            "NFC" | "NFD" => (3, true, false),
            "NFKC" | "NFKD" => (4, true, false),
            "Lowercase" => (3, false, false),
            "Prepend" | "ByteLevel" => (1, true, true),
            "Replace" => {
                let from = step.pointer("/pattern/String").and_then(Json::as_str);
                let to = step.get("content").and_then(Json::as_str).unwrap_or("");
                match from {
                    Some(" ") if to == "\u{2581}" => (1, true, true),
                    Some(from) if to.len() >= from.len() => (1, false, false),
                    _ => (0, false, false),
                }
            }
            _ => (0, false, false),
        };
        n.shrink *= shrink;
        n.keeps_ascii &= keeps_ascii;
        n.keeps_all &= keeps_all;
    }
    n
}

/// Whether every character of a text reaches the model.
fn pre_tokenizer_keeps_all(pre_tokenizer: &Json) -> bool {
    members(pre_tokenizer, "pretokenizers").iter().all(|step| match kind(step) {
        "ByteLevel" | "Metaspace" | "Digits" | "UnicodeScripts" => true,
        "Split" | "Punctuation" => {
            step.get("behavior").and_then(Json::as_str).is_some_and(|b| b != "Removed")
        }
        _ => false,
    })
}

impl Tables {
    pub fn of(hf: &HfTokenizer) -> Result<Self, Failure> {
        let as_json = |x: Result<Json, serde_json::Error>| x.unwrap_or(Json::Null);
        let decoder = as_json(serde_json::to_value(hf.get_decoder()));
        let (decoding, strips_first) = decoding_of(&decoder);

        // A map by text hides the first of two ids that share a text: ids are asked one by one.
        let vocabulary = hf.get_vocab(true);
        let size = hf.get_vocab_size(true).max(vocabulary.len());
        let limit = vocabulary.values().max().map_or(0, |&id| id as usize + 1).max(size);
        if limit > 4 * size + (1 << 20) {
            return Err(Failure::failed(format!(
                "token ids go up to {} although there are only {size} tokens",
                limit - 1
            )));
        }
        drop(vocabulary);

        let characters = byte_characters();
        let mut byte_of = [None; 512];
        for (b, &c) in characters.iter().enumerate() {
            byte_of[c as usize] = Some(b as u8);
        }
        let added = hf.get_added_vocabulary();
        let mut t = Tables {
            bytes: Vec::with_capacity(limit * 8),
            starts: Vec::with_capacity(limit + 1),
            flags: vec![0; limit],
            tokens: 0,
            max_bytes: 1,
            weights: Weights { kept: [0; 256], changed: [0; 256], normalizes: 0 },
            decoding,
            strips_first,
        };
        let mut reach = Reach { longest: [1; 256], any: 1 };
        for id in 0..limit {
            t.starts.push(t.bytes.len() as u32);
            let Some(token) = hf.id_to_token(id as u32) else { continue };
            t.tokens += 1;
            t.flags[id] = HAS_TOKEN;
            if added.is_special_token(&token) {
                t.flags[id] |= SPECIAL;
            }
            let before = t.bytes.len();
            let mut spelled = String::new();
            match decoding {
                Decoding::ByteLevel => {
                    for c in token.chars() {
                        match byte_of.get(c as usize).copied().flatten() {
                            Some(b) => t.bytes.push(b),
                            None => {
                                // Not spelled in byte characters: the decoder takes it literally.
                                t.bytes.truncate(before);
                                t.bytes.extend_from_slice(token.as_bytes());
                                break;
                            }
                        }
                    }
                }
                Decoding::ByteFallback => match byte_token(&token) {
                    Some(b) => {
                        t.flags[id] |= BYTE_TOKEN;
                        t.bytes.push(b);
                    }
                    None => {
                        t.bytes.extend_from_slice(token.replace('\u{2581}', " ").as_bytes());
                        spelled = token;
                    }
                },
                Decoding::General => {
                    let text = match hf.get_decoder() {
                        Some(decoder) => decoder.decode(vec![token.clone()]).unwrap_or(token),
                        None => token,
                    };
                    t.bytes.extend_from_slice(text.as_bytes());
                }
            }
            t.max_bytes = t.max_bytes.max((t.bytes.len() - before) as u32);
            reach.note(&t.bytes[before..], spelled.as_bytes());
            if t.bytes.len() > u32::MAX as usize / 2 {
                return Err(Failure::failed("the vocabulary's text exceeds 2 GiB"));
            }
        }
        t.starts.push(t.bytes.len() as u32);
        while t.flags.last() == Some(&0) {
            t.flags.pop();
            t.starts.pop();
        }
        t.find_bound(hf, &characters, &reach);
        Ok(t)
    }

    /// Sets `weights` where the pipeline loses no text: then a text's bytes all end up in tokens.
    fn find_bound(&mut self, hf: &HfTokenizer, characters: &[char; 256], reach: &Reach) {
        let ModelWrapper::BPE(bpe) = hf.get_model() else { return };
        if self.decoding == Decoding::General {
            return;
        }
        let as_json = |x: Result<Json, serde_json::Error>| x.unwrap_or(Json::Null);
        let pre_tokenizer = as_json(serde_json::to_value(hf.get_pre_tokenizer()));
        let normalizer = as_json(serde_json::to_value(hf.get_normalizer()));
        let normalizing = normalizing(&normalizer);
        if normalizing.shrink == 0 || !pre_tokenizer_keeps_all(&pre_tokenizer) {
            return;
        }
        let byte_level = members(&pre_tokenizer, "pretokenizers")
            .into_iter()
            .chain(members(&normalizer, "normalizers"))
            .any(|step| kind(step) == "ByteLevel");
        let token_of_byte = |b: usize| {
            if byte_level {
                hf.token_to_id(&characters[b].to_string())
            } else {
                hf.token_to_id(&format!("<0x{b:02X}>"))
            }
        };
        let mut counted = [false; 256];
        if byte_level {
            // A byte without a token vanishes silently, or joins its neighbours in one unknown token.
            for (b, c) in counted.iter_mut().enumerate() {
                *c = token_of_byte(b).is_some();
            }
        } else if bpe.byte_fallback && (0..=0xf4).all(|b| token_of_byte(b).is_some()) {
            counted = [true; 256];
        } else {
            return;
        }
        let strips = |t: &tokenizers::AddedToken| t.lstrip || t.rstrip;
        if hf.get_added_tokens_decoder().values().any(strips) {
            // Such a token takes in the white space beside it, however long. White space beyond
            // ASCII shares its bytes with letters, so no byte beyond ASCII counts.
            for (b, c) in counted.iter_mut().enumerate() {
                *c &= b > b' ' as usize && b < 0x80;
            }
        }
        for b in (0..256).filter(|&b| counted[b]) {
            let any = UNIT / (reach.any * normalizing.shrink);
            let kept = normalizing.keeps_all || (normalizing.keeps_ascii && b < 0x80);
            self.weights.changed[b] = any;
            self.weights.kept[b] = if kept { UNIT / reach.longest[b] } else { any };
        }
        self.weights.normalizes = !normalizing.keeps_all as u8;
    }
}

/// # Safety
/// As in `shim.h`.
#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_tables(t: *const Tokenizer, view: *mut TablesView) {
    let t = &(*t).tables;
    view.write(TablesView {
        limit: t.flags.len(),
        tokens: t.tokens,
        bytes: t.bytes.as_ptr(),
        starts: t.starts.as_ptr(),
        flags: t.flags.as_ptr(),
        max_bytes: t.max_bytes,
        weights: t.weights,
        decoding: t.decoding as u8,
        strips_first: t.strips_first as u8,
    });
}
