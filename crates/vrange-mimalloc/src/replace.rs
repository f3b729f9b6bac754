//! libc's functions for memory, by mimalloc: those that glibc's manual names for whoever replaces `malloc` ("Replacing malloc").
//!
//! C++'s `operator new` calls `malloc`, and so does glibc itself, through the same names. Blocks from functions that only glibc has
//! (`__libc_malloc`) must not be freed by these, as with any allocator that replaces its.

use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{c_int, c_void, size_t};

unsafe extern "C" {
    fn mi_malloc(bytes: size_t) -> *mut c_void;
    fn mi_calloc(count: size_t, bytes: size_t) -> *mut c_void;
    fn mi_realloc(block: *mut c_void, bytes: size_t) -> *mut c_void;
    fn mi_free(block: *mut c_void);
    fn mi_memalign(alignment: size_t, bytes: size_t) -> *mut c_void;
    fn mi_aligned_alloc(alignment: size_t, bytes: size_t) -> *mut c_void;
    fn mi_posix_memalign(block: *mut *mut c_void, alignment: size_t, bytes: size_t) -> c_int;
    fn mi_valloc(bytes: size_t) -> *mut c_void;
    fn mi_pvalloc(bytes: size_t) -> *mut c_void;
    fn mi_malloc_usable_size(block: *const c_void) -> size_t;
}

/// What an allocation returns.
trait Outcome {
    /// Sets `errno` as libc does. mimalloc says nothing of a size that is too large.
    fn told(self) -> Self;
}

impl Outcome for *mut c_void {
    fn told(self) -> Self {
        if self.is_null() {
            // SAFETY: asks for the address of this thread's own variable.
            let place = unsafe { libc::__errno_location() };
            // SAFETY: as above.
            unsafe { place.write(libc::ENOMEM) };
        }
        self
    }
}

impl Outcome for c_int {
    fn told(self) -> Self {
        // It is the error itself.
        self
    }
}

/// Exports a function of mimalloc's as the libc function of the second name.
macro_rules! replace {
    ($own:ident as $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?) => {
        /// See `malloc(3)`.
        ///
        /// # Safety
        /// As there.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) $(-> $result)? {
            // SAFETY: passed on from the program; mimalloc's function has the same contract.
            unsafe { $own($($argument),*) }
        }
    };
    // One that allocates so many bytes has the reclaimer started if they are many: in a function of its own, so that this one comes to no
    // more than a comparison and a jump.
    ($own:ident as $name:ident($($argument:ident: $type:ty),*) -> $result:ty, of $bytes:expr) => {
        /// See `malloc(3)` and `posix_memalign(3)`.
        ///
        /// # Safety
        /// As there.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            #[cold]
            #[inline(never)]
            unsafe extern "C" fn when_large($($argument: $type),*) -> $result {
                vrange_allocator::before_large_allocation();
                // SAFETY: passed on from the program; mimalloc's function has the same contract.
                unsafe { $own($($argument),*) }.told()
            }
            if $bytes >= vrange_allocator::LARGE_BYTES {
                // SAFETY: as above.
                unsafe { when_large($($argument),*) }
            } else {
                // SAFETY: as above.
                unsafe { $own($($argument),*) }
            }
        }
    };
}

replace!(mi_malloc as malloc(bytes: size_t) -> *mut c_void, of bytes);
replace!(mi_calloc as calloc(count: size_t, bytes: size_t) -> *mut c_void, of count.saturating_mul(bytes));
replace!(mi_realloc as realloc(block: *mut c_void, bytes: size_t) -> *mut c_void, of bytes);
replace!(mi_free as free(block: *mut c_void));
replace!(mi_memalign as memalign(alignment: size_t, bytes: size_t) -> *mut c_void, of bytes);
replace!(mi_aligned_alloc as aligned_alloc(alignment: size_t, bytes: size_t) -> *mut c_void, of bytes);
replace!(mi_posix_memalign as posix_memalign(block: *mut *mut c_void, alignment: size_t, bytes: size_t) -> c_int,
    of bytes);
replace!(mi_valloc as valloc(bytes: size_t) -> *mut c_void, of bytes);
replace!(mi_pvalloc as pvalloc(bytes: size_t) -> *mut c_void, of bytes);
replace!(mi_malloc_usable_size as malloc_usable_size(block: *const c_void) -> size_t);

/// See `reallocarray(3)`. As with libc's it is `realloc` that does it, whoever has that: of a program with an allocator of its own, which may well have
/// no `reallocarray`, the blocks are not mimalloc's.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
unsafe extern "C" fn reallocarray(block: *mut c_void, count: size_t, bytes: size_t) -> *mut c_void {
    /// Relaxed: it was there before the program began, and stays.
    static REALLOC: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    let Some(all) = count.checked_mul(bytes) else { return std::ptr::null_mut::<c_void>().told() };
    let mut found = REALLOC.load(Ordering::Relaxed); // Relaxed: see there.
    if found.is_null() {
        // SAFETY: the name ends with a zero byte.
        found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"realloc".as_ptr()) };
        REALLOC.store(found, Ordering::Relaxed); // Relaxed: see there.
    }
    // SAFETY: there is one, the one above at least, and it has this type.
    let realloc: unsafe extern "C" fn(*mut c_void, size_t) -> *mut c_void =
        unsafe { std::mem::transmute(found) };
    // SAFETY: passed on from the program.
    unsafe { realloc(block, all) }
}
