//! The functions that stand behind ours: libc's, or those of another preloaded library.

use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{c_char, c_int, c_long, c_ulong, c_void, off_t, size_t};
use vrange_malloc::tcmalloc;

use crate::errno::fail;

/// A function of this name, found when the library is loaded. Before that (other libraries' initializers may map memory), and if
/// there is none, the system call takes its place.
#[derive(Debug)]
pub struct Next {
    name: &'static CStr,
    address: AtomicPtr<c_void>,
}

impl Next {
    /// None found yet.
    pub const fn new(name: &'static CStr) -> Self {
        Self { name, address: AtomicPtr::new(std::ptr::null_mut()) }
    }

    #[inline]
    fn get(&self) -> *mut c_void {
        // Relaxed: the function was there before the program began.
        self.address.load(Ordering::Relaxed)
    }

    /// Its address, or null, for what must be found even before this library is loaded.
    pub fn found(&self) -> *mut c_void {
        if self.get().is_null() {
            self.find();
        }
        self.get()
    }

    fn find(&self) {
        // SAFETY: the name ends with a zero byte. What is found stays: libc is never unloaded.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.address.store(found, Ordering::Relaxed); // Relaxed: as in `get`.
    }
}

/// Declares a caller for each function that no system call can take the place of. libc has had them since before any program ran.
macro_rules! callers_of_libc {
    ($($name:ident($($argument:ident: $type:ty),*) = $next:ident;)*) => {$(
        /// libc's function. Like all of these it returns a number, and -1 for a failure.
        ///
        /// # Safety
        /// As for libc's.
        pub(crate) unsafe fn $name($($argument: $type),*) -> c_int {
            let address = $next.found();
            if address.is_null() {
                return fail(libc::ENOSYS);
            }
            // SAFETY: libc's function of this name has this type.
            let function: unsafe extern "C" fn($($type),*) -> c_int = unsafe { std::mem::transmute(address) };
            // SAFETY: passed on from the caller.
            unsafe { function($($argument),*) }
        }
    )*};
}

callers_of_libc! {
    fork() = FORK;
    daemon(keep_folder: c_int, keep_streams: c_int) = DAEMON;
    forkpty(leader: *mut c_int, name: *mut c_char, settings: *const libc::termios, size: *const libc::winsize)
        = FORKPTY;
}

/// tcmalloc's own function for a release, if there is one.
#[inline]
pub(crate) fn tcmalloc_release() -> Option<tcmalloc::Release> {
    let address = RELEASE.get();
    // SAFETY: a function of this name has this type; the name tells its arguments.
    (!address.is_null()).then(|| unsafe { std::mem::transmute::<*mut c_void, tcmalloc::Release>(address) })
}

/// A symbol of whatever library has it.
pub(crate) fn anywhere(name: &CStr) -> *mut c_void {
    // SAFETY: the name ends with a zero byte.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
}

/// Finds all of them.
pub(crate) fn find_all() {
    for next in [
        &MADVISE,
        &MMAP,
        &MUNMAP,
        &MREMAP,
        &MPROTECT,
        &PKEY_MPROTECT,
        &SHMAT,
        &MLOCK,
        &MLOCK2,
        &MLOCKALL,
        &MUNLOCKALL,
        &PRCTL,
        &FORK,
        &DAEMON,
        &FORKPTY,
        &RELEASE,
    ] {
        next.find();
    }
}

static MADVISE: Next = Next::new(c"madvise");
static MMAP: Next = Next::new(c"mmap");
static MUNMAP: Next = Next::new(c"munmap");
static MREMAP: Next = Next::new(c"mremap");
static MPROTECT: Next = Next::new(c"mprotect");
static PKEY_MPROTECT: Next = Next::new(c"pkey_mprotect");
static SHMAT: Next = Next::new(c"shmat");
static MLOCK: Next = Next::new(c"mlock");
static MLOCK2: Next = Next::new(c"mlock2");
static MLOCKALL: Next = Next::new(c"mlockall");
static MUNLOCKALL: Next = Next::new(c"munlockall");
static PRCTL: Next = Next::new(c"prctl");
static FORK: Next = Next::new(c"fork");
static DAEMON: Next = Next::new(c"daemon");
static FORKPTY: Next = Next::new(c"forkpty");
static RELEASE: Next = Next::new(tcmalloc::RELEASE);

/// Declares a caller for each: of the function behind ours, or of the system call.
macro_rules! callers {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty = $next:ident, $call:ident as $from:expr;)*) => {$(
        /// The function behind ours.
        ///
        /// # Safety
        /// As for libc's.
        #[inline]
        pub(crate) unsafe fn $name($($argument: $type),*) -> $result {
            let address = $next.get();
            if address.is_null() {
                // SAFETY: passed on from the caller; the arguments are those of the system call, each as wide as a register.
                return $from(unsafe { libc::syscall(libc::$call, $(register($argument)),*) });
            }
            // SAFETY: a function of this name has this type in libc, and in whatever stands before it. (mremap and prctl have a
            // variable number of arguments there, which these architectures pass in the same registers.)
            let function: unsafe extern "C" fn($($type),*) -> $result = unsafe { std::mem::transmute(address) };
            // SAFETY: passed on from the caller.
            unsafe { function($($argument),*) }
        }
    )*};
}

/// What a system call takes.
trait Argument {
    fn register(self) -> c_long;
}

impl Argument for c_int {
    fn register(self) -> c_long {
        self.into()
    }
}

impl Argument for off_t {
    fn register(self) -> c_long {
        self
    }
}

impl Argument for usize {
    fn register(self) -> c_long {
        self.cast_signed() as c_long
    }
}

impl Argument for c_ulong {
    fn register(self) -> c_long {
        self.cast_signed()
    }
}

impl<T> Argument for *mut T {
    fn register(self) -> c_long {
        self.expose_provenance().register()
    }
}

impl<T> Argument for *const T {
    fn register(self) -> c_long {
        self.expose_provenance().register()
    }
}

fn register(argument: impl Argument) -> c_long {
    argument.register()
}

/// A system call's answer as that of a function that tells success.
fn status(answer: c_long) -> c_int {
    if answer == 0 { 0 } else { -1 }
}

/// The same of one that returns a small number.
fn number(answer: c_long) -> c_int {
    c_int::try_from(answer).unwrap_or(-1)
}

/// The same of one that returns an address.
fn address(answer: c_long) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(answer.cast_unsigned().try_into().unwrap_or(usize::MAX))
}

callers! {
    madvise(start: *mut c_void, bytes: size_t, advice: c_int) -> c_int = MADVISE, SYS_madvise as status;
    mmap(start: *mut c_void, bytes: size_t, protection: c_int, flags: c_int, file: c_int, offset: off_t)
        -> *mut c_void = MMAP, SYS_mmap as address;
    munmap(start: *mut c_void, bytes: size_t) -> c_int = MUNMAP, SYS_munmap as status;
    mremap(start: *mut c_void, bytes: size_t, new_bytes: size_t, flags: c_int, new_start: *mut c_void)
        -> *mut c_void = MREMAP, SYS_mremap as address;
    mprotect(start: *mut c_void, bytes: size_t, protection: c_int) -> c_int = MPROTECT, SYS_mprotect as status;
    pkey_mprotect(start: *mut c_void, bytes: size_t, protection: c_int, key: c_int) -> c_int
        = PKEY_MPROTECT, SYS_pkey_mprotect as status;
    shmat(segment: c_int, start: *const c_void, flags: c_int) -> *mut c_void = SHMAT, SYS_shmat as address;
    mlock(start: *const c_void, bytes: size_t) -> c_int = MLOCK, SYS_mlock as status;
    mlock2(start: *const c_void, bytes: size_t, flags: c_int) -> c_int = MLOCK2, SYS_mlock2 as status;
    mlockall(flags: c_int) -> c_int = MLOCKALL, SYS_mlockall as status;
    munlockall() -> c_int = MUNLOCKALL, SYS_munlockall as status;
    prctl(option: c_int, second: c_ulong, third: c_ulong, fourth: c_ulong, fifth: c_ulong) -> c_int
        = PRCTL, SYS_prctl as number;
}
