//! The forms in which results are wanted: text, JSON, a picture, or all that in one for `vrange report`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use serde::Serialize;

use crate::bundle::{Bundle, Goal};
use crate::failure::Failure;
use crate::output;

/// What is wanted besides text or JSON.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Form {
    /// Draw the results into this file, too, as SVG.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) svg: Option<PathBuf>,
    /// One JSON object with results, goals and picture.
    #[arg(long, hide = true)]
    pub(crate) bundle: bool,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found<'a, R> {
    /// What `--json` prints.
    pub(crate) results: &'a R,
    pub(crate) goals: Vec<Goal>,
    /// What `--svg` draws; none where there is nothing to draw, or no picture is wanted.
    pub(crate) picture: Option<String>,
}

impl Form {
    /// Fails before anything is measured if the picture could not be written.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.svg.as_deref().map_or(Ok(()), check_file)
    }

    /// Is there no use for progress, since a program reads the results?
    pub(crate) fn is_for_a_program(&self, json: bool) -> bool {
        json || self.bundle
    }

    /// Draws a picture if one is wanted.
    pub(crate) fn picture(
        &self,
        draw: impl FnOnce() -> Result<String, Failure>,
    ) -> Result<Option<String>, Failure> {
        (self.bundle || self.svg.is_some()).then(draw).transpose()
    }

    /// Writes the picture, and prints the results: as JSON, or else as `text`.
    pub(crate) fn show<R: Serialize>(
        &self,
        json: bool,
        found: Found<'_, R>,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if let (Some(file), Some(picture)) = (&self.svg, &found.picture) {
            fs::write(file, picture).map_err(|error| Failure::io("writing", file.display(), &error))?;
        }
        if self.bundle {
            return Bundle::new(found.results, found.goals, found.picture)?.print();
        }
        if json { output::json(found.results) } else { output::text(&text()) }
    }
}

fn check_file(file: &Path) -> Result<(), Failure> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() && !file.is_dir() {
        return Ok(());
    }
    Err(Failure::usage(format!("--svg {}: no file can be there", file.display()))
        .hint("give a file name in a folder that exists"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_is_found_out_before() {
        assert!(check_file(Path::new("chart.svg")).is_ok());
        assert!(check_file(Path::new("/no/such/folder/chart.svg")).is_err());
        assert!(check_file(Path::new("/")).is_err());
    }
}
