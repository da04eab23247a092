use speedwell_wire::{Channel, LiveValue, NoData};

use super::{
    super::{Asked, StateWord},
    *,
};

const HEARTBEAT: Duration = Duration::from_secs(60);

struct Rig {
    state: State,
    start: Instant,
}

impl Rig {
    /// A hub that has its broker.
    fn new() -> Self {
        let start = Instant::now();
        let mut state = State::new(HEARTBEAT, Moment { at: start, utc_ns: 0 });
        state.hears(true, true, Moment { at: start, utc_ns: 0 });
        Self { state, start }
    }

    fn at(&self, s: f64) -> Moment {
        Moment { at: self.start + Duration::from_secs_f64(s), utc_ns: (s * 1e9) as i64 }
    }

    fn says(&mut self, id: &str, says: Says, s: f64) {
        let online = says == Says::Online;
        let status = Status { gateway: name(id), online, version: String::new(), health: None };
        self.state.status(&status, says, false, self.at(s));
    }

    /// Each sensor's speed, or why there is none.
    fn live(&mut self, id: &str, speeds: &[(&str, Result<f64, NoData>)], s: f64) {
        let channels = (0..).zip(speeds).map(|(n, (sensor, _))| Channel {
            id: n,
            sensor: (*sensor).into(),
            quantity: Quantity::Speed,
            resolution_nano: 1,
            tick_ns: 1,
            period_ns: 1,
            calibration: 0,
        });
        let manifest = Manifest { channels: channels.collect() };
        let value = |(n, (_, v)): (u16, &(&str, Result<f64, NoData>))| {
            let value = v.map(|v| (v, if n == 0 { 0.1 } else { 1.0 }, Quality::Good));
            LiveValue { channel: n, t_ns: 0, value }
        };
        let values = (0..).zip(speeds).map(value).collect();
        let live = Live { manifest: manifest.hash(), boot: 1, now_ns: 0, values };
        self.state.live(&name(id), &live, &manifest, self.at(s));
    }

    fn vehicle(&mut self, id: &str, gateways: &[&str], s: f64) {
        self.change(id, gateways, 1, s);
    }

    fn change(&mut self, id: &str, gateways: &[&str], version: i64, s: f64) {
        let gateways = gateways.iter().map(|id| name(id)).collect();
        let (registration, words) = (id.into(), String::new());
        let new = Vehicle { id: id.into(), registration, name: words, customer: None, gateways, version };
        self.state.vehicles(vec![new], self.at(s));
    }

    fn told(&mut self, kind: PresenceKind) -> Vec<(String, &'static str)> {
        let all = self.state.take_changes().0.into_iter().filter(|(change, _)| change.key.kind == kind);
        all.map(|(_, view)| (view.id, view.state)).collect()
    }

    fn ticks(&mut self, range: std::ops::Range<u32>) {
        range.for_each(|s| self.state.tick(self.at(s.into())));
    }
}

fn name(id: &str) -> GatewayId {
    GatewayId::new(id).unwrap()
}

#[test]
fn a_vehicle_is_connected_while_any_of_its_gateways_is() {
    let mut rig = Rig::new();
    rig.vehicle("v1", &["tractor", "trailer"], 0.0);
    assert_eq!(rig.told(PresenceKind::Vehicle), [("v1".into(), "unknown")]);
    rig.says("tractor", Says::Online, 1.0);
    rig.says("trailer", Says::Online, 2.0);
    rig.says("tractor", Says::Will, 3.0);
    assert_eq!(rig.told(PresenceKind::Vehicle), [("v1".into(), "no-speed")]);
    rig.live("trailer", &[("axle", Ok(0.0))], 4.0);
    rig.says("trailer", Says::Goodbye, 5.0);
    assert_eq!(rig.told(PresenceKind::Vehicle), [("v1".into(), "stopped"), ("v1".into(), "disconnected")]);
    assert!(rig.state.vehicles["v1"].stand.reason.starts_with("trailer is offline: stopped"));
    rig.vehicle("v1", &[], 6.0);
    assert_eq!(rig.state.vehicles["v1"].stand.reason, "it carries no gateway");
}

#[test]
fn a_vehicle_s_speed_is_that_of_the_sensor_that_is_most_certain_of_it_and_an_old_one_is_none() {
    let mut rig = Rig::new();
    rig.vehicle("v1", &["truck"], 0.0);
    rig.live("truck", &[("wheel", Ok(0.0)), ("gnss", Ok(1.5))], 1.0);
    assert_eq!(rig.state.vehicles["v1"].stand.state, VehicleState::Stopped);
    // The wheel fails, and the satellites have it.
    for s in 2..6 {
        rig.live("truck", &[("wheel", Err(NoData::Fault)), ("gnss", Ok(1.5))], s.into());
    }
    assert_eq!(rig.state.vehicles["v1"].stand.state, VehicleState::Moving);
    assert_eq!(rig.state.vehicles["v1"].stand.reason, "by gnss of truck");
    rig.ticks(6..30);
    assert_eq!(rig.state.vehicles["v1"].stand.state, VehicleState::NoSpeed, "what was said at 5 s tells no more");
    assert_eq!(rig.state.gateways[&name("truck")].link.state(), LinkState::Online);
}

#[test]
fn a_hub_that_stood_still_has_heard_nobody_meanwhile_and_blames_nobody() {
    let mut rig = Rig::new();
    rig.says("truck", Says::Online, 0.0);
    rig.ticks(1..20);
    rig.told(PresenceKind::Gateway);
    // The process was stopped for an hour; the time of the next tick comes before what waits is read.
    rig.state.tick(rig.at(3600.0));
    assert_eq!(rig.told(PresenceKind::Gateway), []);
    rig.ticks(3601..3751);
    assert_eq!(rig.told(PresenceKind::Gateway), [("truck".into(), "silent")]);
}

#[test]
fn however_many_come_only_so_many_are_kept_and_pages_give_each_of_them_once() {
    let mut rig = Rig::new();
    let many: Vec<String> = (0..MAX_SENSORS + 9).map(|n| format!("s/{n}")).collect();
    let speeds: Vec<(&str, Result<f64, NoData>)> = many.iter().map(|name| (name.as_str(), Ok(1.0))).collect();
    rig.live("g0", &speeds, 0.0);
    for n in 0..MAX_GATEWAYS + 9 {
        rig.says(&format!("g{n}"), Says::Online, 1.0);
    }
    rig.vehicle("v1", &["g0"], 2.0);
    assert_eq!((rig.state.gateways.len(), rig.state.sensors), (MAX_GATEWAYS, MAX_SENSORS));
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let (page, next) = view::list(&rig.state, &Asked { after, limit: 999, ..Asked::default() });
        assert!(page.len() <= 999);
        all.extend(page.into_iter().map(|one| (one.kind, one.gateway, one.id)));
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(all.len(), MAX_GATEWAYS + MAX_SENSORS + 1);
    let each: HashSet<_> = all.iter().collect();
    assert_eq!(each.len(), all.len());
    let lone = Asked { unassigned: true, limit: usize::MAX - 1, ..Asked::default() };
    assert_eq!(view::list(&rig.state, &lone).0.len(), MAX_GATEWAYS - 1);
}

#[test]
fn what_is_asked_for_by_gateway_and_by_state_is_that_and_nothing_else_on_every_page() {
    let mut rig = Rig::new();
    for id in ["g1", "g10", "g2"] {
        rig.live(id, &[("a", Ok(1.0)), ("b", Err(NoData::NoFix))], 0.0);
    }
    rig.vehicle("v1", &["g0", "g10"], 1.0);
    rig.says("g2", Says::Will, 2.0);
    let listed = |asked: Asked| {
        let (mut all, mut asked) = (Vec::new(), Asked { limit: 1, ..asked });
        loop {
            let (page, next) = view::list(&rig.state, &asked);
            all.extend(page.into_iter().map(|one| format!("{}{}", one.gateway.unwrap_or_default(), one.id)));
            asked.after = next;
            if asked.after.is_none() {
                return all.join(" ");
            }
        }
    };
    let of = |gateway| Asked { gateway: Some(name(gateway)), ..Asked::default() };
    assert_eq!(listed(of("g1")), "g1 g1a g1b");
    assert_eq!(listed(of("g10")), "g10 g10a g10b v1");
    assert_eq!(listed(of("g0")), "v1", "it was never heard, and its vehicle is there all the same");
    let is = |state| Asked { state: Some(state), ..Asked::default() };
    assert_eq!(listed(is(StateWord::Online)), "g1 g10");
    assert_eq!(listed(is(StateWord::NoValue)), "g1b g10b");
    assert_eq!(listed(Asked { state: Some(StateWord::Stale), ..of("g2") }), "g2a g2b");
    assert_eq!(listed(Asked { unassigned: true, ..of("g10") }), "");
}

#[test]
fn what_the_registry_has_otherwise_is_told_once_with_the_gateways_of_before_and_of_now() {
    let mut rig = Rig::new();
    let told = |rig: &mut Rig| {
        let all = rig.state.take_registered().into_iter();
        let words = |(id, of): (String, Vec<GatewayId>)| {
            format!("{id}: {}", of.iter().map(|g| g.as_str()).collect::<Vec<_>>().join(" "))
        };
        all.map(words).collect::<Vec<_>>()
    };
    rig.vehicle("v1", &["a"], 0.0);
    assert!(rig.state.has_changes());
    assert_eq!(told(&mut rig), ["v1: a"]);
    rig.vehicle("v1", &["a"], 1.0);
    assert_eq!(told(&mut rig), [""; 0], "the same again is no news");
    rig.change("v1", &["b"], 2, 2.0);
    assert_eq!(told(&mut rig), ["v1: a b"]);
    rig.vehicle("v2", &[], 3.0);
    assert_eq!(told(&mut rig), ["v1: b", "v2: "], "one is gone");
}

#[test]
fn changes_that_nobody_takes_are_let_go_from_the_oldest_and_counted() {
    let mut rig = Rig::new();
    for n in 0..MAX_CHANGES + 10 {
        rig.says("truck", if n % 2 == 0 { Says::Online } else { Says::Will }, n as f64);
    }
    let (kept, dropped) = rig.state.take_changes();
    assert_eq!((kept.len(), dropped), (MAX_CHANGES, 10));
    assert_eq!(kept[0].0.since_ns, 10_000_000_000);
}

#[test]
fn what_is_quiet_while_the_store_takes_nothing_is_not_to_blame() {
    let mut rig = Rig::new();
    // One that sends readings, and is heard when they are stored.
    rig.state.stored(&name("tracker"), &[], false, rig.at(0.0));
    rig.told(PresenceKind::Gateway);
    rig.state.hears(true, false, rig.at(10.0));
    rig.ticks(10..300);
    assert_eq!(rig.told(PresenceKind::Gateway), [("tracker".into(), "unknown")]);
    assert_eq!(rig.state.gateways[&name("tracker")].link.stand().reason, NO_STORE);
    rig.state.hears(true, true, rig.at(300.0));
    rig.ticks(300..449);
    assert_eq!(rig.told(PresenceKind::Gateway), [], "it has its grace again");
    rig.ticks(449..452);
    assert_eq!(rig.told(PresenceKind::Gateway), [("tracker".into(), "silent")]);
}

#[test]
fn a_backlog_tells_how_fast_it_was_and_not_how_fast_it_is() {
    let mut rig = Rig::new();
    rig.vehicle("v1", &["truck"], 0.0);
    let (sensor, quantity, quality) = ("wheel".into(), Quantity::Speed, Quality::Good);
    let newest = crate::store::Newest { sensor, quantity, t_ns: 0, value: 20.0, uncertainty: None, quality };
    let latest = |utc_ns| {
        let (gateway, log) = (name("truck"), speedwell_wire::LogId(1));
        Latest { gateway, log, boot: 1, newest: newest.clone(), utc_ns }
    };
    let now = Moment { utc_ns: 3600 * 1_000_000_000, ..rig.at(1.0) };
    rig.state.stored(&name("truck"), &[latest(Some(0))], true, now);
    rig.state.stored(&name("truck"), &[latest(None)], true, now);
    assert_eq!(rig.state.vehicles["v1"].stand.state, VehicleState::NoSpeed, "an hour old, and of no known time");
    rig.state.stored(&name("truck"), &[latest(Some(now.utc_ns - 1))], true, now);
    assert_eq!(rig.state.vehicles["v1"].stand.state, VehicleState::Moving);
}
