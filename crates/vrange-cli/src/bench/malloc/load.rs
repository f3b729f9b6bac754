//! What the allocators are compared at: a workload in some threads.

use super::workload::Workload;

/// A workload in some threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Load {
    pub(super) workload: Workload,
    pub(super) threads: u32,
}

impl Load {
    /// All that are measured on a machine with as many processors.
    pub(super) fn all(processors: u32) -> Vec<Self> {
        let mut loads = vec![
            Self { workload: Workload::Churn, threads: 1 },
            Self { workload: Workload::Search, threads: 1 },
        ];
        if processors > 1 {
            loads.push(Self { workload: Workload::Search, threads: processors });
        }
        loads
    }

    /// For headings.
    pub(super) fn title(self) -> String {
        let threads = if self.threads == 1 { "thread" } else { "threads" };
        format!("{}, {} {threads}", self.workload.name(), self.threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_processor_is_measured_once() {
        assert_eq!(Load::all(1).len(), 2);
        let titles: Vec<_> = Load::all(4).into_iter().map(Load::title).collect();
        assert_eq!(titles, ["churn, 1 thread", "search, 1 thread", "search, 4 threads"]);
    }
}
