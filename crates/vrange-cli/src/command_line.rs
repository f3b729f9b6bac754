//! The command line: what may be asked for, checked into one value before anything runs.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::Styles;
use clap::{
    Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, ValueHint,
};

use crate::bench::cache::{Part as CachePart, Role as CacheRole};
use crate::bench::malloc::Workload;
use crate::completions::Shell;
use crate::failure::{EXIT_CODES, Failure};
use crate::form::Form;
use crate::report::Bench as Reported;
use crate::{colour, seconds, size};

/// Directories that hold many files on nearly every machine; the first that exists is the demo's default.
const DEFAULT_DIRECTORIES: [&str; 4] = ["/usr/lib", "/usr/share", "/usr/bin", "/bin"];

/// What the command is called.
pub(crate) const NAME: &str = "vrange";

/// Less than this leaves no room for the processes themselves beside anything worth looking at.
const MEMORY_BYTES_MIN: u64 = 64 << 20;

/// How often hog alone and hog beside the cache are timed, unless the user knows better.
pub(crate) const DEMO_ROUNDS: u32 = 5;

/// What the user asked for, checked.
#[derive(Debug)]
pub(crate) enum Job {
    /// `vrange demo`.
    Demo(DemoOptions),
    /// A process that the demo started: not for users.
    DemoProcess(DemoRole),
    /// `vrange doctor`.
    Doctor(DoctorOptions),
    /// `vrange stat`.
    Stat(StatOptions),
    /// `vrange top`.
    Top(TopOptions),
    /// `vrange exporter`.
    Exporter(ExporterOptions),
    /// `vrange run`.
    Run(RunOptions),
    /// `vrange bench ranges`.
    BenchRanges(BenchOptions),
    /// `vrange bench raw`.
    BenchRaw(RawBenchOptions),
    /// `vrange bench malloc`.
    BenchMalloc(MallocBenchOptions),
    /// A process that `vrange bench malloc` started: not for users.
    MallocWork(MallocWorkOptions),
    /// `vrange bench cache`.
    BenchCache(CacheBenchOptions),
    /// A process that `vrange bench cache` started: not for users.
    CacheProcess(CacheRole),
    /// `vrange completions`.
    Completions(CompletionsOptions),
    /// `vrange report`.
    Report(ReportOptions),
    /// `vrange manual`: for the installation, not for users.
    Manual(ManualOptions),
}

/// The whole command line.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// The process of this program that asked for results, and at whose end this one is to end, too.
    pub(crate) started_by: Option<u32>,
    pub(crate) job: Job,
}

/// What `vrange demo` was asked for.
#[derive(Debug)]
pub(crate) struct DemoOptions {
    /// An existing directory.
    pub(crate) directory: PathBuf,
    /// The memory limit that cache and hog share.
    pub(crate) memory_bytes: u64,
    /// One JSON object instead of a picture.
    pub(crate) json: bool,
    pub(crate) form: Form,
    /// How to make memory short.
    pub(crate) pressure: PressureChoice,
    /// How many times hog alone and hog beside the cache are timed.
    pub(crate) rounds: u32,
    /// Already inside a scope that the user's service manager made for us.
    pub(crate) in_scope: bool,
}

/// How the demo makes memory short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PressureChoice {
    /// A memory cgroup where one can be made, else the lever.
    Auto,
    /// A memory cgroup, or fail.
    Cgroup,
    /// Offer and page out, with no limit and no hog.
    Madvise,
}

/// The two processes that the demo starts.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DemoRole {
    /// Keeps files in volatile memory.
    Cache(ProcessOptions),
    /// Faults in memory at full speed.
    Hog(ProcessOptions),
}

/// What both processes need to know before they read their first line.
#[derive(Clone, Debug, Args)]
pub(crate) struct ProcessOptions {
    /// The `cgroup.procs` file to enter by.
    #[arg(long)]
    pub(crate) join: Option<PathBuf>,
    /// The process to end with.
    #[arg(long)]
    pub(crate) parent: u32,
}

/// What `vrange doctor` was asked for.
#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorOptions {
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `vrange stat` was asked for.
#[derive(Clone, Debug, Args)]
pub(crate) struct StatOptions {
    /// Processes, by number or name [default: all that there are]
    #[arg(value_name = "PID|NAME")]
    pub(crate) processes: Vec<String>,
    /// Print one JSON object, or with --watch one in a line for each look
    ///
    /// It has `processes`, and `closed`, those that could not be looked into, with the reason. A process has its `heaps`, and the
    /// `levels` where memory may run short for it, the machine's and its cgroups', as of `age_seconds` ago. All amounts are in bytes.
    /// Those that end in `_total` only grow.
    #[arg(long)]
    pub(crate) json: bool,
    /// Look again after so many seconds, until interrupted
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = seconds::parse_interval)]
    pub(crate) watch: Option<f64>,
}

/// What `vrange top` was asked for.
#[derive(Clone, Debug, Args)]
pub(crate) struct TopOptions {
    /// Processes, by number or name [default: all that there are]
    #[arg(value_name = "PID|NAME")]
    pub(crate) processes: Vec<String>,
    /// How often to look
    #[arg(long, value_name = "SECONDS", default_value = "1", allow_negative_numbers = true)]
    #[arg(value_parser = seconds::parse_interval)]
    pub(crate) interval: f64,
    /// Print once what `vrange stat` prints, as is done where there is no terminal
    #[arg(long)]
    pub(crate) once: bool,
}

/// What `vrange exporter` was asked for.
#[derive(Clone, Debug)]
pub(crate) struct ExporterOptions {
    /// Processes, by number or name; none: all that there are.
    pub(crate) processes: Vec<String>,
    /// A loopback address, unless the user insisted on another.
    pub(crate) listen: SocketAddr,
}

/// What `vrange run` was asked for.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunOptions {
    /// The memory allocator that the program is to run with
    #[arg(long, value_name = "ALLOCATOR", value_enum, default_value = "auto")]
    pub(crate) malloc: MallocChoice,
    /// How long freed memory is kept before it is given back to the kernel: a number such as 10 or 0.5
    ///
    /// Until then it is only offered to the kernel, which takes it when memory is short.
    #[arg(long, value_name = "SECONDS", default_value = "10", env = "VRANGE_DECAY", hide_env_values = true)]
    #[arg(allow_negative_numbers = true, value_parser = seconds::parse)]
    pub(crate) decay: f64,
    /// The most freed memory that a process keeps, such as 512M or 2G [default: no limit]
    ///
    /// Beyond it the memory that was free for longest is given back to the kernel. Each process has a limit of its own.
    #[arg(long, value_name = "SIZE", env = "VRANGE_LIMIT", hide_env_values = true, value_parser = size::parse)]
    pub(crate) limit: Option<u64>,
    /// When a process ends that marked memory, say on standard error how much
    #[arg(long)]
    pub(crate) stats: bool,
    /// The program promises MADV_NOVOLATILE before it uses memory again that it marked by MADV_VOLATILE
    ///
    /// Such a mark then costs nanoseconds, and the program is told what was lost. For memory that the program frees it makes no
    /// difference.
    #[arg(long)]
    pub(crate) paired: bool,
    /// The program, a path or a name in PATH, and its arguments, whatever they begin with
    // One list: what follows a second positional argument's name may still be taken for an option of ours.
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    #[arg(value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}

/// Which memory allocator a program is to run with. (The variants' comments are part of the manual.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MallocChoice {
    /// The one that the program is linked with, if that is tcmalloc or jemalloc; mimalloc if it is the C library's. Any other is
    /// left as it is, with a warning
    Auto,
    /// gperftools' tcmalloc: the program's own, or the system's libtcmalloc_minimal.so.4 or libtcmalloc.so.4
    Tcmalloc,
    /// jemalloc 5: the program's own, or the system's libjemalloc.so.2
    Jemalloc,
    /// mimalloc 3, which comes with vrange
    Mimalloc,
    /// Whatever it is, it is left as it is: only madvise(MADV_VOLATILE) works
    None,
}

/// What `vrange bench ranges` was asked for.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchOptions {
    /// Print the rows as one JSON array.
    ///
    /// A row has the operation (`op`), the length of the range (`bytes`), the median time (`ns`) and that time over the time of each
    /// peer (`ratio_to`). Three rows are of another kind. `idle_second`: `ns` is the processor time that the library uses in a second
    /// in which nothing happens while `bytes` are volatile. `range_state` and `memory_of_lost_pin`: `bytes` is the memory that
    /// the state of a range of 64 KiB takes, and the memory that comes with pinning a range that was lost whole; `ratio_to.range`
    /// is that over the range's length, and `ns` is 0.
    #[arg(long)]
    pub(crate) json: bool,
    /// A few rounds and no 256 MiB ranges: shows that it runs, not how fast.
    #[arg(long)]
    pub(crate) quick: bool,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// What `vrange bench raw` was asked for.
#[derive(Clone, Debug, Args)]
pub(crate) struct RawBenchOptions {
    /// Print the rows as one JSON array.
    #[arg(long)]
    pub(crate) json: bool,
    /// A few rounds and nothing of 1 GiB: shows that it runs, not how fast.
    #[arg(long)]
    pub(crate) quick: bool,
    #[command(flatten)]
    pub(crate) form: Form,
    /// The library stands before libc already.
    #[arg(long, hide = true)]
    pub(crate) preloaded: bool,
}

/// What `vrange bench malloc` was asked for.
#[derive(Clone, Debug, Args)]
pub(crate) struct MallocBenchOptions {
    /// Print the rows as one JSON array.
    ///
    /// A row has `allocator`, its `version` if it tells, `config`, `workload` and `threads`, the medians `records_per_second`, `resident_bytes` (in use after the
    /// work and 2 s without any) and `peak_bytes`, and the speed over that of the same allocator in two other configurations,
    /// `ratio_to_keep` and `ratio_to_dontneed`. Where `not_measured` is a reason, and not null, those are null.
    #[arg(long)]
    pub(crate) json: bool,
    /// One short round, with a rest of 0.3 s and a decay of 0.1 s: shows that it runs, not how fast.
    #[arg(long)]
    pub(crate) quick: bool,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// What a process that `vrange bench malloc` started is to do.
#[derive(Clone, Debug, Args)]
pub(crate) struct MallocWorkOptions {
    #[arg(long, value_enum)]
    pub(crate) workload: Workload,
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) threads: u32,
    /// Have jemalloc give memory back with MADV_FREE.
    #[arg(long)]
    pub(crate) lazy: bool,
    /// Set each block to zero before it is used.
    #[arg(long)]
    pub(crate) clear: bool,
    /// How long to work without counting.
    #[arg(long)]
    pub(crate) warm_up_ms: u64,
    /// How long to work and count.
    #[arg(long)]
    pub(crate) work_ms: u64,
    /// How long to do nothing before memory is looked at, if it is.
    #[arg(long)]
    pub(crate) rest_ms: Option<u64>,
    /// The process to end with.
    #[arg(long)]
    pub(crate) parent: u32,
}

/// What `vrange bench cache` was asked for.
#[derive(Clone, Debug, Args)]
pub(crate) struct CacheBenchOptions {
    /// Print the rows as one JSON array.
    ///
    /// A row belongs to a part (`bench`) and a cache (`cache`). `get`: `value_bytes`, `look` (`ends`: the first word and the last are
    /// read; `lines`: a byte of each cache line), `threads`, the median `gets_per_second`, and that over the fastest other cache's
    /// (`ratio_to_fastest_peer`). `hit_rate`: `trace`, `value_bytes`, `hit_rate` (of 1), `entries`, `resident_bytes`, whether that is
    /// `budget_bytes` within 2 % (`is_at_budget`), `overhead_bytes` of an entry, and the `capacity_bytes` that led there. `tenant`:
    /// `hits_per_second`, that over the best other cache's (`ratio_to_best_peer`), `oom_kills`, the median time in which the tenant grew
    /// (`growth_ns`), that over its time alone (`slowdown`), and `capacity_bytes`, null where no size was given. `handback`:
    /// `value_bytes`, `handback_ns`, `huge_bytes` (of what was cached), `oom_kills`, and whether a run without the reclaimer ended in a kill (`control_is_killed`).
    /// `not_measured`: `part` and `reason`.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) form: Form,
    /// Measure this part only; may be given more than once.
    #[arg(long, value_name = "PART", value_enum)]
    pub(crate) part: Vec<CachePart>,
    /// How often each cache is read from in each case of `get`.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=999))]
    pub(crate) rounds: u32,
    /// One short round, small memory and short runs: shows that it runs, not how fast.
    #[arg(long)]
    pub(crate) quick: bool,
}

/// For whom completions are.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompletionsOptions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// What `vrange report` was asked for.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReportOptions {
    /// The folder that the report is to be: one that does not exist yet, an empty one, or an older report, which is replaced
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) output: PathBuf,
    /// Short runs on little memory: shows what is measured, not how fast it is
    #[arg(long)]
    pub(crate) quick: bool,
    /// Measure this only; may be given more than once
    #[arg(long, value_name = "BENCH", value_enum)]
    pub(crate) bench: Vec<Reported>,
}

impl ReportOptions {
    /// Is this to be measured?
    pub(crate) fn wants(&self, bench: Reported) -> bool {
        self.bench.is_empty() || self.bench.contains(&bench)
    }
}

/// Where the manual is to be written.
#[derive(Clone, Debug, Args)]
pub(crate) struct ManualOptions {
    /// An existing directory.
    pub(crate) directory: PathBuf,
}

/// Volatile memory: see it work, ask what this machine can do, measure it.
#[derive(Debug, Parser)]
#[command(name = NAME, version, max_term_width = 100)]
struct CommandLine {
    /// When to colour what is printed
    ///
    /// `auto`: on a terminal, unless the variable NO_COLOR is set, or CLICOLOR is 0; and elsewhere, too, if CLICOLOR_FORCE is set.
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto", global = true)]
    color: ColorChoice,
    #[arg(long, hide = true, value_name = "PID")]
    started_by: Option<u32>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep real files in volatile memory while a memory hog takes most of the memory
    ///
    /// Reads the files below DIR into volatile buffers until the memory limit is nearly full, then starts a second
    /// process in the same limit that faults in 60 % of it at full speed. Shows what was lost, in which order, and
    /// checks every byte that was kept. Where no memory cgroup can be made, the cache is made to shrink by advice
    /// instead, which needs no privilege, and the result says so.
    Demo(DemoArgs),
    /// Say what this machine can do for volatile memory, and what to change
    Doctor(DoctorOptions),
    /// Show what the processes of this machine have in volatile memory
    ///
    /// Finds, without configuration, all processes that have let go of volatile memory: programs that use the library from Rust or C, and
    /// those under `vrange run`. They publish their figures up to ten times a second, for the same user and for root; nothing is asked of
    /// them. What `RESIDENT` counts (VmRSS) contains volatile and offered memory, which is what `RECLAIMABLE` shows: the kernel, or the
    /// process's reclaimer, can have it back when memory is short. HEADROOM is what the machine or the cgroup could still hand out where
    /// that is nearest to the RESERVE, below which memory is offered to the kernel.
    ///
    /// PINNED memory is in use. VOLATILE memory is not, and the kernel cannot take it yet. OFFERED memory it can, and may have done so. LOST
    /// counts what was found to be taken, RELEASED what the process itself gave back. SECONDS is the age of the figures. Heaps that a program
    /// drives by itself, without the reclaimer's thread, are not shown.
    ///
    /// The exit code is 1 if a process that was asked for is not there, or cannot be looked into.
    Stat(StatOptions),
    /// Watch what the processes of this machine have in volatile memory
    ///
    /// Shows the figures of `vrange stat` on the whole terminal, again and again: a process in a line, what it could lose, and what has
    /// gone in a second. Enter shows one process: its heaps, where memory may run short for it, and for how long what it has was not used.
    /// `s` sorts by the next column, `r` the other way round, `/` filters by name, `?` explains the rest, and `q` quits.
    Top(TopOptions),
    /// Serve what the processes of this machine have in volatile memory to Prometheus
    ///
    /// Answers each request for /metrics with the figures of `vrange stat`, in the text of OpenMetrics, until interrupted. Prints the address
    /// when it is ready. It sees what the user that it runs as may see. A heap's series, such as vrange_offered_bytes, have the labels
    /// pid, process, heap and content; where memory may run short, as in vrange_level_headroom_bytes, `level` is `machine`, `cgroup0` for the
    /// process's own cgroup, `cgroup1` for the next one up, and so on. Heaps of the same name in one process are added up. A process that has
    /// ended has no series any more.
    ///
    /// There is no encryption and no password, so it listens on loopback addresses only, unless --allow-remote is given.
    Exporter(ExporterArgs),
    /// Run a program whose freed memory is volatile, and in which madvise(MADV_VOLATILE) works
    ///
    /// Runs COMMAND, otherwise unchanged, with a library that is loaded before all others (LD_PRELOAD, see ld.so(8)).
    ///
    /// Memory that the program frees, and that its allocator would give back to the kernel, is marked volatile instead. That
    /// takes nanoseconds, and the program has the memory again as fast if it needs it soon. What was free for 0.1 seconds is
    /// offered to the kernel, which takes it when memory is short; what was free for longer (--decay) is given back. This
    /// needs an allocator that can be hooked: tcmalloc, jemalloc, or mimalloc (--malloc). What a program manages past its
    /// allocator, such as the heap of a garbage collector, stays as it is.
    ///
    /// Also, madvise(2) knows advice 5 (MADV_VOLATILE) and 6 (MADV_NOVOLATILE), the system call of the RFC of 2012. Without
    /// --paired such a mark is `madvise(MADV_FREE)`: the kernel may take the pages, and a store to a page ends its mark. See
    /// vrange_preload(3).
    ///
    /// The program has one more thread, named vrange-reclaim, and so has each process that it starts; with mimalloc from the first
    /// large allocation on. System calls that only a process with a single thread may make fail from then on: those of `unshare
    /// --user` and the like. More on what a program sees is in vrange_malloc(7).
    ///
    /// The program is looked at before it runs, as ldd(1) does. Of a script it is the interpreter. Programs that it starts
    /// inherit the library and the allocator that were chosen for it. A command that does little but start another, such as
    /// `env` or `sh -c`, has them chosen for itself: write `vrange run` in front of the program that matters.
    ///
    /// Programs that the dynamic linker would not load the library into are refused: those that are statically linked, that are
    /// linked with another C library than glibc, that are set-user-ID or set-group-ID, or that have file capabilities. If the
    /// program starts such a one, that runs without the library.
    ///
    /// Where --decay and --limit are not given, the variables VRANGE_DECAY and VRANGE_LIMIT of the environment stand for them.
    ///
    /// The libraries are looked for in ../lib beside the folder of this command, then in that folder itself. If the variable
    /// VRANGE_LIBDIR names a folder, they are looked for there, and nowhere else.
    ///
    /// The exit code is the program's; 126 if it cannot be run, 127 if there is none.
    Run(RunOptions),
    /// Measure, beside the alternatives
    #[command(subcommand)]
    Bench(Bench),
    /// Measure everything on this machine, and write a page about it
    ///
    /// Runs `vrange demo` and all of `vrange bench`, one after the other, each beside what it is compared with. The folder DIR then holds a
    /// page, index.html, with the machine and the versions, and for each bench what is measured, the goals and whether they were reached,
    /// tables with medians and ratios, a picture, and the command that prints the same figures. It needs nothing else, and no network.
    /// Beside it are the results of each bench as JSON, as `--json` prints them, its picture as SVG, and all of it in report.json.
    ///
    /// Takes about three quarters of an hour, or with --quick less than three minutes, and should have the machine for itself. What this
    /// machine cannot measure is listed with the reason: the tenant of `bench cache` and the hog of `demo` need root or a delegated
    /// cgroup v2, `bench malloc` needs the allocators' libraries.
    ///
    /// DIR appears when everything is written, and not before; nothing is left of a report that was interrupted. A folder that holds
    /// something else is refused. The exit code is 1 if a bench failed; the page says which, and has what the others found.
    Report(ReportOptions),
    #[command(hide = true, subcommand)]
    DemoProcess(DemoRole),
    #[command(hide = true)]
    MallocWork(MallocWorkOptions),
    #[command(hide = true, subcommand)]
    CacheProcess(CacheRole),
    /// Print what a shell needs to complete the command's words
    ///
    /// `cargo xtask install` puts it where the shells look. By hand: in bash, `source <(vrange completions bash)`; in fish,
    /// `vrange completions fish | source`; for zsh into a file named _vrange in a folder of `$fpath`.
    Completions(CompletionsOptions),
    /// Write a manual page for each command
    #[command(hide = true)]
    Manual(ManualOptions),
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// unpin and pin, offer, rescue, release and refill, from 4 KiB to 256 MiB
    Ranges(BenchOptions),
    /// Marks on a program's own memory, beside a VMA-flag madvise and MADV_FREE
    ///
    /// Marks on memory that was adopted, marks by which the kernel is told at once, and the preloaded library's madvise. All are
    /// measured in one run, in turns, and compared by their medians.
    Raw(RawBenchOptions),
    /// Programs on tcmalloc, jemalloc and mimalloc: freed memory kept, given back, or marked
    ///
    /// Runs one program on each allocator, and does with the memory that it frees what the configuration says. All are measured in one
    /// run, in turns, each in a process of its own, and compared by their medians: records in a second, and the memory in use 2 s after
    /// the work. Takes about twelve minutes. tcmalloc (libtcmalloc_minimal.so.4) and jemalloc (libjemalloc.so.2) are the system's,
    /// mimalloc is the one in libvrange_mimalloc.so. What cannot be measured on this machine is listed with the reason.
    ///
    /// Configurations. keep: memory is never given back (TCMALLOC_RELEASE_RATE=0, dirty_decay_ms:-1, MIMALLOC_PURGE_DELAY=-1, and for
    /// glibc large thresholds). dontneed: it is given back with MADV_DONTNEED as soon as it is freed (TCMALLOC_AGGRESSIVE_DECOMMIT=1,
    /// dirty_decay_ms:0, MIMALLOC_PURGE_DELAY=0). free: the same with MADV_FREE, for jemalloc by hooks that leave it no other way, since
    /// no setting does, and for mimalloc by MIMALLOC_PURGE_DECOMMITS=0. marks: it is marked volatile, as under `vrange run` with
    /// `--decay 1`. default: glibc with nothing set; it has no marks. cleared: keep, in a program that sets each block to zero before it
    /// uses it, as has to be done for jemalloc, which expects zeros in memory that was given back: marks cannot be faster there.
    ///
    /// Workloads. churn: 16 blocks of 4 MiB are allocated, each is filled, and all are freed; a record is a block. search: 1 to 8 MiB
    /// are allocated, sorted keys are copied there, one of them is looked up, and the copy is freed, as in the program ebizzy; a record
    /// is a look-up. The keys take 8 MiB, which stay in use. search runs in one thread and in as many as there are processors.
    Malloc(MallocBenchOptions),
    /// This project's cache beside moka, quick_cache and foyer
    ///
    /// The others are moka 0.12, quick_cache 0.7, and foyer's cache in memory 0.22 with three policies of eviction. Each is weighed by the
    /// bytes of values, has the fastest hasher that it offers, its own number of shards, and values that a hit does not copy; they are
    /// allocated by the C library. Ours has no size, except where hit rates are compared. Takes about half an hour.
    ///
    /// get: every cache holds the same 128 MiB of values of 64 B, 1 KiB or 64 KiB, and one or two threads read them by Zipf's law (YCSB's
    /// scrambled generator, 0.99). All take turns, and medians are compared.
    ///
    /// hit rate: a process with nothing but the cache reads a trace. The size that the cache is told is searched until its memory is
    /// 128 MiB within 2 %. There are ten times as many keys as values without overhead would fit. zipf: as above. scan: 5 % of the operations
    /// read 1 to 100 consecutive keys, as those of YCSB's workload E; that is 73 % of the reads. flood: every other read is of the next key
    /// of a sweep over all keys.
    ///
    /// tenant: in a memory cgroup of 512 MiB a process grows from 50 to 400 MiB and shrinks again, every five seconds, while another one
    /// serves reads of 1 GiB of values of 64 KiB; a miss sleeps for 100 µs. Other caches get the largest size with which nobody is killed,
    /// which is searched for. This needs root, or a delegated cgroup v2.
    ///
    /// handback: of a cache of 320 MiB, in a memory cgroup that a hog has filled, 256 MiB are handed to the kernel by a reclaimer that is
    /// woken up then; a second hog takes them. Only ours can do this. It needs what tenant needs.
    Cache(CacheBenchOptions),
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Directory to read files from [default: /usr/lib, or another that this machine has]
    #[arg(value_hint = ValueHint::DirPath)]
    directory: Option<PathBuf>,
    /// The limit that the cache and the hog share, such as 512M or 2G
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = size::parse)]
    memory: u64,
    /// Print one JSON object and nothing else
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    form: Form,
    #[arg(long, hide = true, value_enum, default_value = "auto")]
    pressure: PressureChoice,
    #[arg(long, hide = true, default_value_t = DEMO_ROUNDS, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    #[arg(long, hide = true)]
    in_scope: bool,
}

#[derive(Debug, Args)]
struct ExporterArgs {
    /// Processes, by number or name [default: all that there are]
    #[arg(value_name = "PID|NAME")]
    processes: Vec<String>,
    /// Where to listen; port 0 is any that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9500")]
    listen: SocketAddr,
    /// Let --listen be an address that other machines can reach
    #[arg(long)]
    allow_remote: bool,
}

impl ExporterArgs {
    fn check(self) -> Result<ExporterOptions, Failure> {
        if !self.listen.ip().is_loopback() && !self.allow_remote {
            return Err(Failure::usage(format!("{} can be reached from other machines", self.listen.ip()))
                .hint("name a loopback address, such as 127.0.0.1, or insist with --allow-remote"));
        }
        Ok(ExporterOptions { processes: self.processes, listen: self.listen })
    }
}

/// Reads the process's arguments. Help, version and arguments that clap refuses end the process here, with exit
/// code 0 or 2.
pub(crate) fn parse() -> Result<Invocation, Failure> {
    colour::choose(colour::asked_for(std::env::args_os()));
    let line =
        CommandLine::from_arg_matches(&definition().get_matches()).unwrap_or_else(|error| error.exit());
    colour::choose(line.color);
    Ok(Invocation { started_by: line.started_by, job: line.command.check()? })
}

impl Command {
    fn check(self) -> Result<Job, Failure> {
        match self {
            Command::Demo(args) => args.check().map(Job::Demo),
            Command::Doctor(options) => Ok(Job::Doctor(options)),
            Command::Stat(options) => Ok(Job::Stat(options)),
            Command::Top(options) => Ok(Job::Top(options)),
            Command::Exporter(args) => args.check().map(Job::Exporter),
            Command::Run(options) => Ok(Job::Run(options)),
            Command::Bench(Bench::Ranges(options)) => Ok(Job::BenchRanges(options)),
            Command::Bench(Bench::Raw(options)) => Ok(Job::BenchRaw(options)),
            Command::Bench(Bench::Malloc(options)) => Ok(Job::BenchMalloc(options)),
            Command::Bench(Bench::Cache(options)) => Ok(Job::BenchCache(options)),
            Command::CacheProcess(role) => Ok(Job::CacheProcess(role)),
            Command::DemoProcess(role) => Ok(Job::DemoProcess(role)),
            Command::MallocWork(options) => Ok(Job::MallocWork(options)),
            Command::Completions(options) => Ok(Job::Completions(options)),
            Command::Report(options) => Ok(Job::Report(options)),
            Command::Manual(options) => Ok(Job::Manual(options)),
        }
    }
}

/// The definition of the whole command line.
pub(crate) fn definition() -> clap::Command {
    explained(CommandLine::command())
}

/// Has the help of each command end with what exit codes mean.
fn explained(command: clap::Command) -> clap::Command {
    let styles = Styles::styled();
    let header = styles.get_header();
    let mut text = format!("{header}Exit codes:{header:#}");
    for (code, meaning) in EXIT_CODES {
        text += &format!("\n  {code:<6} {meaning}");
    }
    command.after_long_help(text).mut_subcommands(explained)
}

impl DemoArgs {
    fn check(self) -> Result<DemoOptions, Failure> {
        if self.memory < MEMORY_BYTES_MIN {
            return Err(Failure::usage(format!("--memory {} is too small", size::human(self.memory)))
                .hint(format!("the least is {}", size::human(MEMORY_BYTES_MIN))));
        }
        Ok(DemoOptions {
            directory: checked_directory(self.directory)?,
            memory_bytes: self.memory / 4096 * 4096,
            json: self.json,
            form: self.form,
            pressure: self.pressure,
            rounds: self.rounds,
            in_scope: self.in_scope,
        })
    }
}

fn checked_directory(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let Some(directory) = given else {
        return DEFAULT_DIRECTORIES
            .iter()
            .map(PathBuf::from)
            .find(|directory| directory.is_dir())
            .ok_or_else(|| {
                Failure::usage("none of the usual directories exists").hint("name one: vrange demo DIR")
            });
    };
    match std::fs::metadata(&directory) {
        Ok(metadata) if metadata.is_dir() => Ok(directory),
        Ok(_) => Err(Failure::usage(format!("{} is not a directory", directory.display()))
            .hint("the demo caches the files below a directory")),
        Err(error) => Err(Failure::usage(format!("cannot read {}: {error}", directory.display()))
            .hint("give a directory that exists and that you may read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_file_is_no_directory() {
        let failure =
            checked_directory(Some(PathBuf::from("/proc/self/status"))).expect_err("a file was taken");
        assert!(failure.report().contains("is not a directory"), "{}", failure.report());
    }
}
