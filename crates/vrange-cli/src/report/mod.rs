//! `vrange report`: all measurements of this machine, as a page that needs nothing but itself.
//!
//! Each bench is this program started again ([`child`]), so that one that dies leaves the others' results. It tells them as a
//! [`Bundle`], of which [`tables`] makes tables and [`page`] the page. Everything is written by this process, into a folder that gets its
//! name when it is complete ([`folder`]).

mod benches;
mod child;
mod folder;
mod machine;
mod page;
mod progress;
mod tables;

use std::path::Path;

use serde::Serialize;

use crate::bench::machine::load_average;
use crate::bundle::{Bundle, Goal};
use crate::command_line::ReportOptions;
use crate::demo::room;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output;
pub(crate) use benches::Bench;
use child::Ended;
use folder::Folder;
use machine::Machine;
use progress::Progress;

/// A bench, and what became of it.
#[derive(Debug, Serialize)]
struct Section {
    bench: Bench,
    /// What has to be typed for the same figures.
    command: String,
    #[serde(flatten)]
    outcome: Outcome,
    /// Of the machine, before and after: what disturbed it.
    load_average: [String; 2],
    /// What the bench said besides its results.
    remarks: Vec<String>,
    seconds: u64,
    #[serde(flatten)]
    bundle: Option<Bundle>,
}

/// What became of a bench.
#[derive(Debug, Serialize)]
#[serde(tag = "outcome", content = "reason", rename_all = "snake_case")]
enum Outcome {
    Measured,
    /// It did not come to a good end. There may be results all the same.
    Failed(String),
    /// This machine cannot do it, or it was not asked for.
    NotMeasured(String),
}

/// Everything that the page is made of.
#[derive(Debug, Serialize)]
struct Report {
    /// When it was begun, as RFC 3339 has it.
    begun: String,
    quick: bool,
    machine: Machine,
    sections: Vec<Section>,
}

/// Measures, and writes the page.
///
/// # Errors
/// The folder cannot be written, a signal came, or a bench failed; in the last case the page is there and says so.
pub(crate) fn run(options: &ReportOptions) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let folder = Folder::beside(&options.output)?;
    let report = measure(options, &interrupt)?;
    let page = page::render(&report)?;
    for section in &report.sections {
        if let Some(bundle) = &section.bundle {
            let name = section.bench.name();
            folder.write(&format!("{name}.json"), &pretty(&bundle.results)?)?;
            if let Some(picture) = &bundle.picture {
                folder.write(&format!("{name}.svg"), picture)?;
            }
        }
    }
    folder.write("report.json", &pretty(&report)?)?;
    folder.write(folder::PAGE, &page)?;
    // A signal that came while files were written still counts.
    interrupt.check()?;
    folder.publish()?;
    output::text(&report.summary(&options.output))?;
    report.verdict()
}

fn measure(options: &ReportOptions, interrupt: &Interrupt) -> Result<Report, Failure> {
    let begun = machine::now();
    let machine = Machine::look();
    let wanted: Vec<_> = Bench::ALL.into_iter().filter(|bench| options.wants(*bench)).collect();
    let progress = Progress::new(wanted.len());
    let mut sections = Vec::new();
    for bench in Bench::ALL {
        let command = bench.arguments(options.quick).join(" ");
        let mut section = Section {
            bench,
            command: format!("vrange {command}"),
            outcome: Outcome::NotMeasured("not asked for".to_owned()),
            load_average: [String::new(), String::new()],
            remarks: Vec::new(),
            seconds: 0,
            bundle: None,
        };
        if wanted.contains(&bench) {
            progress.begin(&section.command, bench.about(options.quick));
            section.measure(options.quick, interrupt)?;
            progress.end(&section);
        }
        sections.push(section);
    }
    Ok(Report { begun, quick: options.quick, machine, sections })
}

impl Section {
    fn measure(&mut self, quick: bool, interrupt: &Interrupt) -> Result<(), Failure> {
        if let Some(needed_bytes) = self.bench.needed_bytes(quick)
            && let Err(failure) = room::check(needed_bytes)
        {
            self.outcome = Outcome::NotMeasured(failure.message().to_owned());
            return Ok(());
        }
        self.load_average[0] = load_average();
        let Ended { failed, told, said, took } = child::run(&self.bench.arguments(quick), interrupt)?;
        self.load_average[1] = load_average();
        self.seconds = took.as_secs();
        self.remarks =
            said.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        self.bundle = serde_json::from_str(&told).ok();
        self.outcome = match (failed, &self.bundle) {
            (Some(reason), _) => Outcome::Failed(reason),
            (None, None) => Outcome::Failed("it came to a good end without results".to_owned()),
            (None, Some(_)) => Outcome::Measured,
        };
        Ok(())
    }

    fn has_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }

    fn goals(&self) -> &[Goal] {
        self.bundle.as_ref().map_or(&[], |bundle| &bundle.goals)
    }
}

impl Report {
    /// How many goals were reached, missed, and not measured.
    fn counts(&self) -> (usize, usize, usize) {
        let goals: Vec<_> = self.sections.iter().flat_map(Section::goals).collect();
        let count = |reached| goals.iter().filter(|goal| goal.reached == reached).count();
        (count(Some(true)), count(Some(false)), count(None))
    }

    fn summary(&self, folder: &Path) -> String {
        let (reached, missed, unknown) = self.counts();
        let page = folder.join(folder::PAGE);
        format!("{}: {reached} goals reached, {missed} missed, {unknown} not measured\n", page.display())
    }

    /// Fails if a bench did.
    fn verdict(&self) -> Result<(), Failure> {
        let failed = self.sections.iter().filter_map(|section| match &section.outcome {
            Outcome::Failed(reason) => Some(format!("{}: {reason}", section.command)),
            Outcome::Measured | Outcome::NotMeasured(_) => None,
        });
        let failed: Vec<_> = failed.collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(Failure::run(failed.join("; ")).hint("the page has what the others found"))
    }
}

fn pretty(value: &impl Serialize) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::run(format!("writing the result as JSON: {error}")))?;
    text.push('\n');
    Ok(text)
}
