//! The list of processes.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Style, Stylize as _};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::app::App;
use super::columns::{self, Column};
use super::rates::Rates;
use crate::size::short;
use crate::stat::ProcessFigures;

const KEYS: &str = "q quit  s sort  r reverse  / filter  Enter one process  ? help";

pub(super) fn draw(frame: &mut Frame<'_>, app: &App) {
    let rows = app.rows();
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Paragraph::new(summary(app, &rows)), head);
    if rows.is_empty() {
        frame.render_widget(Paragraph::new(nothing(app)).wrap(ratatui::widgets::Wrap { trim: true }), body);
    } else {
        let mut state = TableState::default().with_selected(app.selected_row());
        frame.render_stateful_widget(table(app, &rows, body.width), body, &mut state);
    }
    frame.render_widget(Paragraph::new(footer(app)), foot);
}

fn table<'a>(app: &App, rows: &[(&ProcessFigures, Rates)], width: u16) -> Table<'a> {
    let columns = columns::that_fit(width);
    let (sort, is_reversed) = app.sort();
    let title = |column: &Column| {
        let cell = Cell::from(aligned(*column, column.title().to_owned()));
        match (*column == sort, is_reversed) {
            (false, _) => cell.bold(),
            (true, false) => cell.bold().underlined(),
            (true, true) => cell.bold().underlined().italic(),
        }
    };
    let header = Row::new(columns.iter().map(title).collect::<Vec<_>>());
    let cells = |(process, rates): &(&ProcessFigures, Rates)| {
        let cells = columns.iter().map(|column| Cell::from(aligned(*column, column.text(process, rates))));
        Row::new(cells.collect::<Vec<_>>())
    };
    let widths = columns.iter().map(|column| Constraint::Length(column.width())).collect::<Vec<_>>();
    Table::new(rows.iter().map(cells).collect::<Vec<_>>(), widths)
        .header(header)
        .column_spacing(1)
        .row_highlight_style(Style::new().reversed())
}

fn aligned<'a>(column: Column, text: String) -> Text<'a> {
    let side = if column == Column::Name { Alignment::Left } else { Alignment::Right };
    Text::from(text).alignment(side)
}

fn summary<'a>(app: &App, rows: &[(&ProcessFigures, Rates)]) -> Line<'a> {
    let sum = |column: Column| {
        rows.iter().map(|(process, rates)| column.value(process, rates)).fold(0, u64::saturating_add)
    };
    let (sort, is_reversed) = app.sort();
    Line::from(format!(
        "vrange top: {} {}, {} resident, {} reclaimable, sorted by {}{}",
        rows.len(),
        if rows.len() == 1 { "process" } else { "processes" },
        short(sum(Column::Resident)),
        short(sum(Column::Reclaimable)),
        sort.title(),
        if is_reversed { ", reversed" } else { "" },
    ))
}

fn nothing(app: &App) -> String {
    match app.filter() {
        ("", _) => "No process that this user may look into has volatile memory.".to_owned(),
        (filter, _) => format!("No process has \"{filter}\" in its name. Esc shows all."),
    }
}

fn footer<'a>(app: &App) -> Line<'a> {
    match (app.filter(), app.closed_count()) {
        ((filter, true), _) => Line::from(format!("filter: {filter}_")).bold(),
        (("", false), 0) => Line::from(KEYS),
        (("", false), closed) => Line::from(format!("{KEYS}  ({closed} closed)")),
        ((filter, false), _) => Line::from(format!("filter: {filter}  (Esc shows all)  {KEYS}")),
    }
}
