//! The channel to the master: whatever it does with what it is told, nothing of it is lost and no client waits for it.

use fpmd::wire::gateway::{FromGateway, ToGateway};

use crate::peer::{ask, echo, get};
use crate::stage::{Stage, settings};

#[test]
fn a_master_that_does_not_read_is_told_everything_later_and_nobody_waits_for_it() {
    // Far more than the channel holds.
    const ASKED: u64 = 3000;
    let mut stage = Stage::new(&settings());
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    for number in 0..ASKED {
        stage.say(&ToGateway::Ask { number });
        if number % 100 == 0 {
            let path = format!("/{number}");
            assert_eq!(ask(stage.connect(), &get(&path), b"").body(), format!("{path} ").as_bytes());
        }
    }
    for number in 0..ASKED {
        let next = stage.expect("report", |message| matches!(message, FromGateway::Report { .. }));
        let FromGateway::Report { number: answered, report } = next else { unreachable!() };
        assert_eq!(answered, number, "each one, once and in its turn");
        assert!(report.accepted <= 1 + number / 100);
    }
    assert_eq!(stage.report().accepted, ASKED.div_ceil(100));
}
