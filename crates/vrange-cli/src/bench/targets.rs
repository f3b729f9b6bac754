//! Goals, and whether a run reached them.

use std::fmt::Write as _;

use crate::bundle::Goal;

/// A goal.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) what: &'static str,
    pub(crate) goal: String,
    pub(crate) found: String,
    /// None: could not be measured in this run.
    pub(crate) reached: Option<bool>,
}

impl Target {
    pub(crate) fn at_least(what: &'static str, goal: f64, found: Option<f64>) -> Self {
        Self {
            what,
            goal: format!("at least {goal} times cheaper"),
            found: found.map_or("not measured".to_owned(), |found| format!("{found:.1} times")),
            reached: found.map(|found| found >= goal),
        }
    }

    pub(crate) fn at_most(what: &'static str, goal: f64, found: Option<f64>) -> Self {
        Self {
            what,
            goal: format!("at most {goal} times"),
            found: found.map_or("not measured".to_owned(), |found| format!("{found:.2} times")),
            reached: found.map(|found| found <= goal),
        }
    }
}

impl From<&Target> for Goal {
    fn from(target: &Target) -> Self {
        Self {
            what: target.what.to_owned(),
            goal: target.goal.clone(),
            found: target.found.clone(),
            reached: target.reached,
        }
    }
}

/// As whoever asked for everything reads them.
pub(crate) fn goals(targets: &[Target]) -> Vec<Goal> {
    targets.iter().map(Goal::from).collect()
}

/// One figure over another, if both were measured.
pub(crate) fn over(left: Option<f64>, right: Option<f64>) -> Option<f64> {
    Some(left? / right?)
}

/// The goals as a table.
pub(crate) fn text(targets: &[Target]) -> String {
    let mut text = String::from("goals\n");
    for target in targets {
        let reached = match target.reached {
            Some(true) => "reached",
            Some(false) => "NOT reached",
            None => "-",
        };
        let _ = writeln!(text, "{reached:<12} {:<45} {:<39} {}", target.what, target.goal, target.found);
    }
    text
}
