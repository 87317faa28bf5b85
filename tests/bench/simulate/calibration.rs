//! Figures that were measured of php-fpm 8.2 on a machine with 2 CPUs, and whether its models give them too; and what
//! fpmd's policy makes of the same requests.

use fpmd::policy::demand::Mode;

use crate::fpmd_model::{Fpmd, Sight};
use crate::php_fpm::{self, PhpFpm};
use crate::trace::{MILLI, Request, SECOND, volley};
use crate::world::{Manager, Outcome, Start, play};
use crate::{EXEC, FORK, bounds};

const CPUS: u32 = 2;
/// When the requests come.
const AT: u64 = 5_300 * MILLI;

fn run(requests: &[Request], start: Start, manager: &mut dyn Manager) -> Outcome {
    play(requests, AT, CPUS, start, manager)
}

fn php_fpm(mode: php_fpm::Mode, max_children: usize, phase: u64, requests: &[Request]) -> Outcome {
    run(requests, FORK, &mut PhpFpm::new(mode, max_children, phase))
}

fn fpmd(mode: Mode, max_children: u32, requests: &[Request]) -> Outcome {
    run(requests, EXEC, &mut Fpmd::new(bounds(mode, max_children, CPUS), Sight::Gateway))
}

fn dynamic(start_servers: usize, min_spare: usize, max_spare: usize) -> php_fpm::Mode {
    php_fpm::Mode::Dynamic { start_servers, min_spare, max_spare }
}

const ONDEMAND: php_fpm::Mode = php_fpm::Mode::Ondemand { idle_timeout: 10 * SECOND };

/// One line: what was measured of the real one, what the model says, and whether that is near enough.
fn hold(what: &str, measured: f64, model: f64, tolerance: f64) {
    println!("model of php-fpm: {what:<66}{measured:>8.2}{model:>8.2}");
    assert!((model - measured).abs() <= tolerance, "{what}: measured {measured}, the model says {model}");
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / SECOND as f64
}

/// All of it.
pub fn check() {
    println!("{:<84}{:>8}{:>8}", "", "measured", "model");
    php_fpm_dynamic();
    php_fpm_ondemand();
    fpmd_is_quicker();
    idle_pools_sleep();
}

fn php_fpm_dynamic() {
    let crowd = volley(AT, 32, 20, 100 * MILLI);
    // Just before a tick, as on a fresh pool; then it depends on when the tick comes.
    let fresh = php_fpm(dynamic(2, 1, 2), 32, 100 * MILLI, &crowd);
    hold("32 requests of 100 ms, dynamic from 2 workers, s", 1.406, seconds(fresh.wall), 0.05);
    hold("... workers at the end", 3.0, fresh.most as f64, 0.0);
    let walls = (0..20).map(|phase| php_fpm(dynamic(2, 1, 2), 32, phase * 50 * MILLI, &crowd).wall);
    hold("... averaged over the ticks, s", 1.3, seconds(walls.sum::<u64>() / 20), 0.15);
    let long = volley(AT, 20, 20, 60 * SECOND);
    let slow = php_fpm(dynamic(1, 1, 2), 40, 300 * MILLI, &long);
    let within = slow.readies.iter().filter(|at| **at <= AT + 14_500 * MILLI).count();
    hold("20 long requests, min_spare 1: workers after 14 s", 15.0, within as f64, 1.0);
    let long = volley(AT, 40, 20, 60 * SECOND);
    let slow = php_fpm(dynamic(5, 5, 10), 40, 300 * MILLI, &long);
    let full = slow.readies.get(39).map_or(0, |at| at - AT);
    hold("40 long requests, min_spare 5: until there are 40 workers, s", 8.6, seconds(full), 0.7);
}

fn php_fpm_ondemand() {
    let ten = volley(AT, 10, 150, SECOND);
    let few = php_fpm(ONDEMAND, 10, 300 * MILLI, &ten);
    hold("10 requests of 1 s, ondemand, s", 4.0, seconds(few.wall), 0.1);
    hold("... workers", 3.0, few.most as f64, 0.0);
    let apart = php_fpm(ONDEMAND, 10, 300 * MILLI, &volley(AT, 10, 5 * MILLI, SECOND));
    hold("... 5 ms apart: workers", 10.0, apart.most as f64, 0.0);
    let together = php_fpm(ONDEMAND, 32, 300 * MILLI, &volley(AT, 32, 20, 100 * MILLI));
    hold("32 requests of 100 ms within a millisecond, ondemand, s", 1.609, seconds(together.wall), 0.05);
    hold("... workers", 2.0, together.most as f64, 0.0);
    let spread = php_fpm(ONDEMAND, 32, 300 * MILLI, &volley(AT, 32, 250, 100 * MILLI));
    hold("... spread over 8 ms, s", 0.41, seconds(spread.wall), 0.1);
}

/// The same requests with workers ten times as dear to start.
fn fpmd_is_quicker() {
    let mode = Mode::Dynamic { start_servers: 2, min_spare: 1, max_spare: 2 };
    let crowd = volley(AT, 32, 20, 100 * MILLI);
    let theirs = php_fpm(dynamic(2, 1, 2), 32, 100 * MILLI, &crowd);
    compare("32 requests of 100 ms, dynamic from 2 workers", &fpmd(mode, 32, &crowd), &theirs, 0.6);
    let ten = volley(AT, 10, 150, SECOND);
    let theirs = php_fpm(ONDEMAND, 10, 300 * MILLI, &ten);
    compare("10 requests of 1 s, ondemand", &fpmd(Mode::Ondemand, 10, &ten), &theirs, 0.4);
    let spread = volley(AT, 32, 250, 100 * MILLI);
    let theirs = php_fpm(ONDEMAND, 32, 300 * MILLI, &spread);
    compare("32 requests of 100 ms over 8 ms, ondemand", &fpmd(Mode::Ondemand, 32, &spread), &theirs, 1.5);
}

fn compare(what: &str, ours: &Outcome, theirs: &Outcome, at_most: f64) {
    let ratio = ours.wall as f64 / theirs.wall as f64;
    let (wall, workers) = (seconds(ours.wall), ours.most);
    println!(
        "fpmd against it:  {what:<52}{wall:>6.2} s with {workers:>2}, {ratio:.2} of its time (bound {at_most})"
    );
    assert!(ratio <= at_most, "{what}: {ratio:.2} of php-fpm's time, at most {at_most} is the aim");
}

/// How often a timer wakes the master in the hour after the last request.
fn idle_pools_sleep() {
    let ten = volley(AT, 10, 150, SECOND);
    let hour = AT + 3_600 * SECOND;
    let mode = Mode::Dynamic { start_servers: 2, min_spare: 1, max_spare: 2 };
    let mut ours = Fpmd::new(bounds(mode, 10, CPUS), Sight::Gateway);
    let ours = play(&ten, hour, CPUS, EXEC, &mut ours).wakes;
    let theirs = play(&ten, hour, CPUS, FORK, &mut PhpFpm::new(dynamic(2, 1, 2), 10, 0)).wakes;
    println!(
        "fpmd against it:  10 requests and an hour of silence: {ours} wake-ups by a timer, php-fpm {theirs}"
    );
    assert!(ours < 20 && theirs >= 3_600, "{ours} and {theirs}");
}
