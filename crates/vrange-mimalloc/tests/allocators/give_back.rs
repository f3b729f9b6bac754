//! Memory that a program frees: marked, used again, offered, released; and there for others who need it.

use std::time::Duration;

use vrange_testing::alone;

use crate::support::{Allocator, group, inside, plain, run, start};

#[test]
fn free_memory_goes_when_the_program_is_idle() {
    for allocator in Allocator::each() {
        let mut command = allocator.run("give_back", &["idle", "1024", "64"]);
        command.env("VRANGE_DECAY", "0.5");
        let ran = run(command).said("given back");
        assert!(ran.mib("marked") >= 200.0, "{ran}");
        // The rounds that followed the first used what the one before had freed.
        assert!(ran.mib("taken back") >= 100.0, "{ran}");
        assert!(ran.mib("released after the decay") >= 32.0, "{ran}");
        assert_eq!(ran.mib("not marked"), 0.0, "{ran}");
    }
}

#[test]
fn control_nothing_is_marked_where_hooks_are_off() {
    for allocator in Allocator::each() {
        let mut command = allocator.run("give_back", &["limit", "1024", "64", "64"]);
        command.env("VRANGE_MALLOC", "off");
        let ran = run(command).said("under the limit");
        assert_eq!(ran.told, "", "{ran}");
    }
}

#[test]
fn no_more_free_memory_stays_than_the_limit_says() {
    const LIMIT_MIB: u64 = 16;
    for allocator in Allocator::each() {
        let mut command = allocator.run("give_back", &["limit", "1024", "96", &LIMIT_MIB.to_string()]);
        command.env("VRANGE_DECAY", "3600").env("VRANGE_LIMIT", (LIMIT_MIB << 20).to_string());
        let ran = run(command).said("under the limit");
        assert!(ran.mib("marked") > 0.0 && ran.mib("not marked") > 100.0, "{ran}");
    }
}

/// A process holds 160 MiB of free memory, and then another one in the same group needs as much.
#[test]
fn c13_free_memory_is_there_for_another_process() {
    let _alone = alone();
    for allocator in Allocator::each() {
        let Some(group) = group("allocators-hold", 256) else { return };
        let mut command = allocator.run("give_back", &["hold", "1024", "160"]);
        command.env("VRANGE_DECAY", "3600");
        let mut holder = start(inside(&group, &command));
        for round in 0..2 {
            assert_eq!(holder.hear().as_deref(), Some("free"), "{allocator}");
            run(inside(&group, &plain("give_back", &["need", "160"]))).said("enough");
            if round == 0 {
                holder.say("again");
            }
        }
        let ran = holder.finish().succeeded();
        assert_eq!(group.oom_kills(), 0, "{ran}");
        let (offered, released) = (ran.mib("offered to the kernel"), ran.mib("released after the decay"));
        assert!(ran.mib("marked") >= 300.0 && offered + released >= 64.0, "{ran}");
    }
}

/// A process frees 160 MiB and then uses 16 MiB in blocks of many sizes, for which an allocator may take back ten times as much: mimalloc
/// takes 4 MiB for blocks of one size. Another one in the same group needs 85 MiB before that and 85 MiB after it, together with what is
/// used 73 % of the limit. (With mimalloc it is killed where what is taken back comes with all that was in it; the engine's tests have
/// that as their control.)
#[test]
fn c13_what_is_taken_back_and_not_used_is_there_for_another_process() {
    let _alone = alone();
    for allocator in Allocator::each() {
        let Some(group) = group("allocators-pieces", 256) else { return };
        let mut command = allocator.run("give_back", &["pieces", "1024", "160"]);
        command.env("VRANGE_DECAY", "3600");
        let mut holder = start(inside(&group, &command));
        assert_eq!(holder.hear().as_deref(), Some("free"), "{allocator}");
        let mut other = start(inside(&group, &plain("give_back", &["grow", "85"])));
        assert_eq!(other.hear().as_deref(), Some("has it"), "{allocator}");
        // The reclaimer reads how short memory is.
        std::thread::sleep(Duration::from_millis(500));
        holder.say("pieces");
        assert_eq!(holder.hear().as_deref(), Some("taken"), "{allocator}");
        other.say("more");
        assert_eq!(other.hear().as_deref(), Some("has it"), "{allocator}: {:?}", group.read());
        let ran = holder.finish().succeeded();
        other.finish().succeeded();
        assert_eq!(group.oom_kills(), 0, "{ran}");
    }
}

#[test]
fn control_c13_an_allocator_that_never_gives_back_is_killed() {
    let _alone = alone();
    for allocator in Allocator::each() {
        let Some(group) = group("allocators-keep", 256) else { return };
        let mut holder =
            start(inside(&group, &allocator.run_and_keep("give_back", &["hold", "1024", "160"])));
        assert_eq!(holder.hear().as_deref(), Some("free"), "{allocator}");
        let needy = run(inside(&group, &plain("give_back", &["need", "160"])));
        let holder = holder.finish();
        assert!(holder.was_killed() || needy.was_killed(), "{holder}{needy}");
        assert!(group.oom_kills() > 0, "{allocator}");
    }
}
