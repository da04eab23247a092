//! A gateway without its line: a vehicle, its sensors, a clock, a log, and what befalls them. Pure.
//!
//! It knows simulated seconds only. The same seed gives the same records, but for UTC and the log's name: two runs on one
//! hub must not be taken for one.

use std::sync::Arc;

use fastrand::Rng;
use speedwell_wire::{
    ClockFix, ClockSource, Event, EventKind, GatewayId, Live, LiveValue, LogId, Manifest, ManifestHash, Record,
    Samples, Seq, Status, block, message::Health,
};

use super::{
    log::Log,
    road::Vehicle,
    senses::{Senses, normal, rests},
};

const SECOND_NS: u64 = 1_000_000_000;
/// What the clock that counts from boot says when the agent starts.
const BOOT_NS: u64 = 8 * SECOND_NS;
/// Seconds between two fixes of the clock.
const FIX_EVERY: u64 = 60;
/// Seconds between two troubles, on the average.
const BETWEEN_TROUBLES_S: f64 = 60.0;
/// Seconds that a reboot, or the change of a card, takes.
const REBOOT: u64 = 20;
/// Seconds after a boot or a step until the network time is there again.
const SYNCHRONISED_AFTER: u64 = 25;

/// What befalls the line, to be done by whoever holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Befalls {
    /// It breaks without a word and stays so for some seconds.
    Cut(f64),
    /// The next batch goes out twice.
    Again,
    /// The gateway has a new card, and with it a new log; the line is cut while it starts.
    NewLog(f64),
}

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    /// Records.
    pub(super) records: u64,
    /// Samples in them.
    pub(super) samples: u64,
    /// Records with samples.
    pub(super) blocks: u64,
    /// Boots after the first.
    pub(super) reboots: u64,
    /// Cards replaced.
    pub(super) cards: u64,
    /// Steps of the clock.
    pub(super) steps: u64,
}

struct Clock {
    source: ClockSource,
    /// What it says more than is true, ns.
    off_ns: i64,
    uncertainty_ns: u64,
    mended_at: Option<u64>,
    fix_at: u64,
}

/// One gateway.
pub(super) struct Gateway {
    /// Its name.
    pub(super) id: GatewayId,
    /// Its records.
    pub(super) log: Log,
    /// What it has made.
    pub(super) made: Made,
    vehicle: Vehicle,
    senses: Senses,
    manifest: Arc<Manifest>,
    hash: ManifestHash,
    hz: u32,
    rng: Rng,
    names: Rng,
    start_utc_ns: i64,
    seconds: u64,
    boot: u32,
    boot_at: u64,
    clock: Clock,
    trouble_at: Option<f64>,
    card_due: bool,
}

impl Gateway {
    /// The gateway with this number. `start_utc_ns` is when its first second begins.
    pub(super) fn new(
        number: u32,
        seed: u64,
        hz: u32,
        troubles: bool,
        manifest: &Arc<Manifest>,
        start_utc_ns: i64,
    ) -> Self {
        let mut seeds = Rng::with_seed(seed ^ u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (vehicle, senses) = (Vehicle::new(seeds.u64(..)), Senses::new(seeds.u64(..), hz));
        let mut rng = seeds.fork();
        let mut names = Rng::with_seed(seeds.u64(..) ^ start_utc_ns as u64);
        let trouble_at = troubles.then(|| rests(&mut rng, BETWEEN_TROUBLES_S));
        // Letters and digits only, so it is a good name.
        let id = GatewayId::new(format!("sim-{number:05}")).unwrap_or_else(|bad| unreachable!("{bad}"));
        Self {
            id,
            log: Log::new(LogId(names.u64(..))),
            made: Made::default(),
            vehicle,
            senses,
            hash: manifest.hash(),
            manifest: manifest.clone(),
            hz: hz.max(1),
            rng,
            names,
            start_utc_ns,
            seconds: 0,
            boot: 1,
            boot_at: 0,
            clock: Clock { source: ClockSource::Ntp, off_ns: 0, uncertainty_ns: 5_000_000, mended_at: None, fix_at: 0 },
            trouble_at,
            card_due: false,
        }
    }

    /// Simulated seconds so far.
    pub(super) fn seconds(&self) -> u64 {
        self.seconds
    }

    /// The channel list its blocks are read with.
    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Lives through one more second. Gives what befalls the line in it.
    pub(super) fn second(&mut self) -> Option<Befalls> {
        let now = self.seconds;
        self.seconds += 1;
        if self.card_due && self.log.kept() == 0 {
            self.vehicle.go(1.0);
            return Some(self.new_card());
        }
        if now < self.boot_at {
            // Off: the vehicle drives on, and nobody looks.
            self.vehicle.go(1.0);
            return None;
        }
        if now == self.boot_at {
            self.booted();
        }
        if self.clock.mended_at == Some(now) {
            self.synchronised();
        }
        if now >= self.clock.fix_at {
            self.fix();
        }
        for change in self.senses.change() {
            self.event(Some(change.sensor), change.kind, change.detail);
        }
        self.measure();
        self.befalls(now)
    }

    fn measure(&mut self) {
        let (begin, hz) = (self.boot_ns(self.seconds - 1), self.hz);
        for tick in 0..hz {
            self.vehicle.go(1.0 / f64::from(hz));
            // The agent looks when it is let, which is some tenths of a millisecond late.
            let late = self.rng.u64(0..600_000);
            let t_ns = begin + u64::from(tick) * SECOND_NS / u64::from(hz) + late;
            self.senses.look(t_ns, tick, &self.vehicle.truth());
        }
        let (block, samples) = self.senses.second(|columns, manifest| {
            let samples = columns.iter().map(|column| column.samples.len() as u64).sum();
            (block::encode(columns, manifest), samples)
        });
        if samples > 0 {
            let record = Record::Samples(Samples { manifest: self.hash, boot: self.boot, block });
            let came = self.append(&record, samples);
            self.made.samples += if came { samples } else { 0 };
            self.made.blocks += u64::from(came);
        }
    }

    fn append(&mut self, record: &Record, samples: u64) -> bool {
        let came = self.log.append(record, samples, (self.boot, self.boot_ns(self.seconds)));
        self.made.records += u64::from(came);
        came
    }

    /// The hub has the log up to this. Gives how many records that freed.
    pub(super) fn confirmed(&mut self, thru: Seq) -> u64 {
        let freed = self.log.free(thru);
        self.made.records += u64::from(freed > 0 && self.log.tell_shed());
        freed
    }

    fn event(&mut self, sensor: Option<&str>, kind: EventKind, detail: &str) {
        let (boot, t_ns) = (self.boot, self.boot_ns(self.seconds - 1));
        let event = Event { boot, t_ns, sensor: sensor.map(str::to_owned), kind, detail: detail.into() };
        self.append(&Record::Event(event), 0);
    }

    fn booted(&mut self) {
        let first = self.boot_at == 0;
        let how = if first { "simulated" } else { "simulated, after a power cut" };
        self.event(None, EventKind::Started, how);
        if !first {
            // No clock ran meanwhile, so it goes on with the time it had.
            self.clock.source = ClockSource::Untrusted;
            self.clock.off_ns = -((REBOOT * SECOND_NS) as i64);
            self.clock.uncertainty_ns = 3_600 * SECOND_NS;
            self.clock.mended_at = Some(self.boot_at + SYNCHRONISED_AFTER);
        }
        self.clock.fix_at = self.boot_at;
    }

    fn synchronised(&mut self) {
        let by = -self.clock.off_ns as f64 / 1e9;
        self.event(None, EventKind::ClockStep, &format!("real time was set by {by:+.3} s"));
        self.made.steps += 1;
        self.clock.source = ClockSource::Ntp;
        self.clock.uncertainty_ns = 5_000_000;
        self.clock.off_ns = (normal(&mut self.rng) * 5e6) as i64;
        self.clock.mended_at = None;
        self.clock.fix_at = self.seconds - 1;
    }

    fn fix(&mut self) {
        let at = self.seconds - 1;
        let fix = ClockFix {
            boot: self.boot,
            boot_ns: self.boot_ns(at),
            utc_ns: self.start_utc_ns + (at * SECOND_NS) as i64 + self.clock.off_ns,
            uncertainty_ns: self.clock.uncertainty_ns,
            rate_ppb: 0,
            source: self.clock.source,
        };
        self.append(&Record::Clock(fix), 0);
        self.clock.fix_at = at + FIX_EVERY;
    }

    fn befalls(&mut self, now: u64) -> Option<Befalls> {
        if self.trouble_at.is_none_or(|at| (now as f64) < at) {
            return None;
        }
        self.trouble_at = Some(now as f64 + rests(&mut self.rng, BETWEEN_TROUBLES_S));
        let between = |rng: &mut Rng, from: f64, to: f64| from + (to - from) * rng.f64();
        match self.rng.u32(..100) {
            0..45 => Some(Befalls::Cut(between(&mut self.rng, 3.0, 30.0))),
            45..52 => Some(Befalls::Cut(between(&mut self.rng, 60.0, 180.0))),
            52..66 => Some(Befalls::Cut(0.0)),
            66..80 => Some(Befalls::Again),
            80..88 => {
                self.clock_goes_wrong(now);
                None
            }
            88..95 => {
                self.boot += 1;
                self.made.reboots += 1;
                Some(self.off(now))
            }
            _ => {
                self.card_due = true;
                None
            }
        }
    }

    fn clock_goes_wrong(&mut self, now: u64) {
        // The server of time is gone, and a clock with a battery says what it thinks.
        self.clock.source = ClockSource::Rtc;
        self.clock.uncertainty_ns = 1_500_000_000;
        self.clock.off_ns = (normal(&mut self.rng) * 1.5e9) as i64;
        self.clock.mended_at = Some(now + 1 + SYNCHRONISED_AFTER);
        let by = self.clock.off_ns as f64 / 1e9;
        self.event(None, EventKind::ClockStep, &format!("real time was set by {by:+.3} s"));
        self.made.steps += 1;
        self.clock.fix_at = now + 1;
    }

    fn off(&mut self, now: u64) -> Befalls {
        self.boot_at = now + 1 + REBOOT;
        self.clock.mended_at = None;
        Befalls::Cut(REBOOT as f64)
    }

    /// A technician replaces a card when nothing on it is unconfirmed. The new one counts its boots anew.
    fn new_card(&mut self) -> Befalls {
        self.card_due = false;
        self.made.cards += 1;
        self.log = Log::new(LogId(self.names.u64(..)));
        self.boot = 1;
        self.off(self.seconds - 1);
        Befalls::NewLog(REBOOT as f64)
    }

    /// The last that is written.
    pub(super) fn stop(&mut self) {
        if self.seconds > self.boot_at {
            self.event(None, EventKind::Stopped, "simulated");
        }
    }

    /// Boot time at the beginning of a second.
    fn boot_ns(&self, second: u64) -> u64 {
        BOOT_NS + second.saturating_sub(self.boot_at) * SECOND_NS
    }

    /// What it shows.
    pub(super) fn live(&self) -> Live {
        let now_ns = self.boot_ns(self.seconds);
        let values = self.senses.newest().map(|(channel, newest, reason)| match newest {
            Some(new) => LiveValue {
                channel,
                // Of the boot before, perhaps: then it was measured just now.
                t_ns: new.t_ns.min(now_ns),
                value: Ok((new.value, new.uncertainty as f32, new.quality)),
            },
            None => LiveValue { channel, t_ns: now_ns, value: Err(reason) },
        });
        Live { manifest: self.hash, boot: self.boot, now_ns, values: values.collect() }
    }

    /// What it says of itself; of its death, what the broker shall say.
    pub(super) fn status(&self, online: bool, with_health: bool) -> Vec<u8> {
        let health = with_health.then(|| Health {
            uptime_s: self.seconds.saturating_sub(self.boot_at),
            boot: self.boot,
            log: self.log.id,
            last_seq: self.log.last(),
            confirmed_seq: self.log.confirmed(),
            spool_bytes: self.log.bytes() as u64,
            lost_samples: self.log.shed_samples(),
            clock: self.clock.source,
            rss_bytes: 0,
            sensors: self.senses.health(),
        });
        let version = format!("{} simulated", env!("CARGO_PKG_VERSION"));
        let status = Status { gateway: self.id.clone(), online, version, health };
        // A status is plain words and numbers.
        serde_json::to_vec(&status).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use speedwell_wire::{Batch, frame};

    use super::*;
    use crate::simulate::senses::manifest;

    /// Half an hour with every trouble, all that it writes confirmed at once.
    fn half_an_hour(seed: u64) -> (Gateway, Vec<(LogId, Record)>, Vec<Befalls>) {
        let manifest = Arc::new(manifest(10));
        let mut gateway = Gateway::new(3, seed, 10, true, &manifest, 1_767_225_600_000_000_000);
        let (mut records, mut befell) = (Vec::new(), Vec::new());
        for _ in 0..1_800 {
            befell.extend(gateway.second());
            while let Some(sent) = gateway.log.batch(&gateway.id, gateway.log.confirmed() + 1) {
                let batch: Batch = frame::decode(&sent.payload).unwrap();
                assert_eq!((batch.first_seq, batch.log), (gateway.log.confirmed() + 1, gateway.log.id));
                records.extend(batch.entries.into_iter().map(|entry| (batch.log, entry.record)));
                gateway.confirmed(sent.next - 1);
            }
        }
        (gateway, records, befell)
    }

    #[test]
    fn the_same_seed_writes_the_same_records_and_another_does_not() {
        let (one, two, other) = (half_an_hour(1), half_an_hour(1), half_an_hour(2));
        assert!(one.1.len() > 1_500);
        assert_eq!(one.1, two.1);
        assert_eq!(one.2, two.2);
        assert_ne!(one.1, other.1);
        assert_eq!(one.0.made.records, one.1.len() as u64);
    }

    #[test]
    fn times_ascend_within_a_boot_and_a_trusted_clock_places_them_in_order() {
        for seed in 0..6 {
            let (gateway, records, _) = half_an_hour(seed);
            let mut last = std::collections::BTreeMap::new();
            for (log, record) in &records {
                let Record::Samples(samples) = record else { continue };
                for column in block::decode(&samples.block).unwrap() {
                    for sample in column.samples {
                        let before = last.insert((*log, samples.boot, column.channel), sample.tick);
                        assert!(before < Some(sample.tick), "seed {seed}");
                    }
                }
            }
            for (_, record) in &records {
                let Record::Clock(fix) = record else { continue };
                let known = matches!(fix.source, ClockSource::Ntp | ClockSource::Rtc);
                let (from, to) = (gateway.start_utc_ns, gateway.start_utc_ns + 1_800 * SECOND_NS as i64);
                let far = 6 * fix.uncertainty_ns as i64;
                assert!(!known || (from - far..=to + far).contains(&fix.utc_ns), "{fix:?}");
            }
        }
    }

    #[test]
    fn every_kind_of_trouble_comes() {
        let all: Vec<_> = (0..8).map(half_an_hour).collect();
        let any = |is: fn(&Befalls) -> bool| all.iter().any(|(_, _, befell)| befell.iter().any(is));
        assert!(any(|b| matches!(b, Befalls::Cut(s) if *s > 60.0)) && any(|b| *b == Befalls::Cut(0.0)));
        assert!(any(|b| *b == Befalls::Again) && any(|b| matches!(b, Befalls::NewLog(_))));
        assert!(all.iter().any(|(g, ..)| g.made.reboots > 0) && all.iter().any(|(g, ..)| g.made.steps > 1));
    }
}
