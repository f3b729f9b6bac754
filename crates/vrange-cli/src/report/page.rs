//! The page: what the template is filled with. The template escapes all of it but the pictures, which this program has drawn.

use askama::Template;

use super::folder::GENERATOR;
use super::machine::Fact;
use super::tables::{self, Missing, Table};
use super::{Outcome, Report, Section, pretty};
use crate::bundle::Goal;
use crate::failure::Failure;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    generator: String,
    begun: &'a str,
    is_quick: bool,
    facts: &'a [Fact],
    versions: &'a [Fact],
    /// What the benches are built with to compare with.
    peers: Vec<(&'static str, &'static str)>,
    reached: usize,
    missed: usize,
    unknown: usize,
    /// Benches that did not come to a good end.
    failed: usize,
    parts: Vec<Part<'a>>,
}

/// A bench on the page.
struct Part<'a> {
    section: &'a Section,
    name: &'static str,
    title: &'static str,
    about_what: &'static str,
    terms: &'static [(&'static str, &'static str)],
    failed: Option<&'a str>,
    not_measured: Option<&'a str>,
    goals: &'a [Goal],
    tables: Vec<Table>,
    missing: Vec<Missing>,
    picture: Option<&'a str>,
    json: Option<String>,
}

/// The page as HTML that is also well-formed XML.
///
/// # Errors
/// None that is known: a string takes all that is written into it.
pub(super) fn render(report: &Report) -> Result<String, Failure> {
    let (reached, missed, unknown) = report.counts();
    let page = Page {
        generator: format!("{GENERATOR} {}", env!("CARGO_PKG_VERSION")),
        begun: &report.begun,
        is_quick: report.quick,
        facts: &report.machine.facts,
        versions: &report.machine.versions,
        peers: report.sections.iter().flat_map(|section| section.bench.peers()).copied().collect(),
        reached,
        missed,
        unknown,
        failed: report.sections.iter().filter(|section| section.has_failed()).count(),
        parts: report.sections.iter().map(Part::of).collect::<Result<_, _>>()?,
    };
    let html = page.render().map_err(|error| Failure::run(format!("writing the page: {error}")))?;
    Ok(without_controls(&html))
}

impl<'a> Part<'a> {
    fn of(section: &'a Section) -> Result<Self, Failure> {
        let bundle = section.bundle.as_ref();
        let bench = section.bench;
        let (failed, not_measured) = match &section.outcome {
            Outcome::Measured => (None, None),
            Outcome::Failed(reason) => (Some(reason.as_str()), None),
            Outcome::NotMeasured(reason) => (None, Some(reason.as_str())),
        };
        Ok(Self {
            section,
            name: bench.name(),
            title: bench.title(),
            about_what: bench.about_what(),
            terms: bench.terms(),
            failed,
            not_measured,
            goals: section.goals(),
            tables: bundle.map(|bundle| tables::of(bench, &bundle.results)).unwrap_or_default(),
            missing: bundle.map(|bundle| tables::missing(&bundle.results)).unwrap_or_default(),
            picture: bundle.and_then(|bundle| bundle.picture.as_deref()),
            json: bundle.map(|bundle| pretty(&bundle.results)).transpose()?,
        })
    }
}

/// How a goal stands, as a class and as a word.
fn standing(reached: &Option<bool>) -> (&'static str, &'static str) {
    match reached {
        Some(true) => ("reached", "reached"),
        Some(false) => ("missed", "missed"),
        None => ("unknown", "not measured"),
    }
}

/// XML allows no control characters, not even escaped; names of files and messages of others may have them.
fn without_controls(html: &str) -> String {
    let is_allowed = |letter: &char| !letter.is_control() || matches!(letter, '\n' | '\t');
    html.chars().filter(is_allowed).collect()
}

#[cfg(test)]
mod tests {
    use roxmltree::{Document, Node, ParsingOptions};
    use serde_json::json;

    use super::*;
    use crate::bundle::Bundle;
    use crate::report::benches::Bench;
    use crate::report::machine::Machine;

    const NASTY: &str = "<script>alert(\"&amp;\")</script>'\u{1b}[31m";

    fn section(bench: Bench, outcome: Outcome, bundle: Option<Bundle>) -> Section {
        Section {
            bench,
            command: format!("vrange {NASTY}"),
            outcome,
            load_average: ["0.01".to_owned(), "2.00".to_owned()],
            remarks: vec![NASTY.to_owned()],
            seconds: 7,
            bundle,
        }
    }

    fn report() -> Report {
        let goal = |reached| Goal {
            what: NASTY.to_owned(),
            goal: NASTY.to_owned(),
            found: NASTY.to_owned(),
            reached,
        };
        let results = json!([
            {"allocator": NASTY, "config": "marks", "workload": NASTY, "threads": 2, "records_per_second": 1.5e6,
             "resident_bytes": 77, "peak_bytes": 99, "ratio_to_keep": 0.98, "ratio_to_dontneed": 9.5, "not_measured": null},
            {"allocator": "x", "config": "free", "workload": NASTY, "threads": 2, "not_measured": NASTY},
        ]);
        let picture = "<svg xmlns=\"http://www.w3.org/2000/svg\"><text>drawn</text></svg>".to_owned();
        let bundle = Bundle {
            results,
            goals: [Some(true), Some(false), None].map(goal).into(),
            picture: Some(picture),
        };
        Report {
            begun: "2026-01-02T03:04:05Z".to_owned(),
            quick: true,
            machine: Machine::look(),
            sections: vec![
                section(Bench::Malloc, Outcome::Measured, Some(bundle)),
                section(Bench::Raw, Outcome::Failed(NASTY.to_owned()), None),
                section(Bench::Cache, Outcome::NotMeasured(NASTY.to_owned()), None),
            ],
        }
    }

    fn parse(page: &str) -> Document<'_> {
        let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
        Document::parse_with_options(page, options).unwrap_or_else(|error| panic!("{error}: {page}"))
    }

    fn text(node: Node) -> String {
        node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect()
    }

    #[test]
    fn nothing_from_outside_becomes_part_of_the_page() {
        let page = render(&report()).expect("a string takes all");
        let document = parse(&page);
        assert!(document.descendants().all(|node| !node.has_tag_name("script")), "{page}");
        assert!(!page.contains('\u{1b}'));
        let visible = NASTY.replace('\u{1b}', "");
        assert!(text(document.root()).matches(&visible).count() >= 10, "it has to be shown all the same");
    }

    #[test]
    fn every_goal_is_shown_as_it_stands_and_every_bench_with_its_outcome() {
        let page = render(&report()).expect("a string takes all");
        let document = parse(&page);
        let of_class = |name: &'static str| {
            document.descendants().filter(move |node| {
                node.attribute("class").is_some_and(|classes| classes.split(' ').any(|class| class == name))
            })
        };
        // Each missed one also among the misses at the top.
        let rows = |name| of_class(name).filter(|node| node.has_tag_name("tr")).count();
        assert_eq!((rows("reached"), rows("missed"), rows("unknown")), (1, 1, 1));
        assert_eq!(of_class("failed").count(), 1);
        assert_eq!(of_class("not-measured").count(), 1);
        assert!(text(document.root()).contains("quick"));
        assert!(text(document.root()).contains("1 of the benches failed"));
    }

    #[test]
    fn every_figure_can_be_read_by_programs() {
        let page = render(&report()).expect("a string takes all");
        let document = parse(&page);
        let data = document.descendants().filter(|node| node.has_tag_name("data"));
        let figures: Vec<_> = data.filter_map(|node| node.attribute("value")).collect();
        for figure in ["1500000.0", "77", "99", "0.98", "9.5"] {
            assert!(figures.contains(&figure), "{figure}: {figures:?}");
        }
        assert!(document.descendants().any(|node| node.text() == Some("drawn")), "no picture: {page}");
    }
}
