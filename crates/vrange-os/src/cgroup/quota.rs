//! How much processor time our cgroups may use. A process that is out of quota is stopped like one that got SIGSTOP,
//! with everything it was about to do for others.

use std::path::Path;

use super::{Group, Version};
use crate::kernel_file::{KernelFile, Missing, ReadError, decimal};

/// The quota files of our group and all its ancestors, kept open.
#[derive(Debug, Default)]
pub struct CpuQuota {
    levels: Vec<QuotaFiles>,
}

#[derive(Debug)]
enum QuotaFiles {
    /// `cpu.cfs_quota_us` (−1: none) in every `cpu.cfs_period_us`.
    V1 { quota: KernelFile, period: KernelFile },
    /// `cpu.max`: quota or `max`, and period.
    V2 { max: KernelFile },
}

impl CpuQuota {
    /// Opens the files of `group`, which [`Hierarchies::group_of`](super::Hierarchies::group_of) found for
    /// [`Controller::Cpu`](super::Controller::Cpu). Levels without such a file have no quota; what cannot be opened for
    /// another reason is told.
    pub fn open(group: &Group) -> (Self, Vec<Missing>) {
        let mut quota = Self::default();
        let mut missing = Vec::new();
        for directory in group.directories() {
            match QuotaFiles::open(group.version(), directory) {
                Ok(files) => quota.levels.push(files),
                Err(error) if error.error.is_absent() => {}
                Err(error) => missing.push(error),
            }
        }
        (quota, missing)
    }

    /// The smallest quota of all levels, in processors: 0.2 is a fifth of one. `None` where there is none. A level that
    /// cannot be read is left out. Allocates nothing.
    pub fn read(&self) -> Option<f64> {
        self.levels.iter().filter_map(|files| files.read().ok().flatten()).reduce(f64::min)
    }
}

impl QuotaFiles {
    fn open(version: Version, directory: &Path) -> Result<Self, Missing> {
        let open = |name: &str| KernelFile::open(directory.join(name));
        Ok(match version {
            Version::V1 => Self::V1 { quota: open("cpu.cfs_quota_us")?, period: open("cpu.cfs_period_us")? },
            Version::V2 => Self::V2 { max: open("cpu.max")? },
        })
    }

    fn read(&self) -> Result<Option<f64>, ReadError> {
        let mut buffer = [0; 64];
        let (quota_us, period_us) = match self {
            Self::V1 { quota, period } => match quota.read(&mut buffer)? {
                text if text.starts_with(b"-") => return Ok(None),
                text => (crate::kernel_file::number(text)?, period.read_number()?),
            },
            Self::V2 { max } => match parse_max(max.read(&mut buffer)?)? {
                Some(both) => both,
                None => return Ok(None),
            },
        };
        if period_us == 0 {
            return Err(ReadError::Malformed("period"));
        }
        Ok(Some(quota_us as f64 / period_us as f64))
    }
}

/// `20000 100000` or `max 100000`.
fn parse_max(text: &[u8]) -> Result<Option<(u64, u64)>, ReadError> {
    const EXPECTED: ReadError = ReadError::Malformed("quota and period");
    let line = text.strip_suffix(b"\n").ok_or(EXPECTED)?;
    let mut fields = line.split(|&byte| byte == b' ');
    let quota = fields.next().ok_or(EXPECTED)?;
    let period = fields.next().and_then(decimal).ok_or(EXPECTED)?;
    if quota == b"max" {
        return Ok(None);
    }
    Ok(Some((decimal(quota).ok_or(EXPECTED)?, period)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_and_period() {
        assert_eq!(parse_max(b"20000 100000\n"), Ok(Some((20_000, 100_000))));
        assert_eq!(parse_max(b"max 100000\n"), Ok(None));
        for bad in [&b""[..], b"max\n", b"1 2", b"x 100\n", b"-1 100\n", b"5 \n"] {
            assert!(parse_max(bad).is_err(), "{bad:?}");
        }
    }
}
