use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::app::{App, Page};
use super::columns::Column;
use super::draw;
use super::rates::{History, Rates};
use crate::stat::samples::{heap, level, process};
use crate::stat::{ProcessFigures, Report};

const MIB: u64 = 1 << 20;

fn report(processes: Vec<ProcessFigures>) -> Report {
    Report { processes, closed: Vec::new() }
}

fn three() -> Report {
    report(vec![
        process(30, "redis-server", 64 * MIB),
        process(7, "python3", 512 * MIB),
        process(1_234_567, "a-very-long-name-indeed", 4 * MIB),
    ])
}

/// What is on a screen of that size, in lines without the spaces at their ends.
fn screen(app: &mut App, columns: u16, lines: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).expect("a screen in memory");
    terminal.draw(|frame| draw(frame, app)).expect("it is never refused");
    let buffer = terminal.backend().buffer();
    let line =
        |y: u16| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..lines).map(line).collect()
}

fn press(app: &mut App, keys: &str) {
    for key in keys.chars() {
        app.press(KeyEvent::from(match key {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            '\x08' => KeyCode::Backspace,
            '↓' => KeyCode::Down,
            '↑' => KeyCode::Up,
            other => KeyCode::Char(other),
        }));
    }
}

fn names(app: &App) -> Vec<&str> {
    app.rows().iter().map(|(process, _)| process.name.as_str()).collect()
}

#[test]
fn the_list_fits_80_columns() {
    let mut app = App::new(three());
    let lines = screen(&mut app, 80, 24);
    assert_eq!(lines[0], "vrange top: 3 processes, 580M resident, 290M reclaimable, sorted by RECLAIM");
    assert_eq!(lines[1], "    PID NAME           RESIDENT RECLAIM  PINNED VOLATILE OFFERED  LOST/s FREED/s");
    assert_eq!(lines[2], "      7 python3            512M    256M    128M     128M    128M      0B      0B");
    assert_eq!(lines[4], "1234567 a-very-long-na       4M      2M      1M       1M      1M      0B      0B");
    assert_eq!(lines[23], "q quit  s sort  r reverse  / filter  Enter one process  ? help");
}

#[test]
fn a_wide_screen_shows_more_and_a_narrow_one_what_matters_most() {
    let mut app = App::new(three());
    let title = |app: &mut App, columns| screen(app, columns, 5)[1].clone();
    assert!(title(&mut app, 120).ends_with("LOST   FREED HEADROOM"));
    assert_eq!(title(&mut app, 30), "    PID NAME           RECLAIM");
    assert_eq!(title(&mut app, 20), "NAME");
}

/// Nothing that a process says, and no size, makes it stop.
#[test]
fn any_figures_are_drawn_on_any_screen() {
    let hostile = || {
        let mut hostile = process(u32::MAX, "宽宽宽宽宽宽宽宽宽宽宽宽 \u{200d}\u{fe0f}e\u{301}", u64::MAX);
        hostile.levels = (0..8).map(|_| level(Some(u64::MAX), u64::MAX)).collect();
        hostile.heaps = (0..15).map(|_| heap("🦀\u{200d}\u{202e}\u{fffd}宽", u64::MAX)).collect();
        hostile.age_seconds = None;
        // One heap that has no ages, beside others that have.
        hostile.heaps[3].ages.clear();
        hostile
    };
    for pages in ["", "\n", "?", "/abc", "/a\n", "↓↓\n↓↓↓↓↓↓↓↓↓↓↓↓↓↓↓↓↓↓↓↓↓↓"]
    {
        let mut app = App::new(report(vec![hostile(), process(2, "", 0)]));
        press(&mut app, pages);
        for columns in [1, 2, 7, 20, 40, 79, 80, 81, 200] {
            for lines in [1, 2, 3, 5, 24, 60] {
                let _ = screen(&mut app, columns, lines);
            }
        }
        app.update(report(Vec::new()));
        let _ = screen(&mut app, 80, 24);
    }
}

#[test]
fn rows_are_sorted_by_the_column_and_the_other_way_round() {
    let mut app = App::new(three());
    assert_eq!(names(&app), ["python3", "redis-server", "a-very-long-name-indeed"]);
    press(&mut app, "r");
    assert_eq!(names(&app), ["a-very-long-name-indeed", "redis-server", "python3"]);
    press(&mut app, "s");
    assert_eq!(app.sort(), (Column::Pinned, false));
    while app.sort().0 != Column::Name {
        press(&mut app, "s");
    }
    assert_eq!(names(&app), ["a-very-long-name-indeed", "python3", "redis-server"]);
    while app.sort().0 != Column::Pid {
        press(&mut app, "s");
    }
    assert_eq!(names(&app), ["python3", "redis-server", "a-very-long-name-indeed"]);
}

#[test]
fn the_filter_is_typed_kept_and_cleared() {
    let mut app = App::new(three());
    press(&mut app, "/redq\x08");
    assert_eq!((names(&app), app.is_left()), (vec!["redis-server"], false));
    assert_eq!(screen(&mut app, 80, 24)[23], "filter: red_");
    press(&mut app, "\n");
    assert!(screen(&mut app, 80, 24)[23].starts_with("filter: red  (Esc shows all)"));
    press(&mut app, "\x1b");
    assert_eq!(names(&app).len(), 3);
    press(&mut app, "/nothing");
    assert!(screen(&mut app, 80, 24)[1].starts_with("No process has \"nothing\" in its name."));
    press(&mut app, "\x1b/1234567\n");
    assert_eq!(names(&app), ["a-very-long-name-indeed"]);
}

#[test]
fn one_process_is_shown_with_all_that_is_known() {
    let mut app = App::new(three());
    press(&mut app, "↓\n");
    assert_eq!(app.page(), Page::Detail(30));
    let text = screen(&mut app, 80, 24).join("\n");
    for part in [
        "30 redis-server",
        "reclaimer: awake; 17 turns; as of 0.2 s ago",
        "woken by: psi; 3 times, last reclaiming",
        "memory: 64M resident, 32M of it reclaimable",
        "machine             64M      64M       64M 10.7M to 12.8M",
        "cgroup, 2 up",
        "photos                16M      16M      16M      16M      16M      16M     none",
        "less than 10 min       16M ████████████████████████████████████████",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    // Others come and go; this one stays until it ends.
    app.update(report(vec![process(30, "redis-server", MIB), process(1, "new", 900 * MIB)]));
    assert!(screen(&mut app, 80, 24).join("\n").contains("memory: 1M resident"));
    app.update(report(vec![process(1, "new", MIB)]));
    assert!(screen(&mut app, 80, 24)[0].starts_with("Process 30 has ended"));
    press(&mut app, "q");
    assert_eq!((app.page(), app.is_left()), (Page::List, false));
}

#[test]
fn a_page_that_is_longer_than_the_screen_scrolls_to_its_end() {
    let mut app = App::new(three());
    press(&mut app, "\n");
    let all = screen(&mut app, 80, 60);
    let last = all.iter().rev().skip(1).find(|line| !line.is_empty()).expect("lines").clone();
    assert!(!screen(&mut app, 80, 8).contains(&last));
    press(&mut app, &"↓".repeat(100));
    assert_eq!(screen(&mut app, 80, 8)[6], last);
    press(&mut app, "↑");
    assert_eq!(screen(&mut app, 80, 8)[5], all[all.iter().position(|line| *line == last).expect("it") - 2]);
}

#[test]
fn the_selection_stays_with_its_process() {
    let mut app = App::new(three());
    press(&mut app, "↓");
    assert_eq!(app.selected_row(), Some(1));
    app.update(report(vec![process(30, "redis-server", 900 * MIB), process(7, "python3", 512 * MIB)]));
    assert_eq!(app.selected_row(), Some(0));
    press(&mut app, "↓↓↓↓↓↓");
    assert_eq!(app.selected_row(), Some(1));
    app.update(report(Vec::new()));
    press(&mut app, "↓↑\n");
    assert_eq!((app.selected_row(), app.page()), (None, Page::List));
}

#[test]
fn it_is_left_by_q_and_by_control_c_from_anywhere() {
    for (keys, key) in [
        ("", KeyEvent::from(KeyCode::Char('q'))),
        ("/abc", KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)),
        ("\n", KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)),
        ("?", KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)),
    ] {
        let mut app = App::new(three());
        press(&mut app, keys);
        assert!(!app.is_left());
        app.press(key);
        assert!(app.is_left(), "{keys:?}");
    }
}

#[test]
fn rates_are_those_of_the_time_between_two_publications() {
    let look = |sequence, seconds: u64, bytes| {
        let mut process = process(1, "a", 0);
        (process.sequence, process.taken) = (sequence, Duration::from_millis(seconds * 1000));
        process.heaps = vec![heap("x", bytes), heap("y", bytes)];
        process
    };
    let mut history = History::default();
    let mut rates = |process: ProcessFigures| {
        let processes = [process];
        history.update(&processes);
        history.rates(&processes[0])
    };
    let all = |bytes| Rates { offered: bytes, lost: bytes, released: bytes };
    assert_eq!(rates(look(1, 10, 100)), all(0), "nothing to compare with");
    assert_eq!(rates(look(5, 14, 300)), all(100));
    assert_eq!(rates(look(5, 14, 300)), all(100), "nothing newer");
    assert_eq!(rates(look(6, 16, 300)), all(0));
    assert_eq!(rates(look(7, 16, u64::MAX)), all(0), "no time has passed");
    assert_eq!(rates(look(8, 17, 5)), all(0), "a heap is gone");
    assert_eq!(rates(look(2, 18, 500)), all(0), "another process of this number");
    let mut parked = look(3, 19, 900);
    assert_eq!(rates(look(3, 19, 900)), all(800));
    parked.parked = true;
    assert_eq!(rates(parked), all(0));
}
