//! Why entries went, and who is told.

/// Why an entry is not in the cache any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Something else needed the room, and this had been used least.
    Evicted,
    /// Its time to live was over.
    Expired,
    /// Another value was put in under its key.
    Replaced,
    /// It was removed, or the cache was cleared.
    Removed,
    /// Memory was short, and the kernel has taken a page of it. Noticed when somebody asks for the entry, or when room is made: so
    /// possibly long after.
    Purged,
}

type Tell<K> = dyn Fn(&K, Cause) + Send + Sync;

/// Is told of each entry that went.
pub(crate) struct Listener<K> {
    pub(crate) tell: Box<Tell<K>>,
    /// For keys that go into the index and are to be told of.
    pub(crate) clone_key: fn(&K) -> K,
}

/// What there is to tell once no lock is held.
pub(crate) struct Told<'g, K> {
    entries: Option<Vec<(&'g K, Cause)>>,
}

impl<'g, K> Told<'g, K> {
    pub(crate) fn new(listener: Option<&Listener<K>>) -> Self {
        Self { entries: listener.map(|_| Vec::new()) }
    }

    pub(crate) fn push(&mut self, key: &'g K, cause: Cause) {
        if let Some(entries) = &mut self.entries {
            entries.push((key, cause));
        }
    }

    /// Calls the listener. No lock is held.
    pub(crate) fn tell(self, listener: Option<&Listener<K>>) {
        if let (Some(listener), Some(entries)) = (listener, self.entries) {
            entries.into_iter().for_each(|(key, cause)| (listener.tell)(key, cause));
        }
    }
}
