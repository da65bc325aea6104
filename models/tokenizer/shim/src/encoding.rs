//! Text to ids.

use crate::tokenizer::Tokenizer;
use crate::{free, guarded, Failure, OwnedString, Slice};
use tokenizers::{EncodeInput, Encoding as HfEncoding};

const ADD_SPECIAL: u32 = 1;
const DETAILS: u32 = 2;
const BYTE_OFFSETS: u32 = 4;
const CHAR_OFFSETS: u32 = 8;

/// Plain arrays of an encoding; what was not asked for stays empty.
#[derive(Default)]
pub struct Encoding {
    ids: Vec<u32>,
    type_ids: Vec<u32>,
    special: Vec<u32>,
    words: Vec<i32>,
    sequences: Vec<i32>,
    offsets: Vec<u32>,
}

#[repr(C)]
pub struct EncodingView {
    size: usize,
    ids: *const u32,
    type_ids: *const u32,
    special: *const u32,
    words: *const i32,
    sequences: *const i32,
    offsets: *const u32,
}

impl Encoding {
    fn of(hf: &HfEncoding, flags: u32) -> Self {
        let mut e = Encoding { ids: hf.get_ids().to_vec(), ..Default::default() };
        if flags & DETAILS != 0 {
            let index = |x: Option<u32>| x.map_or(-1, |x| x as i32);
            e.type_ids = hf.get_type_ids().to_vec();
            e.special = hf.get_special_tokens_mask().to_vec();
            e.words = hf.get_word_ids().iter().map(|&w| index(w)).collect();
            e.sequences =
                hf.get_sequence_ids().iter().map(|&s| s.map_or(-1, |s| s as i32)).collect();
        }
        if flags & (BYTE_OFFSETS | CHAR_OFFSETS) != 0 {
            e.offsets = hf
                .get_offsets()
                .iter()
                .flat_map(|&(begin, end)| [begin as u32, end as u32])
                .collect();
        }
        e
    }
}

/// # Safety
/// As in `shim.h`.
#[no_mangle]
pub unsafe extern "C" fn tt_encode(
    t: *const Tokenizer,
    text: Slice,
    pair: *const Slice,
    flags: u32,
    out: *mut *mut Encoding,
    err: *mut OwnedString,
) -> i32 {
    guarded(err, || {
        let hf = &(*t).hf;
        let text = text.text("the text")?;
        if text.len() > u32::MAX as usize {
            return Err(Failure::bad_input("the text is longer than 4 GiB"));
        }
        let input: EncodeInput = match pair.as_ref() {
            Some(pair) => EncodeInput::Dual(text.into(), pair.text("the pair")?.into()),
            None => EncodeInput::Single(text.into()),
        };
        let special = flags & ADD_SPECIAL != 0;
        let encoded = if flags & CHAR_OFFSETS != 0 {
            hf.encode_char_offsets(input, special)
        } else if flags & (DETAILS | BYTE_OFFSETS) != 0 {
            hf.encode(input, special)
        } else {
            hf.encode_fast(input, special)
        };
        let encoded = encoded.map_err(|e| Failure::failed(e.to_string()))?;
        out.write(Box::into_raw(Box::new(Encoding::of(&encoded, flags))));
        Ok(())
    })
}

/// # Safety
/// As in `shim.h`.
#[no_mangle]
pub unsafe extern "C" fn tt_encoding_free(e: *mut Encoding) {
    free(e);
}

/// # Safety
/// As in `shim.h`.
#[no_mangle]
pub unsafe extern "C" fn tt_encoding_look(e: *const Encoding, view: *mut EncodingView) {
    fn pointer<T>(v: &[T]) -> *const T {
        if v.is_empty() {
            std::ptr::null()
        } else {
            v.as_ptr()
        }
    }
    let e = &*e;
    view.write(EncodingView {
        size: e.ids.len(),
        ids: pointer(&e.ids),
        type_ids: pointer(&e.type_ids),
        special: pointer(&e.special),
        words: pointer(&e.words),
        sequences: pointer(&e.sequences),
        offsets: pointer(&e.offsets),
    });
}
