//! One answer of the doctor.

use serde::Serialize;

/// How good a finding is; later is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// Nothing to do.
    Good,
    /// Works, with a cost or a case that is not covered.
    Limited,
    /// Does not work; data is kept all the same, and memory is given back later or not at all.
    Missing,
}

impl Status {
    /// How it is shown at the beginning of a line.
    pub(super) fn mark(self) -> &'static str {
        match self {
            Self::Good => "ok     ",
            Self::Limited => "limited",
            Self::Missing => "missing",
        }
    }

    /// What it means if this is the worst that was found.
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::Good => "Volatile memory works here to its full extent.",
            Self::Limited => "Volatile memory works here, with the limits named above. No data is at risk.",
            Self::Missing => "Some of it does not work here: see above. No data is at risk.",
        }
    }
}

/// What was found about one topic.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    /// For programs: does not change between versions.
    pub(super) topic: &'static str,
    /// For people.
    #[serde(skip)]
    pub(super) title: &'static str,
    /// How good that is.
    pub(super) status: Status,
    /// What was found.
    pub(super) value: String,
    /// What it means for a program that keeps volatile memory.
    pub(super) meaning: String,
    /// What to change, if anything.
    pub(super) change: Option<String>,
}

impl Finding {
    /// Nothing to do.
    pub(super) fn good(
        topic: &'static str,
        title: &'static str,
        value: impl Into<String>,
        meaning: impl Into<String>,
    ) -> Self {
        Self {
            topic,
            title,
            status: Status::Good,
            value: value.into(),
            meaning: meaning.into(),
            change: None,
        }
    }

    /// Works with a limit, and this can be done about it.
    pub(super) fn limited(self, change: impl Into<String>) -> Self {
        Self { status: Status::Limited, change: Some(change.into()), ..self }
    }

    /// Does not work, and this can be done about it.
    pub(super) fn missing(self, change: impl Into<String>) -> Self {
        Self { status: Status::Missing, change: Some(change.into()), ..self }
    }
}
