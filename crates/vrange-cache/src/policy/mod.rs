//! Which values go, and where room comes from.

mod evict;
mod ghost;
mod queues;

pub(crate) use evict::Evictor;
pub(crate) use ghost::Ghost;
pub(crate) use queues::{Member, Policy};
