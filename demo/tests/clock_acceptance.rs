//! The agent's clock and the hub's map of it together, against a world in which the true time is known: no sample's UTC is
//! further from it than is said, whatever is done to the machine's clock. Time is simulated; nothing waits.
//!
//! The machine: a crystal that is off by up to 40 ppm, no battery. It begins in 1970, or where it stood when it was switched off. Time
//! is brought by one of two clients, after minutes or hours or never: one that states its error, as chrony and ntpd do, and one that
//! states none and leaves it to the kernel to slew small offsets away, as systemd-timesyncd does. Real time is set by hand by days
//! and hours. A leap second comes while the kernel knows of it; one that nobody announced, because time had been set by hand or the
//! network was away for its whole day, is a second that nobody here can know of (docs/LOSSES.md).

use speedwell::clock::{BootNs, ClockSample, Fix, KernelSync, TimeSource, Timekeeper, UtcMap};
use speedwell_hub::store::ClockMap;
use speedwell_wire::{ClockFix, ClockSource};

const S: i64 = 1_000_000_000;
const MS: i64 = 1_000_000;
/// 2026-12-31 20:00, so that midnight comes within the runs.
const BEGIN: i64 = 1_798_747_200 * S;
const LEAP: i64 = 1_798_761_600 * S;
/// Largest error of an answer over the network.
const NETWORK: i64 = 45 * MS;

#[derive(Clone, Copy, PartialEq)]
enum Client {
    /// Sets the kernel's bounds with each answer.
    States,
    /// Sets them to 0 and lets offsets below 0.4 s be slewed away.
    StatesNothing,
}

/// A machine, and what is true about it.
struct Machine {
    dice: fastrand::Rng,
    /// Elapsed true time, and UTC at its beginning.
    elapsed: i64,
    leap: bool,
    boot: i64,
    crystal_ppb: i64,
    /// Real time less boot time.
    offset: i64,
    client: Client,
    next_poll: Option<i64>,
    sync: KernelSync,
    slewing: i64,
    keeper: Timekeeper,
    known: UtcMap,
    fixes: Vec<ClockFix>,
    samples: Vec<(u64, i64)>,
}

impl Machine {
    /// Switches one on, `elapsed` after the beginning. The first answer comes `after`.
    fn start(seed: u64, elapsed: i64, real: i64, client: Client, after: Option<i64>) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let (boot, crystal_ppb) = (dice.i64(2 * S..30 * S), dice.i64(-40_000..=40_000));
        Self {
            elapsed,
            leap: false,
            boot,
            crystal_ppb,
            offset: real - boot,
            client,
            next_poll: after.map(|after| elapsed + after),
            sync: KernelSync::NONE,
            slewing: 0,
            keeper: Timekeeper::new(),
            known: UtcMap::new(),
            fixes: Vec::new(),
            samples: Vec::new(),
            dice,
        }
    }

    /// True UTC, as real time would tell it.
    fn utc(&self) -> i64 {
        let utc = BEGIN + self.elapsed;
        if self.leap && utc >= LEAP + S { utc - S } else { utc }
    }

    fn look(&mut self) {
        let (boot, utc_ns) = (BootNs(self.boot as u64), self.boot + self.offset);
        let sync = KernelSync { slewing_ns: self.slewing.unsigned_abs(), ..self.sync };
        if let Some((fix, _)) = self.keeper.take(ClockSample { boot, utc_ns, bracket_ns: 300, sync }) {
            self.known.push(fix);
            self.fixes.push(on_the_wire(&fix));
        }
    }

    /// Sets real time by hand: the kernel forgets who vouched for it.
    fn set(&mut self, by: i64) {
        self.offset += by;
        (self.sync, self.slewing) = (KernelSync::NONE, 0);
        self.step_heard();
    }

    /// The kernel tells at once; the clocks are looked at a moment later.
    fn step_heard(&mut self) {
        self.boot += 1000;
        self.look();
    }

    fn poll(&mut self) {
        let network = self.dice.i64(-NETWORK..=NETWORK);
        let off = self.utc() + network - (self.boot + self.offset);
        self.next_poll = Some(self.elapsed + self.dice.i64(32 * S..1024 * S));
        let stated = (network.unsigned_abs() + 100_000) / 1000 * 1000;
        let small = off.abs() < 400 * MS;
        if !small {
            self.offset += off;
        }
        self.slewing = if small { off } else { 0 };
        self.sync = match self.client {
            Client::States => KernelSync {
                synchronised: true,
                max_error_ns: stated,
                estimated_error_ns: stated / 3 + 1000,
                slewing_ns: 0,
            },
            Client::StatesNothing => {
                KernelSync { synchronised: true, max_error_ns: 0, estimated_error_ns: 0, slewing_ns: 0 }
            }
        };
        if !small {
            self.step_heard();
        }
    }

    /// Lets a second pass: the crystal runs as it does, the kernel slews real time and boot time alike.
    fn second(&mut self) {
        let slew = self.slewing.clamp(-500_000, 500_000);
        self.slewing -= slew;
        let before = self.utc();
        self.elapsed += S;
        self.boot += S + self.crystal_ppb + slew;
        if self.sync.synchronised {
            self.sync.max_error_ns = (self.sync.max_error_ns + 500_000).min(16 * S as u64);
            self.sync.synchronised = self.sync.max_error_ns < 16 * S as u64;
        }
        if self.utc() - before != S {
            self.offset -= S;
            self.step_heard();
        }
        if self.next_poll.is_some_and(|at| self.elapsed >= at) {
            self.poll();
        }
        if self.elapsed / S % 16 == 0 || self.keeper.sample_after().as_secs() <= 1 {
            self.boot += 10;
            self.look();
        }
        self.samples.push((self.boot as u64, self.utc()));
    }

    fn run(&mut self, seconds: i64) {
        (0..seconds).for_each(|_| self.second());
    }

    /// Holds every sample's UTC against the truth. The largest part of the bound that was needed; how many have none.
    fn judge(&self, what: &str) -> (f64, usize) {
        let map = ClockMap::new(self.fixes.clone());
        let (mut needed, mut undated) = (0f64, 0);
        for (t, truth) in &self.samples {
            let Some(bound) = map.uncertainty(*t) else {
                undated += 1;
                continue;
            };
            let (utc, source) = map.utc(*t).expect("it has a bound");
            let off = utc.abs_diff(*truth);
            assert_eq!(source, ClockSource::Ntp);
            assert!(off <= bound, "{what}: {:.3} s, bound {:.3} s", off as f64 / 1e9, bound as f64 / 1e9);
            needed = needed.max(off as f64 / bound as f64);
            // Where the agent still knows, it says the same.
            if let Some(own) = self.known.utc(BootNs(*t)) {
                assert_eq!((own.ns, own.uncertainty_ns), (utc, bound), "{what}");
            }
        }
        assert!(self.samples.is_sorted(), "{what}");
        (needed, undated)
    }
}

fn on_the_wire(fix: &Fix) -> ClockFix {
    let source = match fix.source {
        TimeSource::Untrusted => ClockSource::Untrusted,
        TimeSource::Ntp => ClockSource::Ntp,
        TimeSource::Gnss => ClockSource::Gnss,
    };
    let Fix { boot, utc_ns, uncertainty_ns, rate_ppb, .. } = *fix;
    ClockFix { boot: 1, boot_ns: boot.0, utc_ns, uncertainty_ns, rate_ppb, source }
}

#[test]
fn no_samples_utc_is_further_from_the_truth_than_is_said() {
    let (mut worst, mut dated) = (0f64, 0);
    for seed in 0..60 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let client = if seed % 2 == 0 { Client::States } else { Client::StatesNothing };
        // In 1970, or where it was switched off.
        let real = if dice.bool() { dice.i64(0..60 * S) } else { BEGIN - dice.i64(0..100 * 86_400 * S) };
        let after = [10, 300, 7200][dice.usize(0..3)] * S;
        let mut machine = Machine::start(seed, 0, real, client, Some(after));
        machine.run(dice.i64(100..9000));
        for _ in 0..4 {
            match dice.u8(0..5) {
                0 => machine.set(3 * 86_400 * S),
                1 => machine.set(-3600 * S),
                2 => machine.set(dice.i64(-2 * S..2 * S)),
                // Nobody answers for a while.
                3 => machine.next_poll = Some(machine.elapsed + dice.i64(600 * S..7200 * S)),
                _ => {}
            }
            machine.run(dice.i64(60..5000));
        }
        let what = format!("seed {seed}");
        let (needed, undated) = machine.judge(&what);
        (worst, dated) = (worst.max(needed), dated + machine.samples.len() - undated);
    }
    println!("{dated} samples dated; at most {:.0} % of a bound was needed", worst * 100.0);
    assert!(dated > 200_000);
    // A bound that is never nearly needed would say little.
    assert!(worst > 0.5, "{worst}");
}

#[test]
fn two_hours_before_the_first_answer_are_dated_by_it_and_a_boot_without_one_by_nobody() {
    let mut machine = Machine::start(7, 0, 0, Client::States, None);
    machine.run(7200);
    assert_eq!(machine.judge("never synchronised").1, 7200);
    let mut next = Machine::start(8, machine.elapsed, 0, Client::StatesNothing, Some(7200 * S));
    next.run(7199);
    assert_eq!(next.judge("not yet").1, 7199);
    next.run(60);
    let (needed, undated) = next.judge("synchronised after two hours");
    assert_eq!(undated, 0);
    assert!(needed > 0.0);
}

#[test]
fn a_leap_second_and_the_fastest_slew_leave_every_sample_within_its_bound() {
    for seed in 0..8 {
        let mut machine =
            Machine::start(seed, LEAP - BEGIN - 600 * S, LEAP - 601 * S, Client::StatesNothing, Some(5 * S));
        machine.leap = seed % 2 == 0;
        machine.run(300);
        // As far as a client lets the kernel slew at 500 ppm: thirteen minutes of it, over the leap second.
        machine.slewing = 390 * MS;
        machine.offset -= 390 * MS;
        machine.look();
        machine.run(1500);
        let (_, undated) = machine.judge("over a leap second");
        assert_eq!(undated, 0);
    }
}
