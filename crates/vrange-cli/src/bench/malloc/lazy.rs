//! jemalloc with `MADV_FREE` for everything that is freed.
//!
//! No setting of jemalloc 5.3 does that: where the decay is 0, freed memory goes to the hooks `dalloc`, `decommit` and `purge_forced`
//! in turn, until one does not refuse, and the third of them is `MADV_DONTNEED`; `purge_lazy`, which is `MADV_FREE`, is the last. So
//! the first three are taken out of jemalloc's own hooks, and nothing else is changed.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::mem::{MaybeUninit, transmute};
use std::ptr::{null, null_mut};

use crate::failure::Failure;

/// jemalloc's `extent_hooks_t`: nine functions. One that is null always refuses.
type Hooks = [*const c_void; 9];
const DALLOC: usize = 1;
const DECOMMIT: usize = 4;
const PURGE_FORCED: usize = 6;

type Mallctl = unsafe extern "C" fn(*const c_char, *mut c_void, *mut usize, *mut c_void, usize) -> c_int;

/// Has every arena give memory back with `MADV_FREE`.
///
/// # Errors
/// There is no jemalloc in this process, or it refuses.
pub(super) fn install() -> Result<(), Failure> {
    let mallctl = mallctl().ok_or_else(|| Failure::run("there is no jemalloc in this process"))?;
    // SAFETY: the manual says that these are the types of the two.
    let arenas: c_uint = unsafe { read(mallctl, c"opt.narenas") }?;
    // SAFETY: as above.
    let default: *const Hooks = unsafe { read(mallctl, c"arena.0.extent_hooks") }?;
    // SAFETY: jemalloc's own hooks are a constant.
    let mut hooks = unsafe { *default };
    for hook in [DALLOC, DECOMMIT, PURGE_FORCED] {
        hooks[hook] = null();
    }
    // Arenas refer to them until the process ends.
    let hooks: *const Hooks = Box::leak(Box::new(hooks));
    for arena in 0..arenas {
        let name = CString::new(format!("arena.{arena}.extent_hooks"))
            .map_err(|error| Failure::run(error.to_string()))?;
        // SAFETY: this is the type of such a value, and hooks that refuse more than the ones before are sound for memory in use, since
        // hooks may always refuse.
        unsafe { write(mallctl, &name, hooks) }?;
    }
    Ok(())
}

/// Such as `5.3.0`, without the name of the commit; none where there is no jemalloc in this process.
pub(super) fn version() -> Option<String> {
    // SAFETY: the manual says that this is its type.
    let text: *const c_char = unsafe { read(mallctl()?, c"version") }.ok()?;
    // SAFETY: a constant string of a library that stays loaded.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    Some(text.split_once('-').map_or(&*text, |(version, _)| version).to_owned())
}

fn mallctl() -> Option<Mallctl> {
    // SAFETY: the name is a C string.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"mallctl".as_ptr()) };
    if address.is_null() {
        return None;
    }
    // SAFETY: this is the only function of that name, and jemalloc's manual gives it this type.
    Some(unsafe { transmute::<*mut c_void, Mallctl>(address) })
}

/// # Safety
/// `T` is the type that the manual gives for `name`.
unsafe fn read<T: Copy>(mallctl: Mallctl, name: &CStr) -> Result<T, Failure> {
    let mut value = MaybeUninit::<T>::uninit();
    let mut bytes = size_of::<T>();
    // SAFETY: the name is a C string, there is room for the value, and nothing is written to jemalloc.
    let error = unsafe { mallctl(name.as_ptr(), value.as_mut_ptr().cast(), &raw mut bytes, null_mut(), 0) };
    succeeded(error, name)?;
    // SAFETY: jemalloc has written a value of this type, by the caller's promise.
    Ok(unsafe { value.assume_init() })
}

/// # Safety
/// `T` is the type that the manual gives for `name`, and what the value refers to is what jemalloc may use from now on.
unsafe fn write<T: Copy>(mallctl: Mallctl, name: &CStr, mut value: T) -> Result<(), Failure> {
    let from = (&raw mut value).cast();
    // SAFETY: the name is a C string, the value has the size that is given, and the rest is the caller's promise.
    let error = unsafe { mallctl(name.as_ptr(), null_mut(), null_mut(), from, size_of::<T>()) };
    succeeded(error, name)
}

fn succeeded(error: c_int, name: &CStr) -> Result<(), Failure> {
    match error {
        0 => Ok(()),
        error => {
            Err(Failure::io("mallctl of", name.to_string_lossy(), &std::io::Error::from_raw_os_error(error)))
        }
    }
}
