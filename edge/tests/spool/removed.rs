//! An agent one of whose devices is no longer configured: what that owed is told as lost until the watermark has passed it.

use super::agents::{agent, reports, run, tell};
use hunhe_disk::simulated::SimulatedDisk;
use hunhe_proto::reading::{Drop, DropCause};

#[test]
fn what_a_removed_device_owed_is_told_as_lost_until_the_watermark_passes_it() {
    let disk = SimulatedDisk::new();
    let mut both = agent(&disk, &["a", "b"]);
    run(&mut both, 0..9);
    let (boot, taken) = {
        let state = both.devices()[1].outbox().state();
        (state.boot, state.next_seq)
    };
    assert!(taken > 4 && !reports(&both, "b").is_empty());
    drop(both);
    for life in 0..2 {
        disk.power_loss(life);
        let mut one = agent(&disk, &["a"]);
        run(&mut one, 9..60);
        let told = reports(&one, "b");
        let report = told.first().expect("a report");
        assert!(told.iter().all(|again| again == report), "{told:?}");
        let lost = Drop { seq: 0, count: taken, cause: DropCause::Operator };
        assert_eq!((report.header.boot, report.drops.as_slice()), (boot, [lost].as_slice()));
        assert_eq!(
            (report.next_seq(), report.held_from(), report.header.class_version),
            (taken, taken, None)
        );
        assert!(!reports(&one, "a").is_empty(), "the other goes on");
        if life == 1 {
            tell(&mut one, "b", boot, taken);
            run(&mut one, 60..62);
            assert!(one.devices()[1].outbox().is_settled());
        }
    }
    disk.power_loss(2);
    assert_eq!(agent(&disk, &["a"]).devices().len(), 1, "and then it is over");
}
