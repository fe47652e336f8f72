//! Keeps ALSA's library from writing to the terminal.
#![allow(unsafe_code)] // alsa-lib's message handler is a C function pointer.

use std::ffi::{c_char, c_int};
use std::sync::Once;

type Variadic =
    unsafe extern "C" fn(*const c_char, c_int, *const c_char, c_int, *const c_char, ...);
type Fixed = unsafe extern "C" fn(*const c_char, c_int, *const c_char, c_int, *const c_char);

unsafe extern "C" fn ignore(
    _: *const c_char,
    _: c_int,
    _: *const c_char,
    _: c_int,
    _: *const c_char,
) {
}

/// From now on alsa-lib prints nothing: what matters comes back as an error anyway.
pub(super) fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the C calling conventions of Linux let a callee ignore variadic arguments (the
        // caller owns them), and stable Rust cannot define a variadic function.
        let handler = unsafe { std::mem::transmute::<Fixed, Variadic>(ignore) };
        // SAFETY: the handler lives for ever and touches nothing.
        let code = unsafe { alsa_sys::snd_lib_error_set_handler(Some(handler)) };
        if code != 0 {
            tracing::debug!("alsa-lib keeps its message handler: {code}");
        }
    });
}
