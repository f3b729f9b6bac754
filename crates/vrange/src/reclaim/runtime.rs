//! The process's reclaimer thread, the list of heaps that it serves, and `fork`: parent and child each get heaps that work, and
//! neither waits for a thread that only the other has.
//!
//! Handlers (`pthread_atfork(3)`), registered at the first unpin of the process, do it for libc's `fork`:
//!
//! * *before*: the list of heaps and every heap are closed, which waits for offers, rescues and releases in progress, and
//!   ranges with pages are marked as [shared](crate::range::sharing);
//! * *after, in the parent*: everything is opened again;
//! * *after, in the child*: the same, and the reclaimer counts as never started, so that the child's next unpin starts one.
//!
//! A child that came by a raw `clone` system call ran no handlers. It finds out from a page that the kernel cleared for it
//! ([`vrange_os::process`]), before it does anything slow to a range. Its parent does not find out.
//!
//! Between the handlers that run before and after a `fork`, the forking thread waits for ever if it does anything slow to a
//! range: handlers that a program has registered itself must not use buffers.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant};

use vrange_os::clock;
use vrange_os::descriptors;
use vrange_os::kernel_file::Root;
use vrange_os::linux::Linux;
use vrange_os::process::{self, Owner};
use vrange_os::thread::{Background, run_soon, spawn_without_signals, stack_bytes};
use vrange_os::{Placement, Span, System as _};

use super::cycle::Cycle;
use super::pool::{MarkedMemory, Pool};
use super::report::Report;
use crate::inner::Inner;
use crate::marks::MARKS;
use crate::observe::THREAD_NAME;
use crate::pressure::Sources;
use crate::range::gate::Gate;
use crate::range::sharing;
use crate::range::slots::Slot;
use crate::sleeper::{Sleeper, Wake};
use crate::sync::{AtomicU8, AtomicU64, Ordering, lock, thread};

/// After a failure to start it, it is tried again after this many ticks: half a second or so.
const RETRY_TICKS: u64 = 1 << 19;
/// The thread calls nothing deep.
const STACK_BYTES: usize = 256 << 10;
/// The stack, and what the thread allocates until it has had its first turn, are less together.
const ROOM_BYTES: usize = 1 << 20;
/// The latter alone is less than this.
const FIRST_TURN_BYTES: usize = 240 << 10;

struct Runtime {
    /// The process that the thread, if there is one, belongs to.
    owner: Owner,
    /// Its number. A child made by `vfork` has its parent's memory, and so counts as that, but for this.
    number: AtomicU64,
    sleeper: Sleeper,
    /// For heaps without the thread: "never started" until forks are watched for.
    driven_sleeper: Sleeper,
    /// Entered before the list is locked, closed by a fork: the child's lock is never one that a thread of the parent holds.
    gate: Gate,
    list: Mutex<List>,
    /// 1: from before a `fork` until after it, in parent and child. What is closed meanwhile would not be opened for who starts a thread.
    forking: AtomicU8,
    /// The thread could not be started: not to be tried again before this time, in ticks.
    not_before: AtomicU64,
}

struct List {
    /// Served by the thread.
    served: Vec<Weak<Inner>>,
    /// Driven by the program, but closed by a fork all the same.
    driven: Vec<Weak<Inner>>,
    /// Kept from before a fork until after it.
    closed: Vec<Arc<Inner>>,
}

static RUNTIME: Runtime = Runtime {
    owner: Owner::new_unowned(),
    number: AtomicU64::new(0),
    sleeper: Sleeper::new(),
    driven_sleeper: Sleeper::new(),
    gate: Gate::new(),
    list: Mutex::new(List { served: Vec::new(), driven: Vec::new(), closed: Vec::new() }),
    forking: AtomicU8::new(0),
    not_before: AtomicU64::new(0),
};

/// See [`set_housekeeping`].
static HOUSEKEEPING: OnceLock<Housekeeping> = OnceLock::new();

struct Housekeeping {
    every: Duration,
    work: fn(),
}

impl Housekeeping {
    /// Does what was set, if that is due.
    fn keep(due: &mut Instant) {
        if let Some(Self { every, work }) = HOUSEKEEPING.get()
            && Instant::now() >= *due
        {
            work();
            *due = Instant::now() + *every;
        }
    }
}

/// Has the thread call this when it starts, and again after so long or little more while it is awake, outside of all locks and gates. The
/// first that is set stays.
pub(crate) fn set_housekeeping(every: Duration, work: fn()) {
    let _ = HOUSEKEEPING.set(Housekeeping { every, work });
}

/// The word that unpins look at.
pub(crate) fn sleeper() -> &'static Sleeper {
    &RUNTIME.sleeper
}

/// The word that unpins look at in a heap that the program drives.
pub(crate) fn driven_sleeper() -> &'static Sleeper {
    &RUNTIME.driven_sleeper
}

/// Locks the list; the caller holds a pass of the gate, or has closed it.
fn list() -> MutexGuard<'static, List> {
    // The list is whole between statements, whatever panicked.
    lock(&RUNTIME.list)
}

/// Has the thread serve the heap, from its first unpin on.
pub(crate) fn register(heap: &Arc<Inner>) {
    add(heap, |list| &mut list.served);
}

/// Has forks close the heap, which somebody else drives.
pub(crate) fn register_driven(heap: &Arc<Inner>) {
    add(heap, |list| &mut list.driven);
}

fn add(heap: &Arc<Inner>, place: fn(&mut List) -> &mut Vec<Weak<Inner>>) {
    enter_process();
    let _pass = RUNTIME.gate.enter();
    let mut list = list();
    let place = place(&mut list);
    // Heaps that are gone make room for new ones.
    place.retain(|heap| heap.strong_count() > 0);
    place.push(Arc::downgrade(heap));
}

/// An unpin has found the reclaimer asleep, or never started.
#[cold]
pub(crate) fn wake(sleeper: &Sleeper) {
    // In a process that is seen for the first time this resets the word.
    enter_process();
    match sleeper.rouse() {
        Wake::Nothing | Wake::Rouse => {}
        Wake::Start if std::ptr::eq(sleeper, driven_sleeper()) => watch_forks(),
        Wake::Start => start(),
    }
}

/// What a mark has to do beyond its bits; almost always nothing.
#[inline]
pub(crate) fn after_mark() {
    // In a child whose `clone` ran no handlers the word is the parent's.
    enter_process();
    if !RUNTIME.sleeper.is_awake() {
        wake(&RUNTIME.sleeper);
    }
}

/// The same where a reclaimer must not be started, which allocates: it is woken if there is one.
#[inline]
pub(crate) fn after_mark_in_allocator() {
    if RUNTIME.sleeper.is_asleep() && RUNTIME.sleeper.rouse() == Wake::Start {
        RUNTIME.sleeper.reset();
    }
}

/// Has this process a reclaimer?
#[inline]
pub(crate) fn is_started() -> bool {
    enter_process();
    RUNTIME.sleeper.is_started()
}

/// What an unmark has to do: the reclaimer may have fallen asleep while a block was held, with other marks in it.
#[inline]
pub(crate) fn after_unmark(span: Span) {
    enter_process();
    if RUNTIME.sleeper.is_asleep() && MARKS.needs_reclaimer_in(span) {
        wake(&RUNTIME.sleeper);
    }
}

/// Starts the thread. If the system has none to give, later unpins try again, and data stays where it is until then.
fn start() {
    // Relaxed, here and below: a time that orders nothing.
    let is_early = clock::ticks() < RUNTIME.not_before.load(Ordering::Relaxed);
    // A thread of a child's, which ends with the child, would be taken for one of this process.
    let is_borrowed = RUNTIME.number.load(Ordering::Relaxed) != u64::from(std::process::id());
    // Relaxed: whoever forks calls this itself, from a handler of the program's own; others may as well wait.
    if is_early || is_borrowed || RUNTIME.forking.load(Ordering::Relaxed) == 1 {
        RUNTIME.sleeper.reset();
        return;
    }
    watch_forks();
    let started = has_room() && {
        let thread = thread::Builder::new().name(THREAD_NAME.to_owned()).stack_size(stack_bytes(STACK_BYTES));
        spawn_without_signals(thread, run).is_ok()
    };
    if !started {
        RUNTIME.not_before.store(clock::ticks() + RETRY_TICKS, Ordering::Relaxed); // Relaxed: as above.
        RUNTIME.sleeper.reset();
    }
}

/// Is there memory for the thread? Without it an allocation of the standard library's would end the process (`handle_alloc_error`), which can do
/// without a reclaimer. (Others may take it in between; a limit that is as good as reached is found.)
fn has_room() -> bool {
    let Ok(system) = Linux::get() else { return false };
    let Ok(room) = system.reserve(Span::pages_for(stack_bytes(ROOM_BYTES)), Placement::SmallPages, false)
    else {
        return false;
    };
    // SAFETY: made just above, and nobody knows it.
    unsafe { system.unmap(room) };
    // An allocator that keeps so little for itself, as that of the libraries to preload does, has it when the thread asks.
    let mut first_turn = Vec::<u8>::new();
    let has_room = first_turn.try_reserve_exact(FIRST_TURN_BYTES).is_ok();
    // Not to be thought away.
    std::hint::black_box(&mut first_turn);
    has_room
}

/// From now on forks are noticed; those before are made up for.
fn watch_forks() {
    enter_process();
    register_fork_handlers();
    let _pass = RUNTIME.gate.enter();
    let list = list();
    for heap in list.served.iter().filter_map(Weak::upgrade) {
        heap.take_part();
    }
    for heap in list.served.iter().chain(&list.driven).filter_map(Weak::upgrade) {
        heap.find_shared();
    }
}

/// The thread's life.
fn run() {
    let _reset = ResetOnPanic;
    // The process does not wait for this thread's end.
    let _background = Background::begin();
    run_soon();
    // Where that is refused, its descriptors are among the program's.
    let _ = descriptors::separate();
    let mut cycle = Cycle::new(Root::real());
    let mut sources = None;
    let mut report = Report::new();
    let marked =
        Linux::get().ok().map(|system| -> Arc<dyn Pool> { Arc::new(MarkedMemory { marks: &MARKS, system }) });
    let mut pools: Vec<Arc<dyn Pool>> = Vec::new();
    let mut housekeeping_due = Instant::now();
    Housekeeping::keep(&mut housekeeping_due);
    loop {
        let told = (&mut report, sources.as_ref());
        let Some(wait) = turn(&mut cycle, marked.as_ref(), &mut pools, told) else {
            // Nothing is volatile: no wake-ups at all until an unpin.
            RUNTIME.sleeper.sleep();
            continue;
        };
        // Not before it is known how short memory is.
        Housekeeping::keep(&mut housekeeping_due);
        // After the first turn: whoever has woken the thread may be about to run out of memory.
        let sources = sources.get_or_insert_with(|| Sources::open(&Root::real()));
        let asleep = Instant::now();
        let woken = sources.wait(wait);
        report.woken(woken);
        if woken.timed_out {
            cycle.note_lateness(asleep.elapsed().saturating_sub(wait));
        }
    }
}

/// Should the thread ever panic, the next unpin starts another.
struct ResetOnPanic;

impl Drop for ResetOnPanic {
    fn drop(&mut self) {
        RUNTIME.sleeper.reset();
    }
}

/// One turn over all heaps and marks, which others are told of. `None`: nothing is volatile, and unpins have been told that the thread
/// sleeps.
fn turn(
    cycle: &mut Cycle,
    marked: Option<&Arc<dyn Pool>>,
    pools: &mut Vec<Arc<dyn Pool>>,
    (report, sources): (&mut Report, Option<&Sources>),
) -> Option<Duration> {
    let _pass = RUNTIME.gate.enter();
    collect(marked, pools);
    let wait = if needs_reclaimer(pools) {
        let wait = cycle.turn(pools).wait;
        report.turned(pools, cycle, sources);
        Some(wait)
    } else {
        RUNTIME.sleeper.fall_asleep();
        // The list again, too: a heap may have been made, and used, in between.
        pools.clear();
        collect(marked, pools);
        let needed = needs_reclaimer(pools);
        if needed {
            RUNTIME.sleeper.stay_awake();
        } else {
            report.parked(pools, cycle, sources);
        }
        needed.then_some(Duration::ZERO)
    };
    // Possibly the last handle of a heap: it ends here, outside the lock.
    pools.clear();
    wait
}

/// All that the thread serves.
fn collect(marked: Option<&Arc<dyn Pool>>, pools: &mut Vec<Arc<dyn Pool>>) {
    pools.extend(list().served.iter().filter_map(Weak::upgrade).map(|heap| -> Arc<dyn Pool> { heap }));
    pools.extend(marked.cloned());
}

fn needs_reclaimer(pools: &[Arc<dyn Pool>]) -> bool {
    pools.iter().any(|pool| pool.needs_reclaimer())
}

/// Registers the handlers, once in the life of the process and of its children.
pub(crate) fn register_fork_handlers() {
    static REGISTERED: AtomicU8 = AtomicU8::new(0);
    // Relaxed: only who is first counts.
    if REGISTERED.swap(1, Ordering::Relaxed) == 0 {
        // A failure means that no memory was left for the list of handlers; forks are then noticed as after a raw `clone`.
        let _ = process::at_fork(close_for_fork, open_in_parent, open_in_child);
    }
}

/// Waits until nobody works on any range or on the list, and keeps it so until they are opened.
extern "C" fn close_for_fork() {
    // This may be a child that came by a raw `clone`, with threads of its parent inside the gate.
    enter_process();
    RUNTIME.gate.close();
    RUNTIME.forking.store(1, Ordering::Relaxed); // Relaxed: see `start`.
    let mut list = list();
    let heaps: Vec<Arc<Inner>> = list.served.iter().chain(&list.driven).filter_map(Weak::upgrade).collect();
    for heap in &heaps {
        enter(heap);
        heap.close_for_fork();
    }
    list.closed = heaps;
    MARKS.close_for_fork();
}

extern "C" fn open_in_parent() {
    MARKS.open();
    open_after_fork(Inner::open);
}

extern "C" fn open_in_child() {
    enter_process();
    MARKS.open_in_child();
    open_after_fork(|heap| enter_with(heap, sharing::inherit));
}

fn open_after_fork(open: impl Fn(&Inner)) {
    let closed = std::mem::take(&mut list().closed);
    for heap in &closed {
        open(heap);
    }
    RUNTIME.forking.store(0, Ordering::Relaxed); // Relaxed: see `start`.
    RUNTIME.gate.open();
    // Possibly the last handles.
    drop(closed);
}

/// Before anything slow is done to a range: in a child whose `clone` ran no handlers, what threads of the parent had begun
/// is put right first. Two loads.
#[inline]
pub(crate) fn enter(heap: &Inner) {
    enter_with(heap, sharing::part);
}

#[inline]
fn enter_with(heap: &Inner, adopt: fn(&Slot)) {
    heap.process.enter(|| {
        heap.recover_in_child(adopt);
        enter_process();
    });
}

/// In a child there is no reclaimer thread.
#[inline]
fn enter_process() {
    RUNTIME.owner.enter(|| {
        RUNTIME.gate.reset_in_child();
        // Relaxed, here and in `reset`: the child has one thread so far.
        RUNTIME.number.store(std::process::id().into(), Ordering::Relaxed);
        RUNTIME.not_before.store(0, Ordering::Relaxed); // Relaxed: as above.
        RUNTIME.sleeper.reset();
    });
}
