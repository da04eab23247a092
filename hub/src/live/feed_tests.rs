//! The feed against a model: whatever is said, whoever is slow or cut off, a client ends with what the board has.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use serde_json::Value;
use speedwell_wire::{Channel, Live, LiveValue, Manifest, Quality};

use super::*;
use crate::live::MAX_TOLD_BYTES;

const SMALL: Limits = Limits { changes: 12, told: 3, told_bytes: 100_000 };

fn manifest() -> Manifest {
    let channel = |id: u16, sensor: &str, quantity| Channel {
        id,
        sensor: sensor.into(),
        quantity,
        resolution_nano: 1_000_000,
        tick_ns: 100_000,
        period_ns: 100_000_000,
        calibration: 0,
    };
    Manifest { channels: vec![channel(1, "front", Quantity::Speed), channel(2, "front", Quantity::Distance)] }
}

fn id(n: u8) -> GatewayId {
    GatewayId::new(format!("truck-{n}")).unwrap()
}

/// The channels with these numbers have this value now.
fn say_of(board: &Board, gateway: u8, channels: &[u16], value: f64, now: Instant) {
    let of = |&channel| LiveValue { channel, t_ns: 1, value: Ok((value, 0.1, Quality::Good)) };
    let live = Live { manifest: manifest().hash(), boot: 1, now_ns: 1, values: channels.iter().map(of).collect() };
    board.live(&id(gateway), &live, &manifest(), now);
}

fn say(board: &Board, gateway: u8, value: f64) {
    say_of(board, gateway, &[1], value, Instant::now());
}

/// A client as a page is one: what it was told, and the number of the last message.
#[derive(Default)]
struct Page {
    values: BTreeMap<String, f64>,
    newest: BTreeMap<String, f64>,
    told: Vec<u64>,
    skipped: u64,
    snapshots: u64,
    views: u64,
    at: Option<Since>,
}

impl Page {
    fn take(&mut self, said: &Said, epoch: u64) {
        let message: Value = serde_json::from_slice(&said.text).unwrap();
        assert_eq!(message["n"], said.n);
        assert!(self.at.is_none_or(|at| at.n <= said.n), "numbers go up: {message}");
        self.at = Some(Since { epoch, n: said.n });
        let gateways: &[Value] = match message["type"].as_str().unwrap() {
            "snapshot" => {
                self.snapshots += 1;
                self.values.clear();
                message["gateways"].as_array().unwrap()
            }
            "gateway" => {
                self.views += 1;
                std::slice::from_ref(&message["gateway"])
            }
            "skipped" => {
                self.skipped += message["changes"].as_u64().unwrap();
                &[]
            }
            "note" => {
                self.told.push(message["mark"].as_u64().unwrap());
                &[]
            }
            "resumed" => &[],
            other => panic!("{other}"),
        };
        for gateway in gateways {
            let value = gateway["channels"][0]["value"].as_f64().unwrap();
            let name = gateway["id"].as_str().unwrap();
            self.values.insert(name.into(), value);
            let before = self.newest.insert(name.into(), value);
            assert!(before.is_none_or(|before| before <= value), "nothing older is told again");
        }
    }
}

/// Tells the page all there is, but no more than so many messages: then it is cut off.
fn tell(watch: &mut Watch, page: &mut Page, mut at_most: usize) {
    for looks in 0.. {
        assert!(looks < 1000, "it never comes to an end");
        let (said, all) = match watch.look(Instant::now()) {
            Look::All(said) => (said, true),
            Look::Some(said) => (said, false),
            Look::Behind => (snapshot(watch), false),
        };
        for said in &said {
            if at_most == 0 {
                return;
            }
            at_most -= 1;
            page.take(said, watch.board.epoch());
        }
        if all {
            return;
        }
    }
}

fn snapshot(watch: &mut Watch) -> Vec<Said> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(watch.snapshot(Instant::now))
}

#[derive(Clone, Debug)]
enum Step {
    Say(u8),
    Note,
    Look,
    /// Is cut off after so many messages of what there is, and comes again with the last number.
    Cut(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..5u8).prop_map(Step::Say),
        1 => Just(Step::Note),
        2 => Just(Step::Look),
        2 => (0..6usize).prop_map(Step::Cut),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #[test]
    fn a_client_that_is_slow_or_cut_off_ends_with_what_the_board_has(steps in steps()) {
        let board = Board::keeping(SMALL);
        let (mut model, mut notes, mut changes) = (BTreeMap::new(), Vec::new(), 0);
        let (mut page, mut watch) = (Page::default(), board.watch(Filter::default(), None));
        for (step, value) in steps.into_iter().zip(1u64..) {
            match step {
                Step::Say(gateway) => {
                    say(&board, gateway, value as f64);
                    model.insert(id(gateway).to_string(), value as f64);
                    changes += 1;
                }
                Step::Note => {
                    board.tell("note", &[], &serde_json::json!({ "mark": value }));
                    notes.push(value);
                    changes += 1;
                }
                Step::Look => {
                    tell(&mut watch, &mut page, usize::MAX);
                    prop_assert_eq!(&page.values, &model);
                }
                Step::Cut(after) => {
                    tell(&mut watch, &mut page, after);
                    watch = board.watch(Filter::default(), page.at);
                }
            }
        }
        tell(&mut watch, &mut page, usize::MAX);
        prop_assert_eq!(&page.values, &model);
        prop_assert_eq!(page.at.unwrap().n, changes);
        // Each note at most once and in order; and all of them unless it was so far behind that it began anew.
        let mut rest = notes.iter();
        prop_assert!(page.told.iter().all(|told| rest.any(|note| note == told)), "{:?} of {notes:?}", page.told);
        if page.snapshots == 0 {
            prop_assert_eq!(page.told.len(), notes.len());
        }
    }
}

#[test]
fn one_that_comes_again_is_told_what_changed_and_nothing_else_with_its_age_as_it_is_then() {
    let (board, began) = (Board::default(), Instant::now());
    (0..10).for_each(|n| say_of(&board, n, &[1], 1.0, began));
    let since = Since { epoch: board.epoch(), n: 10 };
    say_of(&board, 3, &[1], 2.0, began);
    say_of(&board, 3, &[1], 3.0, began);
    say_of(&board, 4, &[1], 2.0, began);
    let Look::All(first) = board.watch(Filter::default(), Some(since)).look(began) else { panic!("all of it") };
    let later = began + Duration::from_secs(7);
    let Look::All(said) = board.watch(Filter::default(), Some(since)).look(later) else { panic!("all of it") };
    let messages: Vec<Value> = said.iter().map(|said| serde_json::from_slice(&said.text).unwrap()).collect();
    let brief = |m: &Value| (m["n"].as_u64().unwrap(), m["type"].as_str().unwrap().to_owned());
    let wanted = [(10, "resumed"), (10, "skipped"), (12, "gateway"), (13, "gateway")];
    assert_eq!(messages.iter().map(brief).collect::<Vec<_>>(), wanted.map(|(n, kind)| (n, kind.to_owned())));
    assert_eq!((&messages[1]["changes"], &messages[1]["gateways"]), (&1.into(), &serde_json::json!(["truck-3"])));
    assert_eq!(messages[2]["gateway"]["channels"][0]["age_ms"], 7000, "rendered anew");
    assert_eq!(first.len(), said.len());
}

#[test]
fn a_place_that_is_not_known_begins_with_a_snapshot() {
    let board = Board::keeping(SMALL);
    (0..20).for_each(|n| say(&board, 1, f64::from(n)));
    let epoch = board.epoch();
    for (since, known) in [
        (None, false),
        (Some(Since { epoch, n: 20 }), true),
        (Some(Since { epoch, n: 8 }), true),
        (Some(Since { epoch, n: 7 }), false),
        (Some(Since { epoch, n: 21 }), false),
        (Some(Since { epoch: epoch ^ 1, n: 20 }), false),
    ] {
        let look = board.watch(Filter::default(), since).look(Instant::now());
        assert_eq!(!matches!(look, Look::Behind), known, "{since:?}");
    }
}

#[test]
fn one_that_falls_too_far_behind_is_told_how_many_it_missed_and_gets_all_there_is() {
    let board = Board::keeping(SMALL);
    let (mut page, mut watch) = (Page::default(), board.watch(Filter::default(), None));
    tell(&mut watch, &mut page, usize::MAX);
    (0..50).for_each(|n| say(&board, n % 2, f64::from(n)));
    tell(&mut watch, &mut page, usize::MAX);
    assert_eq!((page.snapshots, page.skipped, page.views), (2, 50, 0));
    assert_eq!(page.values.values().copied().collect::<Vec<_>>(), [48.0, 49.0]);
}

#[test]
fn who_watches_some_is_told_of_these_and_of_their_channels_only() {
    let (board, now) = (Board::default(), Instant::now());
    let all = |channels: Channels, gateways: &[u8]| {
        let filter = Filter { gateways: gateways.iter().map(|&n| id(n)).collect(), channels: Arc::new(channels) };
        board.watch(filter, Some(Since { epoch: board.epoch(), n: 0 }))
    };
    let speed = Channels { quantities: [Quantity::Speed].into(), ..Channels::default() };
    let distance = Channels { quantities: [Quantity::Distance].into(), sensors: ["front".to_owned()].into() };
    let rear = Channels { sensors: ["rear".to_owned()].into(), ..Channels::default() };
    for value in [1.0, 2.0] {
        say_of(&board, 1, &[1], value, now);
        say_of(&board, 2, &[1, 2], value, now);
    }
    board.tell("note", &[id(0), id(1)], &serde_json::json!({ "mark": 1 }));
    board.tell("note", &[], &serde_json::json!({ "mark": 2 }));
    let told = |mut watch: Watch| {
        let Look::All(said) = watch.look(now) else { panic!("all of it") };
        let brief = |said: &Said| {
            let m: Value = serde_json::from_slice(&said.text).unwrap();
            let channels = m["gateway"]["channels"].as_array();
            let quantities = channels.iter().flat_map(|all| all.iter()).map(|c| c["quantity"].to_string());
            format!("{} {}{}", m["n"], m["type"].as_str().unwrap(), quantities.collect::<String>())
        };
        said.iter().map(brief).collect::<Vec<_>>()
    };
    let everything =
        ["0 resumed", "0 skipped", "3 gateway\"speed\"", "4 gateway\"speed\"\"distance\"", "5 note", "6 note"];
    assert_eq!(told(all(Channels::default(), &[])), everything);
    assert_eq!(told(all(Channels::default(), &[1])), ["0 resumed", "0 skipped", "3 gateway\"speed\"", "5 note"]);
    assert_eq!(told(all(speed, &[2])), ["0 resumed", "0 skipped", "4 gateway\"speed\""]);
    assert_eq!(told(all(distance, &[])), ["0 resumed", "0 skipped", "4 gateway\"distance\"", "5 note", "6 note"]);
    assert_eq!(told(all(rear, &[1, 2])), ["0 resumed", "5 note"], "neither has such a sensor");
}

#[test]
fn all_who_want_the_same_are_given_the_same_bytes() {
    let (board, now) = (Board::default(), Instant::now());
    say_of(&board, 1, &[1, 2], 1.0, now);
    let since = Some(Since { epoch: board.epoch(), n: 0 });
    let told = |gateways: &[u8]| {
        let filter = Filter { gateways: gateways.iter().map(|&n| id(n)).collect(), ..Filter::default() };
        let Look::All(mut said) = board.watch(filter, since).look(now) else { panic!("all of it") };
        said.pop().unwrap().text
    };
    assert_eq!(told(&[]).as_ptr(), told(&[1]).as_ptr());
    board.tick(now + AGE_SLACK);
    assert!(board.lock().slots[0].texts.is_empty(), "and they are not kept");
}

#[test]
fn a_message_of_another_room_that_is_none_is_not_told() {
    let board = Board::default();
    board.tell("note", &[], &[1, 2]);
    board.tell("note", &[], &serde_json::json!({ "long": "x".repeat(MAX_TOLD_BYTES) }));
    board.tell("note", &[], &serde_json::json!({}));
    let mut watch = board.watch(Filter::default(), Some(Since { epoch: board.epoch(), n: 0 }));
    let Look::All(said) = watch.look(Instant::now()) else { panic!("all of it") };
    assert_eq!(said.last().unwrap().text, "{\"n\":1,\"type\":\"note\"}");
    assert_eq!(said.len(), 2);
}

#[test]
fn a_snapshot_of_many_gateways_is_one_list_by_name() {
    let board = Board::default();
    (0..=255).rev().for_each(|n| say(&board, n, 1.0));
    let mut watch = board.watch(Filter::default(), None);
    let said = snapshot(&mut watch);
    let message: Value = serde_json::from_slice(&said[0].text).unwrap();
    let names: Vec<&str> = message["gateways"].as_array().unwrap().iter().map(|g| g["id"].as_str().unwrap()).collect();
    assert_eq!((names.len(), names.is_sorted(), said.len()), (256, true, 1));
    let none = Filter { gateways: [GatewayId::new("none").unwrap()].into(), ..Filter::default() };
    let said = snapshot(&mut board.watch(none, None));
    assert!(String::from_utf8_lossy(&said[0].text).ends_with("\"gateways\":[]}"));
}
