//! Single flight: who misses a key that somebody is making a value for waits for that.

use std::collections::HashMap;
use std::sync::Arc;

use event_listener::{Event, EventListener};
use parking_lot::Mutex;

use crate::index::key::Mark;

/// Values that are being made. (Two keys with the same mark wait for each other, and nothing worse.)
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<HashMap<Mark, Arc<Event>>>);

/// What somebody who misses a key has to do.
pub(crate) enum Boarding<'a> {
    /// Make the value. Others wait until this is dropped.
    Lead(Flight<'a>),
    /// Wait, and look again then.
    Wait(EventListener),
}

/// The making of one value. However it ends, those who wait are woken.
pub(crate) struct Flight<'a> {
    flights: &'a Flights,
    mark: Mark,
}

impl Flights {
    pub(crate) fn board(&self, mark: Mark) -> Boarding<'_> {
        let mut flights = self.0.lock();
        if let Some(landing) = flights.get(&mark) {
            // Under the lock: it cannot have landed yet.
            return Boarding::Wait(landing.listen());
        }
        flights.insert(mark, Arc::default());
        Boarding::Lead(Flight { flights: self, mark })
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let landing = self.flights.0.lock().remove(&self.mark);
        if let Some(landing) = landing {
            landing.notify(usize::MAX);
        }
    }
}
