//! `dlopen` without `RTLD_DEEPBIND`.
//!
//! A library that is loaded with it looks for a symbol in itself and in the libraries that it needs first, among them libc, and only then where
//! everybody looks. So its `malloc` and `free` would be libc's, while the `strdup` that it calls, like all of libc, has memory from
//! mimalloc: libc's `free` ends the process ("invalid pointer"). Apache and PHP load their modules like this. Where all have one
//! allocator, such a library binds as others do.

use std::ffi::c_void;

use vrange_preload::Next;

/// The function behind ours, asked for by whoever loads something first.
extern "C" fn find() -> *mut c_void {
    static NEXT: Next = Next::new(c"dlopen");
    let found = NEXT.found();
    if found.is_null() { cannot as extern "C" fn() -> *mut c_void as *mut c_void } else { found }
}

/// In place of a function that is not there.
extern "C" fn cannot() -> *mut c_void {
    std::ptr::null_mut()
}

/// See `dlopen(3)`. A jump leads to libc's, which looks at the address that it returns to: where a library is searched for, and for whom,
/// depends on who calls.
///
/// # Safety
/// As there.
#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn dlopen(name: *const libc::c_char, flags: libc::c_int) -> *mut c_void {
    std::arch::naked_asm!(
        "push rdi",
        "push rsi",
        // The stack is aligned for a call, as it was for the one that led here.
        "sub rsp, 8",
        "call {find}",
        "add rsp, 8",
        "pop rsi",
        "pop rdi",
        "and esi, {all_but_deep}",
        "jmp rax",
        find = sym find,
        all_but_deep = const !libc::RTLD_DEEPBIND,
    )
}

/// As above.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn dlopen(name: *const libc::c_char, flags: libc::c_int) -> *mut c_void {
    std::arch::naked_asm!(
        "stp x29, x30, [sp, #-32]!",
        "mov x29, sp",
        "stp x0, x1, [sp, #16]",
        "bl {find}",
        "mov x16, x0",
        "ldp x0, x1, [sp, #16]",
        "ldp x29, x30, [sp], #32",
        "and w1, w1, #{all_but_deep}",
        "br x16",
        find = sym find,
        all_but_deep = const !libc::RTLD_DEEPBIND.cast_unsigned(),
    )
}
