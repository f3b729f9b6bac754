use std::process::Command;

use vrange_testing::Console;

use super::*;

const ENDS: &str = "VRANGE_TEST_SCREEN_ENDS";

/// Not a test by itself: the program that the tests below run on a terminal. Ends as the variable says.
#[test]
fn program() {
    let Ok(ends) = std::env::var(ENDS) else { return };
    let mut screen = Screen::open().expect("a terminal");
    screen.draw(|frame| frame.render_widget("drawn", frame.area())).expect("a terminal");
    // Until there was time to see it.
    let key = screen.event(Duration::from_secs(60)).expect("a terminal");
    assert!(key.is_some());
    match ends.as_str() {
        "well" => {}
        "by panic" => panic!("this is the panic's message"),
        "without care" => std::mem::forget(screen),
        other => panic!("{other}"),
    }
}

/// What is left of the terminal after a program that ends so.
fn after(ends: &str) -> Console {
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["--exact", "top::screen::tests::program", "--nocapture"])
        .env(ENDS, ends)
        .env("RUST_BACKTRACE", "0");
    let mut console = Console::start(command, 24, 80);
    console.wait_for("the screen", |text| text.contains("drawn"));
    assert!(console.is_taken() && !console.is_restored());
    console.press("x");
    let _ = console.end();
    console
}

#[test]
fn the_terminal_is_given_back_at_the_end() {
    assert!(after("well").is_restored());
}

#[test]
fn a_panic_gives_the_terminal_back_and_shows_its_message() {
    let console = after("by panic");
    assert!(console.is_restored());
    assert!(console.text().contains("this is the panic's message"), "{}", console.text());
}

#[test]
fn control_a_program_that_forgets_the_screen_leaves_the_terminal_unusable() {
    assert!(!after("without care").is_restored());
}
