//! C interface to Hugging Face tokenizers and to chat templates. The header is `../shim.h`.
//!
//! Every entry that can fail runs inside `guarded`: a panic becomes an error message, because
//! unwinding into C++ is undefined.

mod encoding;
mod python;
mod tables;
mod template;
mod template_env;
mod tokenizer;

#[cfg(not(panic = "unwind"))]
compile_error!("the shim needs panic = \"unwind\": panics are turned into errors");

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

/// Borrowed bytes of the caller.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slice {
    data: *const u8,
    size: usize,
}

impl Slice {
    /// # Safety
    /// `data` points to `size` bytes that outlive `'a`, or `size` is 0.
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.size == 0 {
            &[]
        } else {
            std::slice::from_raw_parts(self.data, self.size)
        }
    }

    /// # Safety
    /// As for `bytes`.
    unsafe fn text<'a>(self, what: &str) -> Result<&'a str, Failure> {
        std::str::from_utf8(self.bytes()).map_err(|e| {
            Failure::bad_input(format!("{what} is not UTF-8 at byte {}", e.valid_up_to()))
        })
    }
}

/// Text that the caller frees with `tt_string_free`.
#[repr(C)]
pub struct OwnedString {
    data: *mut u8,
    size: usize,
}

impl OwnedString {
    fn of(text: String) -> Self {
        let bytes = text.into_bytes().into_boxed_slice();
        let size = bytes.len();
        OwnedString { data: Box::into_raw(bytes) as *mut u8, size }
    }
}

/// # Safety
/// `s` is null or was filled by this library and not freed since.
#[no_mangle]
pub unsafe extern "C" fn tt_string_free(s: *mut OwnedString) {
    if let Some(s) = s.as_mut() {
        if !s.data.is_null() {
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(s.data, s.size)));
        }
        s.data = std::ptr::null_mut();
        s.size = 0;
    }
}

/// Why an entry failed, and whether the caller's input is to blame.
pub struct Failure {
    code: i32,
    text: String,
}

impl Failure {
    pub fn failed(text: impl Into<String>) -> Self {
        Failure { code: -1, text: text.into() }
    }
    pub fn bad_input(text: impl Into<String>) -> Self {
        Failure { code: -2, text: text.into() }
    }
}

/// Runs `f`; what goes wrong ends up in `err`, be it a panic.
///
/// # Safety
/// `err` is null or points to an `OwnedString` whose content may be overwritten.
unsafe fn guarded(err: *mut OwnedString, f: impl FnOnce() -> Result<(), Failure>) -> i32 {
    static QUIET: Once = Once::new();
    // The message reaches the caller as a value; stderr belongs to the application.
    QUIET.call_once(|| {
        std::panic::set_hook(Box::new(|_| {}));
        tokenizers::utils::parallelism::set_parallelism(false);
    });
    let failure = match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(())) => return 0,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("unknown panic")
                .to_string();
            // A payload's own destructor may panic as well.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
            Failure::failed(text)
        }
    };
    if !err.is_null() {
        err.write(OwnedString::of(failure.text));
    }
    failure.code
}

/// Frees what `Box::into_raw` gave out; a panicking destructor stays inside.
///
/// # Safety
/// `p` is null or came from `Box::into_raw` and was not freed since.
unsafe fn free<T>(p: *mut T) {
    if !p.is_null() {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(Box::from_raw(p))));
    }
}
