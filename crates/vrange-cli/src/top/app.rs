//! What is shown, and what a key does to it.

use std::cmp::Reverse;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::columns::Column;
use super::rates::{History, Rates};
use crate::stat::{ProcessFigures, Report};

/// The longest text to filter by.
const FILTER_CHARS_MAX: usize = 40;

/// One of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// All processes.
    List,
    /// The process with this number.
    Detail(u32),
    Help,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct App {
    report: Report,
    history: History,
    page: Page,
    sort: Column,
    is_reversed: bool,
    filter: String,
    /// The filter is being typed.
    is_typing: bool,
    selected: Option<u32>,
    /// The first line of a process's page that is shown.
    scrolled: u16,
    is_left: bool,
}

impl App {
    pub(super) fn new(report: Report) -> Self {
        let mut app = Self {
            report: Report { processes: Vec::new(), closed: Vec::new() },
            history: History::default(),
            page: Page::List,
            sort: Column::Reclaimable,
            is_reversed: false,
            filter: String::new(),
            is_typing: false,
            selected: None,
            scrolled: 0,
            is_left: false,
        };
        app.update(report);
        app
    }

    /// A further look.
    pub(super) fn update(&mut self, report: Report) {
        self.history.update(&report.processes);
        self.report = report;
    }

    pub(super) fn is_left(&self) -> bool {
        self.is_left
    }

    pub(super) fn page(&self) -> Page {
        self.page
    }

    /// The column that is sorted by, and whether in the other direction than usual.
    pub(super) fn sort(&self) -> (Column, bool) {
        (self.sort, self.is_reversed)
    }

    /// The text to filter by, and whether it is being typed.
    pub(super) fn filter(&self) -> (&str, bool) {
        (&self.filter, self.is_typing)
    }

    /// How many processes cannot be looked into.
    pub(super) fn closed_count(&self) -> usize {
        self.report.closed.len()
    }

    pub(super) fn scrolled(&mut self, most: u16) -> u16 {
        self.scrolled = self.scrolled.min(most);
        self.scrolled
    }

    pub(super) fn process(&self, pid: u32) -> Option<(&ProcessFigures, Rates)> {
        let process = self.report.processes.iter().find(|process| process.pid == pid)?;
        Some((process, self.history.rates(process)))
    }

    /// The processes that the filter lets through, in the order of the sorted column: names and numbers ascending, amounts descending.
    pub(super) fn rows(&self) -> Vec<(&ProcessFigures, Rates)> {
        let is_shown = |process: &&ProcessFigures| {
            process.name.contains(&self.filter) || process.pid.to_string() == self.filter
        };
        let mut rows: Vec<(&ProcessFigures, Rates)> = self
            .report
            .processes
            .iter()
            .filter(is_shown)
            .map(|process| (process, self.history.rates(process)))
            .collect();
        match self.sort {
            Column::Name => rows.sort_by_key(|(process, _)| (&process.name, process.pid)),
            Column::Pid => rows.sort_by_key(|(process, _)| process.pid),
            column => {
                rows.sort_by_key(|(process, rates)| (Reverse(column.value(process, rates)), process.pid));
            }
        }
        if self.is_reversed {
            rows.reverse();
        }
        rows
    }

    /// The row of the process that is selected: the first, until there is one.
    pub(super) fn selected_row(&self) -> Option<usize> {
        let rows = self.rows();
        let selected = rows.iter().position(|(process, _)| Some(process.pid) == self.selected);
        selected.or(if rows.is_empty() { None } else { Some(0) })
    }

    pub(super) fn press(&mut self, key: KeyEvent) {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            self.is_left |= matches!(key.code, KeyCode::Char('c' | 'd'));
            return;
        }
        if self.is_typing {
            return self.type_filter(key.code);
        }
        match self.page {
            Page::List => self.press_in_list(key.code),
            Page::Detail(_) => self.press_in_detail(key.code),
            Page::Help => self.page = Page::List,
        }
    }

    fn press_in_list(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char('q') => self.is_left = true,
            KeyCode::Char('s') => (self.sort, self.is_reversed) = (self.sort.next(), false),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('?' | 'h') => self.page = Page::Help,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Down | KeyCode::Char('j') => self.select(1),
            KeyCode::Up | KeyCode::Char('k') => self.select(-1),
            KeyCode::PageDown => self.select(10),
            KeyCode::PageUp => self.select(-10),
            KeyCode::Home => self.select(isize::MIN),
            KeyCode::End => self.select(isize::MAX),
            KeyCode::Enter => {
                if let Some(row) = self.selected_row() {
                    let pid = self.rows()[row].0.pid;
                    (self.page, self.scrolled, self.selected) = (Page::Detail(pid), 0, Some(pid));
                }
            }
            _ => {}
        }
    }

    fn press_in_detail(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char('q') | KeyCode::Esc | KeyCode::Enter | KeyCode::Backspace => {
                self.page = Page::List;
            }
            KeyCode::Down | KeyCode::Char('j') => self.scrolled = self.scrolled.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.scrolled = self.scrolled.saturating_sub(1),
            KeyCode::PageDown => self.scrolled = self.scrolled.saturating_add(10),
            KeyCode::PageUp => self.scrolled = self.scrolled.saturating_sub(10),
            _ => {}
        }
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(character) if self.filter.chars().count() < FILTER_CHARS_MAX => {
                self.filter.push(character);
            }
            _ => {}
        }
    }

    /// Goes so many rows down, and no further than there are.
    fn select(&mut self, down: isize) {
        let Some(row) = self.selected_row() else { return };
        let rows = self.rows();
        let row = row.saturating_add_signed(down).min(rows.len() - 1);
        self.selected = Some(rows[row].0.pid);
    }
}
