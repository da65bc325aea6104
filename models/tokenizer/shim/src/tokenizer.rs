//! Loading, look-ups and decoding.

use crate::tables::Tables;
use crate::{free, guarded, Failure, OwnedString, Slice};
use serde_json::Value as Json;
use tokenizers::{AddedToken, Tokenizer as HfTokenizer};

pub struct Tokenizer {
    pub hf: HfTokenizer,
    pub tables: Tables,
}

/// One token out of tokenizer_config.json's `added_tokens_decoder`, or a role's text.
fn added_token(spec: &Json) -> Option<AddedToken> {
    let flag = |name: &str| spec.get(name).and_then(Json::as_bool);
    let content = spec.get("content")?.as_str()?;
    if content.is_empty() {
        return None;
    }
    let special = flag("special").unwrap_or(false);
    Some(
        AddedToken::from(content, special)
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .normalized(flag("normalized").unwrap_or(!special)),
    )
}

fn parse(json: &[u8], added: &[u8]) -> Result<Tokenizer, Failure> {
    let mut hf = HfTokenizer::from_bytes(json).map_err(|e| Failure::failed(e.to_string()))?;
    // Callers cut and pad for themselves: one tokenizer serves requests that want neither.
    hf.with_truncation(None).map_err(|e| Failure::failed(e.to_string()))?;
    hf.with_padding(None);
    let added: Vec<Json> = if added.is_empty() {
        Vec::new()
    } else {
        serde_json::from_slice(added).map_err(|e| Failure::failed(e.to_string()))?
    };
    // A role's text says nothing about flags: it counts only if nobody added that token.
    let listed = hf.get_added_vocabulary().get_vocab();
    let named: Vec<&str> = added
        .iter()
        .filter(|spec| spec.get("if_absent").is_none())
        .filter_map(|spec| spec.get("content").and_then(Json::as_str))
        .collect();
    let wanted = |spec: &&Json| match spec.get("content").and_then(Json::as_str) {
        Some(x) if spec.get("if_absent").is_some() => {
            !listed.contains_key(x) && !named.contains(&x)
        }
        content => content.is_some(),
    };
    let tokens: Vec<AddedToken> = added.iter().filter(wanted).filter_map(added_token).collect();
    if !tokens.is_empty() {
        hf.add_tokens(tokens).map_err(|e| Failure::failed(e.to_string()))?;
    }
    let tables = Tables::of(&hf)?;
    Ok(Tokenizer { hf, tables })
}

/// # Safety
/// As in `shim.h`.
#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_parse(
    json: Slice,
    added: Slice,
    out: *mut *mut Tokenizer,
    err: *mut OwnedString,
) -> i32 {
    guarded(err, || {
        let tokenizer = parse(json.bytes(), added.bytes())?;
        out.write(Box::into_raw(Box::new(tokenizer)));
        Ok(())
    })
}

/// # Safety
/// As in `shim.h`.
#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_free(t: *mut Tokenizer) {
    free(t);
}

/// # Safety
/// As in `shim.h`.
#[no_mangle]
pub unsafe extern "C" fn tt_token_to_id(t: *const Tokenizer, token: Slice, id: *mut u32) -> i32 {
    let mut found = 0;
    guarded(std::ptr::null_mut(), || {
        if let Some(x) = (*t).hf.token_to_id(token.text("token")?) {
            id.write(x);
            found = 1;
        }
        Ok(())
    });
    found
}

/// # Safety
/// As in `shim.h`.
#[no_mangle]
pub unsafe extern "C" fn tt_id_to_token(
    t: *const Tokenizer,
    id: u32,
    token: *mut OwnedString,
) -> i32 {
    let mut found = 0;
    guarded(std::ptr::null_mut(), || {
        if let Some(x) = (*t).hf.id_to_token(id) {
            token.write(OwnedString::of(x));
            found = 1;
        }
        Ok(())
    });
    found
}

/// # Safety
/// As in `shim.h`.
#[no_mangle]
pub unsafe extern "C" fn tt_decode(
    t: *const Tokenizer,
    ids: *const u32,
    n: usize,
    skip_special: i32,
    out: *mut OwnedString,
    err: *mut OwnedString,
) -> i32 {
    guarded(err, || {
        let ids = if n == 0 { &[] } else { std::slice::from_raw_parts(ids, n) };
        let text =
            (*t).hf.decode(ids, skip_special != 0).map_err(|e| Failure::failed(e.to_string()))?;
        out.write(OwnedString::of(text));
        Ok(())
    })
}
