//! Who was connected when.

use speedwell_hub::store::{
    Store, Work,
    presence::{PresenceChange, PresenceKey, PresenceKind, PresenceNotes, PresenceQuery, PresenceRow, PresenceSeen},
};

use crate::database::Database;

const S: i64 = 1_000_000_000;
const DAY: i64 = 24 * 3600 * S;

fn key(id: &str) -> PresenceKey {
    PresenceKey { kind: PresenceKind::Gateway, gateway: String::new(), id: id.into() }
}

fn change(id: &str, state: &str, since_ns: i64, reason: &str) -> PresenceChange {
    let (state, reason) = (state.into(), reason.into());
    PresenceChange { key: key(id), state, since_ns, reason, seen_ns: Some(since_ns), beat_ns: None }
}

fn note(store: &mut Box<dyn Store>, changes: &[PresenceChange]) {
    let notes = PresenceNotes { changes: changes.to_vec(), seen: Vec::new() };
    store.commit(&[Work::Presence(notes)]).unwrap();
}

/// State, beginning and end, in s.
fn told(rows: &[PresenceRow]) -> Vec<(String, i64, Option<i64>)> {
    rows.iter().map(|row| (row.began.state.clone(), row.began.since_ns / S, row.until_ns.map(|ns| ns / S))).collect()
}

fn of(id: &str, from_s: i64, to_s: i64) -> PresenceQuery {
    PresenceQuery { of: Some(key(id)), from_ns: from_s * S, to_ns: to_s * S, after: None, limit: 100 }
}

fn stretch(state: &str, from: i64, until: impl Into<Option<i64>>) -> (String, i64, Option<i64>) {
    (state.into(), from, until.into())
}

pub fn a_stretch_ends_where_the_next_begins_and_all_of_it_survives(on: &Database) {
    let mut store = on.open();
    // In one commit, as after a time in which the store did not work, and of two things.
    note(
        &mut store,
        &[
            change("truck-7", "online", 10 * S, "connected"),
            change("truck-8", "online", 11 * S, "connected"),
            change("truck-7", "offline", 20 * S, "connection lost"),
            change("truck-7", "online", 30 * S, "connected"),
        ],
    );
    let seen = PresenceSeen { key: key("truck-7"), seen_ns: 39 * S, beat_ns: Some(7 * S) };
    store.commit(&[Work::Presence(PresenceNotes { changes: Vec::new(), seen: vec![seen] })]).unwrap();
    drop(store);
    let reader = on.open().reader();
    let all = reader.presence_history(&of("truck-7", 0, 100)).unwrap();
    let expected = [stretch("online", 10, 20), stretch("offline", 20, 30), stretch("online", 30, None)];
    assert_eq!(told(&all), expected);
    assert_eq!(all[1].began.reason, "connection lost");
    let now = reader.presence_now(None, 10).unwrap();
    assert_eq!(now.iter().map(|row| row.began.key.id.as_str()).collect::<Vec<_>>(), ["truck-7", "truck-8"]);
    assert_eq!((now[0].began.seen_ns, now[0].began.beat_ns), (Some(39 * S), Some(7 * S)));
    assert_eq!(now[1].began.seen_ns, Some(11 * S), "only the one that was seen");
    let rest = reader.presence_now(Some(&key("truck-7")), 10).unwrap();
    assert_eq!(rest.len(), 1);
}

pub fn the_same_again_changes_nothing_and_a_clock_set_back_ends_nothing_before_it_began(on: &Database) {
    let mut store = on.open();
    let lost = [change("truck-7", "offline", 20 * S, "connection lost")];
    note(&mut store, &lost);
    note(&mut store, &lost);
    note(&mut store, &[change("truck-7", "offline", 25 * S, "connection lost")]);
    assert_eq!(told(&store.reader().presence_history(&of("truck-7", 0, 100)).unwrap()), [stretch("offline", 20, None)]);
    note(&mut store, &[change("truck-7", "offline", 30 * S, "stopped")]);
    note(&mut store, &[change("truck-7", "online", 5 * S, "connected")]);
    let all = store.reader().presence_history(&of("truck-7", 0, 100)).unwrap();
    let expected = [stretch("online", 5, None), stretch("offline", 20, 30), stretch("offline", 30, 30)];
    assert_eq!(told(&all), expected);
    assert_eq!(store.reader().presence_now(None, 10).unwrap().len(), 1);
}

pub fn history_is_asked_for_by_thing_and_range_and_in_pages(on: &Database) {
    let mut store = on.open();
    let state = |n: i64| if n % 2 == 0 { "online" } else { "silent" };
    for n in 0..20 {
        note(
            &mut store,
            &[change("truck-7", state(n), n * 10 * S, "x"), change("truck-8", state(n), (n * 10 + 5) * S, "x")],
        );
    }
    let reader = store.reader();
    let found = reader.presence_history(&of("truck-7", 34, 51)).unwrap();
    let expected = [stretch("silent", 30, 40), stretch("online", 40, 50), stretch("silent", 50, 60)];
    assert_eq!(told(&found), expected, "what reaches into the range, and no more");
    let (mut query, mut paged) = (PresenceQuery { limit: 7, ..of("truck-7", 0, 1000) }, Vec::new());
    loop {
        let page = reader.presence_history(&query).unwrap();
        let Some(last) = page.last() else { break };
        query.after = Some((last.began.since_ns, last.row));
        paged.extend(page);
    }
    assert_eq!(paged, reader.presence_history(&of("truck-7", 0, 1000)).unwrap());
    assert_eq!(paged.len(), 20);
    let all = reader.presence_history(&PresenceQuery { of: None, ..of("", 20, 45) }).unwrap();
    assert_eq!(all.iter().map(|row| row.began.since_ns / S).collect::<Vec<_>>(), [20, 25, 30, 35, 40, 45]);
}

pub fn what_ended_long_ago_is_dropped_and_what_lasts_stays(on: &Database) {
    let mut store = on.keeping(10);
    note(
        &mut store,
        &[
            change("truck-7", "online", DAY, "connected"),
            change("truck-7", "offline", 85 * DAY, "stopped"),
            change("truck-7", "online", 95 * DAY, "connected"),
            change("truck-8", "online", DAY, "connected"),
        ],
    );
    while store.tend(100 * DAY).unwrap() {}
    let days = |id| {
        let rows = store.reader().presence_history(&of(id, 0, 200 * DAY / S)).unwrap();
        rows.iter().map(|row| row.began.since_ns / DAY).collect::<Vec<_>>()
    };
    assert_eq!(days("truck-7"), [85, 95], "that which ended on day 85 is gone");
    assert_eq!(days("truck-8"), [1], "it is so to this day");
}

pub fn any_bytes_of_a_sensor_s_name_are_kept_apart(on: &Database) {
    let mut store = on.open();
    let long = "ü".repeat(64);
    let names = ["", "front wheel", "a/b", "fr\0nt", "'; DROP TABLE presence; --", &long];
    let sensor =
        |gateway: &str, id: &str| PresenceKey { kind: PresenceKind::Sensor, gateway: gateway.into(), id: id.into() };
    for gateway in ["truck-7", "truck-8"] {
        for name in names {
            note(&mut store, &[PresenceChange { key: sensor(gateway, name), ..change("", "ok", 5 * S, "fr\0nt") }]);
        }
    }
    let reader = store.reader();
    assert_eq!(reader.presence_now(None, 100).unwrap().len(), 2 * names.len());
    for name in names {
        let query = PresenceQuery { of: Some(sensor("truck-8", name)), ..of("", 0, 9) };
        assert_eq!(reader.presence_history(&query).unwrap().len(), 1, "{name:?}");
    }
}
