//! Reading memory that may not be there.

use rustix::io::Errno;

use crate::OsError;

/// Copies `into.len()` bytes of this process's memory from `address`, through the kernel: what would be a fault is an error
/// (`process_vm_readv(2)`, Linux 3.2). About 0.3 µs.
///
/// # Errors
/// `EFAULT`: it is not mapped, or cannot be read. Others where the call is forbidden, for example by a seccomp filter.
pub fn look_into(address: usize, into: &mut [u8]) -> Result<(), OsError> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: into.len() };
    // Asked of the kernel: glibc before 2.25 remembers the number of the parent in a child made by a raw `clone`.
    let this = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: the kernel writes to `into` alone, and at most its length; both structures outlive the call.
    let copied = unsafe { libc::process_vm_readv(this, &raw const local, 1, &raw const remote, 1, 0) };
    match usize::try_from(copied) {
        Ok(copied) if copied == into.len() => Ok(()),
        Ok(_) => Err(OsError::new("process_vm_readv", Errno::FAULT)),
        Err(_) => {
            let error = std::io::Error::last_os_error();
            Err(OsError::new("process_vm_readv", Errno::from_io_error(&error).unwrap_or(Errno::IO)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_an_error() {
        let word = 0x1122_3344_5566_7788_u64.to_ne_bytes();
        let mut copy = [0; 8];
        look_into((&raw const word).addr(), &mut copy).expect("a local variable");
        assert_eq!(copy, word);
        assert_eq!(look_into(0x1000, &mut copy).expect_err("nothing is mapped there").errno(), Errno::FAULT);
    }
}
