//! A table of what ran, how it ended and how long it took.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

/// The steps of a long chore, run one after the other whatever their outcome.
#[derive(Default)]
pub(crate) struct Summary {
    steps: Vec<Step>,
}

struct Step {
    name: String,
    /// A note on the success, or the failure.
    outcome: Result<String, String>,
    took: Duration,
}

impl Summary {
    /// Runs one step, with a header before it, and notes how it went; a step that succeeds may add a remark.
    pub(crate) fn run(&mut self, name: impl Into<String>, step: impl FnOnce() -> Result<String>) {
        let name = name.into();
        println!("==> {name}");
        let begin = Instant::now();
        let outcome = step().map_err(|error| format!("{error:#}"));
        self.steps.push(Step { name, outcome, took: begin.elapsed() });
    }

    /// How many steps failed.
    pub(crate) fn failures(&self) -> usize {
        self.steps.iter().filter(|step| step.outcome.is_err()).count()
    }

    /// How many steps there were.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.steps.iter().map(|step| step.name.chars().count()).max().unwrap_or(0);
        for Step { name, outcome, took } in &self.steps {
            let (verdict, remark) = match outcome {
                Ok(remark) => ("ok    ", remark),
                Err(failure) => ("FAILED", failure),
            };
            writeln!(f, "{name:width$}  {:>7.1} s  {verdict}  {remark}", took.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_failed_step_is_counted_and_does_not_stop_the_next() {
        let mut summary = Summary::default();
        summary.run("first", || Err(anyhow!("no memory")));
        summary.run("second step", || Ok("3 passed".to_owned()));
        assert_eq!((summary.len(), summary.failures()), (2, 1));
        let table = summary.to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("first      ") && lines[0].ends_with("FAILED  no memory"), "{table}");
        assert!(lines[1].starts_with("second step") && lines[1].ends_with("ok      3 passed"), "{table}");
    }
}
