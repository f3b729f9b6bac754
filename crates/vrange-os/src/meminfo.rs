//! The machine's memory, from `/proc/meminfo` (`proc_meminfo(5)`).

use crate::kernel_file::{KernelFile, Missing, ReadError, Root, numbers};

/// What `/proc/meminfo` said. All values are in bytes; the file's `kB` are KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemInfo {
    /// `MemTotal`: memory the kernel manages.
    pub total_bytes: u64,
    /// `MemFree`: memory that holds nothing.
    pub free_bytes: u64,
    /// `MemAvailable`: what could be allocated without swapping, by the kernel's own estimate. It contains pages that
    /// were given to `MADV_FREE`, since they stand on the list of inactive file pages.
    pub available_bytes: u64,
    /// `Active(file)` and `Inactive(file)`: page cache that is not locked, and pages given to `MADV_FREE`. Where the
    /// file does not tell (a container's emulation), `None`.
    pub file_lists_bytes: Option<u64>,
    /// `Cached` and `Buffers` without `Shmem`: page cache. Where the file does not tell, `None`.
    pub page_cache_bytes: Option<u64>,
    /// `SwapTotal`; 0 where there is no swap or the file does not tell.
    pub swap_total_bytes: u64,
    /// `SwapFree`; 0 where there is no swap or the file does not tell.
    pub swap_free_bytes: u64,
}

/// `/proc/meminfo`, kept open.
#[derive(Debug)]
pub struct MemInfoFile {
    file: KernelFile,
}

impl MemInfoFile {
    /// Opens the file.
    ///
    /// # Errors
    /// What `open(2)` answers; without `/proc` there is none.
    pub fn open(root: &Root) -> Result<Self, Missing> {
        KernelFile::open(root.join("/proc/meminfo")).map(|file| Self { file })
    }

    /// Reads the file. One system call, no allocation. `buffer`: [`BUFFER_BYTES`](crate::kernel_file::BUFFER_BYTES)
    /// are enough.
    ///
    /// # Errors
    /// What `pread(2)` answers, or one of `MemTotal`, `MemFree` and `MemAvailable` is not in it.
    pub fn read(&self, buffer: &mut [u8]) -> Result<MemInfo, ReadError> {
        parse(self.file.read(buffer)?)
    }
}

fn parse(text: &[u8]) -> Result<MemInfo, ReadError> {
    let keys = [
        "MemTotal",
        "MemFree",
        "MemAvailable",
        "Active(file)",
        "Inactive(file)",
        "Cached",
        "Buffers",
        "Shmem",
        "SwapTotal",
        "SwapFree",
    ];
    let [total, free, available, active, inactive, cached, buffers, shmem, swap_total, swap_free] =
        numbers(text, keys).map(bytes_from_kib);
    Ok(MemInfo {
        total_bytes: total.ok_or(ReadError::Malformed("MemTotal"))?,
        free_bytes: free.ok_or(ReadError::Malformed("MemFree"))?,
        available_bytes: available.ok_or(ReadError::Malformed("MemAvailable"))?,
        file_lists_bytes: active.zip(inactive).map(|(active, inactive)| active.saturating_add(inactive)),
        page_cache_bytes: cached
            .zip(buffers)
            .zip(shmem)
            .map(|((cached, buffers), shmem)| cached.saturating_add(buffers).saturating_sub(shmem)),
        swap_total_bytes: swap_total.unwrap_or(0),
        swap_free_bytes: swap_free.unwrap_or(0),
    })
}

fn bytes_from_kib(kib: Option<u64>) -> Option<u64> {
    kib.map(|kib| kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "MemTotal:       24683656 kB\nMemFree:        24155280 kB\nMemAvailable:   24284216 kB\n\
        Buffers:            1280 kB\nCached:           269832 kB\nActive(file):      53536 kB\n\
        Inactive(file):   208616 kB\nShmem:              8952 kB\nSwapTotal:          2048 kB\n\
        SwapFree:           1024 kB\n";

    #[test]
    fn units_are_bytes() {
        let info = parse(TEXT.as_bytes()).expect("well formed");
        assert_eq!(info.total_bytes, 24_683_656 << 10);
        assert_eq!(info.free_bytes, 24_155_280 << 10);
        assert_eq!(info.available_bytes, 24_284_216 << 10);
        assert_eq!(info.file_lists_bytes, Some((53_536 + 208_616) << 10));
        assert_eq!(info.page_cache_bytes, Some((269_832 + 1280 - 8952) << 10));
        assert_eq!((info.swap_total_bytes, info.swap_free_bytes), (2048 << 10, 1024 << 10));
    }

    #[test]
    fn a_file_cut_anywhere_gives_an_error_or_the_right_numbers() {
        let whole = parse(TEXT.as_bytes()).expect("well formed");
        for end in 0..TEXT.len() {
            let Ok(part) = parse(&TEXT.as_bytes()[..end]) else {
                continue;
            };
            assert_eq!(part.available_bytes, whole.available_bytes);
            assert!(part.file_lists_bytes.is_none_or(|bytes| Some(bytes) == whole.file_lists_bytes));
            assert!(part.page_cache_bytes.is_none_or(|bytes| Some(bytes) == whole.page_cache_bytes));
            assert!([0, whole.swap_total_bytes].contains(&part.swap_total_bytes));
        }
    }

    #[test]
    fn an_old_or_garbled_file_is_an_error() {
        assert_eq!(parse(b"MemTotal: 1 kB\nMemFree: 1 kB\n"), Err(ReadError::Malformed("MemAvailable")));
        assert_eq!(parse(b"MemTotal: -1 kB\nMemFree: x\n"), Err(ReadError::Malformed("MemTotal")));
        assert_eq!(parse(&[0xff; 300]), Err(ReadError::Malformed("MemTotal")));
        let huge = b"MemTotal: 18446744073709551615 kB\nMemFree: 1 kB\nMemAvailable: 1 kB\n";
        assert_eq!(parse(huge).expect("large and well formed").total_bytes, u64::MAX);
    }

    #[test]
    fn the_real_file_is_sound() {
        let file = MemInfoFile::open(&Root::real()).expect("/proc is mounted");
        let info = file.read(&mut [0; crate::kernel_file::BUFFER_BYTES]).expect("well formed");
        assert!(info.total_bytes >= info.free_bytes);
        assert!(info.total_bytes >= info.available_bytes);
        assert!(info.file_lists_bytes.is_some() && info.page_cache_bytes.is_some());
    }
}
