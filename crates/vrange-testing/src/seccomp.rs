//! seccomp filters for the calling thread and the threads that it starts later.

use std::mem::offset_of;

/// What a filter does with the system calls that it names.
#[derive(Clone, Copy)]
struct Rule {
    call: i64,
    /// Only if the argument with this number has this value.
    argument: Option<(usize, u32)>,
    action: u32,
}

/// `struct seccomp_data` of `linux/seccomp.h`.
#[repr(C)]
struct Data {
    number: u32,
    architecture: u32,
    instruction_pointer: u64,
    arguments: [u64; 6],
}

/// From now on every system call but these kills the process.
///
/// # Panics
/// The kernel has no filters.
pub fn allow_only(calls: &[i64]) {
    let rules =
        calls.iter().map(|call| Rule { call: *call, argument: None, action: libc::SECCOMP_RET_ALLOW });
    install(&rules.collect::<Vec<_>>(), libc::SECCOMP_RET_KILL_PROCESS);
}

/// From now on these system calls kill the process.
///
/// # Panics
/// As for [`allow_only`].
pub fn forbid(calls: &[i64]) {
    let rules =
        calls.iter().map(|call| Rule { call: *call, argument: None, action: libc::SECCOMP_RET_KILL_PROCESS });
    install(&rules.collect::<Vec<_>>(), libc::SECCOMP_RET_ALLOW);
}

/// From now on this system call answers with an error number.
///
/// # Panics
/// As for [`allow_only`].
pub fn refuse(call: i64, errno: i32) {
    install(&[Rule { call, argument: None, action: errno_action(errno) }], libc::SECCOMP_RET_ALLOW);
}

/// As [`refuse`], but only where the argument with this number has this value.
///
/// # Panics
/// As for [`allow_only`].
pub fn refuse_with(call: i64, argument: usize, value: u32, errno: i32) {
    let rule = Rule { call, argument: Some((argument, value)), action: errno_action(errno) };
    install(&[rule], libc::SECCOMP_RET_ALLOW);
}

/// From now on no memory can be offered: `MADV_FREE` is refused, as by a kernel that does not know it.
///
/// # Panics
/// As for [`allow_only`].
pub fn refuse_offers(errno: i32) {
    /// The argument of `madvise` that says what is advised.
    const ADVICE: usize = 2;
    refuse_with(libc::SYS_madvise, ADVICE, libc::MADV_FREE.cast_unsigned(), errno);
    refuse(libc::SYS_process_madvise, errno);
}

fn errno_action(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | u32::try_from(errno).expect("a positive number")
}

/// The program, for classic BPF (`linux/filter.h`).
fn program(rules: &[Rule], otherwise: u32) -> Vec<libc::sock_filter> {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: u16::try_from(code).expect("16 bits"),
        jt: 0,
        jf: 0,
        k,
    };
    let load = |offset: usize| {
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, u32::try_from(offset).expect("a small offset"))
    };
    let unless_equal_skip = |k: u32, skip: u8| libc::sock_filter {
        jf: skip,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k)
    };
    let give = |action: u32| statement(libc::BPF_RET | libc::BPF_K, action);
    let mut program = Vec::new();
    for rule in rules {
        program.push(load(offset_of!(Data, number)));
        let call = u32::try_from(rule.call).expect("a system call's number");
        match rule.argument {
            None => program.push(unless_equal_skip(call, 1)),
            Some((argument, value)) => {
                program.push(unless_equal_skip(call, 3));
                // The lower half, which comes first on the little-endian machines that the library runs on.
                program.push(load(offset_of!(Data, arguments) + argument * size_of::<u64>()));
                program.push(unless_equal_skip(value, 1));
            }
        }
        program.push(give(rule.action));
    }
    program.push(give(otherwise));
    program
}

fn install(rules: &[Rule], otherwise: u32) {
    let mut program = program(rules, otherwise);
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).expect("a short program"),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: takes rights away from this thread, gives none.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program outlives the call, which copies it.
    let installed =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    assert_eq!(installed, 0, "seccomp: {}", std::io::Error::last_os_error());
}
