//! The columns of the list of processes.

use super::rates::Rates;
use crate::size::short;
use crate::stat::ProcessFigures;

/// A column, in the order in which they stand beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Pid,
    Name,
    Resident,
    Reclaimable,
    Pinned,
    Volatile,
    Offered,
    LostRate,
    ReleasedRate,
    Lost,
    Released,
    Headroom,
}

use Column::{
    Headroom, Lost, LostRate, Name, Offered, Pid, Pinned, Reclaimable, Released, ReleasedRate, Resident,
    Volatile,
};

/// Where there is room for some only, it is for the first of these.
const BY_IMPORTANCE: [Column; 12] = [
    Name,
    Reclaimable,
    Pid,
    Offered,
    Volatile,
    Resident,
    LostRate,
    Pinned,
    ReleasedRate,
    Lost,
    Released,
    Headroom,
];

/// All of them, as they stand beside each other.
const IN_ORDER: [Column; 12] = [
    Pid,
    Name,
    Resident,
    Reclaimable,
    Pinned,
    Volatile,
    Offered,
    LostRate,
    ReleasedRate,
    Lost,
    Released,
    Headroom,
];

impl Column {
    pub(super) fn title(self) -> &'static str {
        match self {
            Pid => "PID",
            Name => "NAME",
            Resident => "RESIDENT",
            Reclaimable => "RECLAIM",
            Pinned => "PINNED",
            Volatile => "VOLATILE",
            Offered => "OFFERED",
            LostRate => "LOST/s",
            ReleasedRate => "FREED/s",
            Lost => "LOST",
            Released => "FREED",
            Headroom => "HEADROOM",
        }
    }

    pub(super) fn width(self) -> u16 {
        match self {
            Name => 14,
            Resident | Volatile | Headroom => 8,
            _ => 7,
        }
    }

    pub(super) fn text(self, process: &ProcessFigures, rates: &Rates) -> String {
        match self {
            Pid => process.pid.to_string(),
            Name => process.name.clone(),
            _ => short(self.value(process, rates)),
        }
    }

    /// What rows are sorted by.
    pub(super) fn value(self, process: &ProcessFigures, rates: &Rates) -> u64 {
        match self {
            Pid => process.pid.into(),
            Name => 0,
            Resident => process.resident_bytes,
            Reclaimable => process.reclaimable_bytes,
            Pinned => process.sum(|heap| heap.pinned.bytes),
            Volatile => process.sum(|heap| heap.volatile.bytes),
            Offered => process.sum(|heap| heap.offered.bytes),
            LostRate => rates.lost,
            ReleasedRate => rates.released,
            Lost => process.sum(|heap| heap.lost_bytes_total),
            Released => process.sum(|heap| heap.released_bytes_total),
            Headroom => process.tightest_level().map_or(0, |level| level.headroom_bytes),
        }
    }

    /// The one that is sorted by after this one.
    pub(super) fn next(self) -> Self {
        let place = IN_ORDER.iter().position(|column| *column == self).unwrap_or(0);
        IN_ORDER[(place + 1) % IN_ORDER.len()]
    }
}

/// Those for which there is room in so many characters, with one between two.
pub(super) fn that_fit(width: u16) -> Vec<Column> {
    let mut left = width;
    let mut fitting = Vec::new();
    for column in BY_IMPORTANCE {
        let needed = column.width() + u16::from(!fitting.is_empty());
        // What is less important does not take the place of what did not fit.
        if needed > left {
            break;
        }
        left -= needed;
        fitting.push(column);
    }
    IN_ORDER.into_iter().filter(|column| fitting.contains(column)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_any_terminal() {
        for width in 0..300 {
            let columns = that_fit(width);
            let needed: u16 = columns.iter().map(|column| column.width() + 1).sum();
            assert!(needed <= width + 1, "{width}: {columns:?}");
        }
        assert_eq!(that_fit(20), [Name]);
        assert_eq!(that_fit(80).len(), 9);
        assert_eq!(that_fit(300), IN_ORDER);
        assert!(IN_ORDER.iter().all(|column| BY_IMPORTANCE.contains(column)));
        assert!(IN_ORDER.iter().all(|column| column.title().len() <= usize::from(column.width())));
    }
}
