//! `libvrange_preload.so`: programs written for `madvise(addr, len, MADV_VOLATILE)`, the system call of the RFC of 2012, run
//! unchanged.
//!
//! It stands before libc's functions of the same names (`LD_PRELOAD`, [`ld.so(8)`]). Advice 5 (`MADV_VOLATILE`) and 6
//! (`MADV_NOVOLATILE`) are carried out here; all other advice is passed on. The environment variable `VRANGE_MODE` chooses how
//! ([`mode`]):
//!
//! * *implicit* (the default): the kernel is told at once. A store to a page ends its mark, and no MADV_NOVOLATILE is needed.
//! * *paired*: the program promises MADV_NOVOLATILE before it uses the memory again. Marks cost nanoseconds, and
//!   MADV_NOVOLATILE returns 1 if contents were lost. Mappings are watched, so that no offer hits memory that has been given to
//!   somebody else since ([`mappings`]).
//!
//! What is not seen is not deferred: memory from `brk`, from libc's own calls (its `malloc`), or from system calls of the
//! program's own is marked at once, and so is memory that was not readable and writable when it was mapped. Memory that was mapped
//! by `mmap`, and is unmapped while it is marked by a call that does not pass here (a system call of the program's own, libc's
//! function found with `dlsym` in libc alone, a library that was loaded with `RTLD_DEEPBIND`), is outside of what can be made safe
//! in paired mode.
//!
//! With `VRANGE_MALLOC=on` it also hooks the allocator of the program, if that is gperftools' tcmalloc or jemalloc 5: memory that the
//! program frees is marked, instead of being given back at once ([`vrange_malloc`]).
//!
//! The library allocates with an allocator of its own, so that it can be called from inside the program's.
//!
//! [`ld.so(8)`]: https://man7.org/linux/man-pages/man8/ld.so.8.html

mod advice;
pub mod allocators;
mod errno;
mod forks;
mod load;
mod losses;
mod mappings;
mod mode;
mod next;

pub use mappings::before_all_is_locked;
pub use next::Next;

/// For what this library allocates itself.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// What the kernel maps and marks.
const PAGE_BYTES: usize = 4096;

/// Says something on standard error, if that can be done.
fn complain(what: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "vrange: {what}");
}
