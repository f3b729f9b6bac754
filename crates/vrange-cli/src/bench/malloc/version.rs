//! Which version of an allocator is in this process.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;
use std::ptr::null_mut;

use super::lazy;

type TcVersion = unsafe extern "C" fn(*mut c_int, *mut c_int, *mut *const c_char) -> *const c_char;

/// As the allocator itself tells it; none where it does not, as mimalloc in a library of this project's. `malloc_from`: the file that
/// `malloc` is from.
pub(super) fn of_malloc(malloc_from: &str) -> Option<String> {
    tcmalloc().or_else(lazy::version).or_else(|| malloc_from.contains("libc.so").then(glibc))
}

/// Such as `gperftools 2.10`.
fn tcmalloc() -> Option<String> {
    // SAFETY: the name is a C string.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"tc_version".as_ptr()) };
    if address.is_null() {
        return None;
    }
    // SAFETY: this is the only function of that name, and gperftools' header gives it this type.
    let version = unsafe { transmute::<*mut c_void, TcVersion>(address) };
    // SAFETY: the header says that all three may be null.
    let text = unsafe { version(null_mut(), null_mut(), null_mut()) };
    // SAFETY: what it returned, if anything, is a constant string of a library that stays loaded.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// The C library's, such as `glibc 2.36`.
pub(crate) fn glibc() -> String {
    // SAFETY: the call takes nothing and changes nothing.
    let version = unsafe { libc::gnu_get_libc_version() };
    // SAFETY: what it returned is a string that is part of the library, stays as it is, and ends with a zero byte.
    format!("glibc {}", unsafe { CStr::from_ptr(version) }.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_on_the_c_library() {
        assert_eq!(of_malloc("/lib/libc.so.6"), Some(glibc()));
        assert!(glibc().starts_with("glibc 2."), "{}", glibc());
        assert_eq!(of_malloc("/lib/libvrange_mimalloc.so"), None);
    }
}
