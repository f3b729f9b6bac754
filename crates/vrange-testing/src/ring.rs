//! Registered buffers of io_uring: the one way of writing to memory that leaves its page table as it was.

use std::fs::File;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};

use crate::skipped;

/// A queue of the kernel's.
pub struct Ring(IoUring);

impl Ring {
    /// None, and a line that says so, where there is no io_uring.
    #[must_use]
    pub fn new() -> Option<Self> {
        let ring = IoUring::new(2);
        if let Err(error) = &ring {
            skipped(&format!("no io_uring: {error}"));
        }
        ring.ok().map(Self)
    }

    /// Has the kernel read the file into memory that is registered before and forgotten afterwards.
    ///
    /// # Panics
    /// The kernel refuses.
    pub fn read_registered(&mut self, file: &File, bytes: &mut [u8]) {
        let Self(ring) = self;
        let vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: the bytes are borrowed until the registration is taken back below.
        unsafe { ring.submitter().register_buffers(&[vector]) }.expect("registered");
        let length = u32::try_from(bytes.len()).expect("a short buffer");
        let read = opcode::ReadFixed::new(types::Fd(file.as_raw_fd()), bytes.as_mut_ptr(), length, 0).build();
        // SAFETY: the file and the bytes are borrowed until the completion below.
        unsafe { ring.submission().push(&read) }.expect("room in the queue");
        ring.submit_and_wait(1).expect("submitted");
        let completion = ring.completion().next().expect("completed");
        assert_eq!(completion.result(), i32::try_from(length).expect("a short buffer"));
        ring.submitter().unregister_buffers().expect("unregistered");
    }
}
