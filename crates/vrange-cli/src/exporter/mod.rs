//! `vrange exporter`: the figures of all processes for Prometheus, over HTTP.
//!
//! * `metrics` makes the text of a report;
//! * `server` answers requests, which may be anybody's.

mod metrics;
mod server;

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use crate::command_line::ExporterOptions;
use crate::failure::Failure;
use crate::output;
use crate::processes::{Wanted, Watch};
use crate::stat::{self, Report};

/// Processes publish no more often, so what is no older is not looked for anew, however many ask.
const FRESH: Duration = Duration::from_millis(100);

/// Serves until a signal comes.
///
/// # Errors
/// The address cannot be had.
pub(crate) fn run(options: &ExporterOptions) -> Result<(), Failure> {
    let listener = listen(options.listen)?;
    let address = listener.local_addr().map_err(|error| Failure::io("asking for", "the address", &error))?;
    let page = Page::new(Wanted::of(&options.processes));
    let ready = || output::text(&format!("http://{address}/metrics\n"));
    server::serve(listener, move || page.text(), ready)
}

fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let open = |address| {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    open(address).map_err(|error: std::io::Error| {
        Failure::io("listening on", address, &error).hint("give another address with --listen")
    })
}

/// What is served, and when it was made.
struct Page {
    wanted: Wanted,
    state: RefCell<State>,
}

struct State {
    watch: Watch,
    made: Option<(Instant, String)>,
}

impl Page {
    fn new(wanted: Wanted) -> Self {
        Self { wanted, state: RefCell::new(State { watch: Watch::default(), made: None }) }
    }

    /// The figures, as they are now.
    fn text(&self) -> Result<String, Failure> {
        let state = &mut *self.state.borrow_mut();
        if let Some((when, text)) = &state.made
            && when.elapsed() < FRESH
        {
            return Ok(text.clone());
        }
        let report = Report::of(&stat::look(&mut state.watch, &self.wanted)?);
        let text = metrics::text(&report)
            .map_err(|error| Failure::run(format!("writing the figures as text: {error}")))?;
        state.made = Some((Instant::now(), text.clone()));
        Ok(text)
    }
}
