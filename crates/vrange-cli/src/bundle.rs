//! All that a measurement found in one JSON object: how a bench tells it to `vrange report`, which started it.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::output;

/// What a bench found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Bundle {
    /// What `--json` prints.
    pub(crate) results: serde_json::Value,
    pub(crate) goals: Vec<Goal>,
    /// What `--svg` draws; none where there is nothing to draw.
    pub(crate) picture: Option<String>,
}

/// A goal, and whether it was reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) goal: String,
    pub(crate) found: String,
    /// None: could not be measured in this run.
    pub(crate) reached: Option<bool>,
}

impl Bundle {
    /// Of results as they would be printed.
    ///
    /// # Errors
    /// They cannot be written as JSON.
    pub(crate) fn new(
        results: &impl Serialize,
        goals: Vec<Goal>,
        picture: Option<String>,
    ) -> Result<Self, Failure> {
        let results = serde_json::to_value(results)
            .map_err(|error| Failure::run(format!("writing the result as JSON: {error}")))?;
        Ok(Self { results, goals, picture })
    }

    /// Prints it for whoever started this process.
    pub(crate) fn print(&self) -> Result<(), Failure> {
        output::json_line(self)
    }
}
