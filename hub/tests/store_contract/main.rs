//! What a store has to do, whichever it is; and that it does it through a SIGKILL. Each test runs on SQLite and on a
//! real PostgreSQL.

#![allow(unreachable_pub)] // modules of a program of its own

mod asked;
mod database;
mod fleet;
mod presence;
#[path = "../rig/mod.rs"]
mod rig;
mod rollups;

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use database::{Database, try_open};
use rig::*;
use speedwell_hub::{
    ingest::decode::{Decoder, Message},
    store::{
        Committed, Done, HistoryQuery, KEEP_KEYS_NS, MAX_CHUNKS, Reading, Readings, ReadingsDone, Standing, Store, Work,
    },
};
use speedwell_wire::{
    Batch, ClockFix, ClockSource, Loss, LossReason, Manifest, Quality, Quantity, Record, Samples, frame,
};

/// Makes a test of each, for each kind of database.
macro_rules! contract {
    ($($test:path as $name:ident),* $(,)?) => {
        mod sqlite {
            $(#[test] fn $name() { $test(&crate::Database::sqlite()) })*
        }
        mod postgres {
            $(#[test] fn $name() { $test(&crate::Database::postgres()) })*
        }
    };
}

contract! {
    crate::asked::pages_of_many_channels_give_each_sample_once_even_where_an_instant_has_more_than_a_page as pages_of_many_channels_give_each_sample_once_even_where_an_instant_has_more_than_a_page,
    crate::asked::a_bucket_of_any_length_is_what_its_samples_give as a_bucket_of_any_length_is_what_its_samples_give,
    crate::asked::the_worst_quality_is_kept_in_sums_and_one_of_an_older_hub_is_not_known as the_worst_quality_is_kept_in_sums_and_one_of_an_older_hub_is_not_known,
    crate::asked::a_drawing_is_made_of_what_it_costs_least_to_read_and_hides_no_spike_and_no_hole as a_drawing_is_made_of_what_it_costs_least_to_read_and_hides_no_spike_and_no_hole,
    crate::asked::channels_come_a_page_at_a_time_the_newer_of_samples_and_readings_of_each as channels_come_a_page_at_a_time_the_newer_of_samples_and_readings_of_each,
    crate::asked::what_is_missing_is_told_in_order_with_where_it_lies_and_why as what_is_missing_is_told_in_order_with_where_it_lies_and_why,
    crate::asked::a_silence_of_a_channel_is_told_where_it_was_heard_before as a_silence_of_a_channel_is_told_where_it_was_heard_before,
    crate::asked::what_happened_is_told_in_order_of_time_and_an_undated_boot_between_its_neighbours as what_happened_is_told_in_order_of_time_and_an_undated_boot_between_its_neighbours,
    crate::asked::places_come_the_newest_first_of_one_device_or_of_all_page_after_page as places_come_the_newest_first_of_one_device_or_of_all_page_after_page,
    crate::asked::a_drawing_says_who_vouches_for_its_times as a_drawing_says_who_vouches_for_its_times,
    crate::rollups::a_day_by_the_minute_is_answered_from_what_is_kept_and_late_data_is_in_the_next_answer as a_day_by_the_minute_is_answered_from_what_is_kept_and_late_data_is_in_the_next_answer,
    crate::rollups::what_is_older_than_it_is_to_be_kept_is_dropped_from_history_counts_and_rollups as what_is_older_than_it_is_to_be_kept_is_dropped_from_history_counts_and_rollups,
    crate::a_reopened_store_knows_its_ledger_and_a_replay_changes_nothing as a_reopened_store_knows_its_ledger_and_a_replay_changes_nothing,
    crate::two_gateways_and_two_logs_have_ledgers_of_their_own as two_gateways_and_two_logs_have_ledgers_of_their_own,
    crate::history_gives_the_samples_of_a_range_with_their_utc_even_if_the_clock_was_learned_later as history_gives_the_samples_of_a_range_with_their_utc_even_if_the_clock_was_learned_later,
    crate::history_over_two_logs_and_two_boots_is_in_order_and_can_be_asked_for_in_pieces as history_over_two_logs_and_two_boots_is_in_order_and_can_be_asked_for_in_pieces,
    crate::a_channel_that_is_not_there_costs_a_bounded_look_and_the_answer_says_how_far_it_got as a_channel_that_is_not_there_costs_a_bounded_look_and_the_answer_says_how_far_it_got,
    crate::a_clock_nobody_vouched_for_at_the_start_of_a_boot_does_not_misplace_what_a_later_fix_places as a_clock_nobody_vouched_for_at_the_start_of_a_boot_does_not_misplace_what_a_later_fix_places,
    crate::a_boot_that_was_never_synchronised_is_told_as_lying_between_its_neighbours_and_never_among_them as a_boot_that_was_never_synchronised_is_told_as_lying_between_its_neighbours_and_never_among_them,
    crate::what_is_stored_of_a_gateway_is_told_in_numbers_even_if_it_declares_absurd_ones as what_is_stored_of_a_gateway_is_told_in_numbers_even_if_it_declares_absurd_ones,
    crate::latest_is_the_newest_of_each_channel_and_survives as latest_is_the_newest_of_each_channel_and_survives,
    crate::samples_that_cannot_be_read_are_set_aside_and_the_log_goes_on as samples_that_cannot_be_read_are_set_aside_and_the_log_goes_on,
    crate::a_database_of_a_newer_program_is_refused_and_left_alone as a_database_of_a_newer_program_is_refused_and_left_alone,
    crate::readings_that_came_one_by_one_are_among_the_samples_of_gateways_and_the_same_again_is_a_duplicate as readings_that_came_one_by_one_are_among_the_samples_of_gateways_and_the_same_again_is_a_duplicate,
    crate::a_request_that_comes_again_with_its_key_gets_the_first_answer_and_a_key_for_another_request_is_refused as a_request_that_comes_again_with_its_key_gets_the_first_answer_and_a_key_for_another_request_is_refused,
    crate::fleet::a_customer_has_vehicles_and_they_carry_gateways_and_all_of_it_survives as a_customer_has_vehicles_and_they_carry_gateways_and_all_of_it_survives,
    crate::fleet::what_is_another_s_already_is_refused_and_says_whose_it_is as what_is_another_s_already_is_refused_and_says_whose_it_is,
    crate::fleet::a_customer_with_vehicles_goes_only_when_somebody_gets_them as a_customer_with_vehicles_goes_only_when_somebody_gets_them,
    crate::fleet::who_changes_what_somebody_else_has_changed_meanwhile_is_told_so as who_changes_what_somebody_else_has_changed_meanwhile_is_told_so,
    crate::fleet::a_field_that_cannot_be_used_is_named_and_nothing_is_written as a_field_that_cannot_be_used_is_named_and_nothing_is_written,
    crate::rollups::values_that_cannot_be_added_any_more_hold_nobody_s_sums_up as values_that_cannot_be_added_any_more_hold_nobody_s_sums_up,
    crate::rollups::a_record_that_was_damaged_holds_nobody_else_s_sums_up as a_record_that_was_damaged_holds_nobody_else_s_sums_up,
    crate::rollups::names_that_a_database_cannot_tell_apart_hold_nobody_s_sums_up as names_that_a_database_cannot_tell_apart_hold_nobody_s_sums_up,
    crate::fleet::an_id_that_is_none_is_not_found_and_holds_up_nothing_that_comes_after_it as an_id_that_is_none_is_not_found_and_holds_up_nothing_that_comes_after_it,
    crate::fleet::a_refusal_leaves_what_came_with_it_in_one_commit as a_refusal_leaves_what_came_with_it_in_one_commit,
    crate::presence::a_stretch_ends_where_the_next_begins_and_all_of_it_survives as a_stretch_ends_where_the_next_begins_and_all_of_it_survives,
    crate::presence::the_same_again_changes_nothing_and_a_clock_set_back_ends_nothing_before_it_began as the_same_again_changes_nothing_and_a_clock_set_back_ends_nothing_before_it_began,
    crate::presence::history_is_asked_for_by_thing_and_range_and_in_pages as history_is_asked_for_by_thing_and_range_and_in_pages,
    crate::presence::what_ended_long_ago_is_dropped_and_what_lasts_stays as what_ended_long_ago_is_dropped_and_what_lasts_stays,
    crate::presence::any_bytes_of_a_sensor_s_name_are_kept_apart as any_bytes_of_a_sensor_s_name_are_kept_apart,
    crate::a_kill_while_committing_loses_nothing_that_was_confirmed as a_kill_while_committing_loses_nothing_that_was_confirmed,
}

/// Batches as work, through the same decoder as in service.
fn work(batch: &Batch) -> Work {
    work_with(batch, &manifest())
}

fn work_with(batch: &Batch, manifest: &Manifest) -> Work {
    let mut decoder = Decoder::new(PREFIX, vec![manifest.clone()]);
    let topic = format!("{PREFIX}/{}/log", batch.gateway);
    match decoder.read(&topic, &frame::encode(batch), 0) {
        Message::Store { work, .. } => work,
        other => panic!("{other:?}"),
    }
}

fn commit(store: &mut Box<dyn Store>, batch: &Batch) -> Committed {
    let done = store.commit(&[Work::Manifest(Arc::new(manifest())), work(batch)]).unwrap();
    match done.into_iter().nth(1) {
        Some(Done::Batch(committed)) => committed,
        other => panic!("{other:?}"),
    }
}

fn query(from_s: i64, to_s: i64) -> HistoryQuery {
    let at = |s: i64| BOOT_UTC_NS + s * 1_000_000_000;
    HistoryQuery {
        gateway: id("truck-7"),
        sensor: "front-wheel".into(),
        quantity: Quantity::Speed,
        from_ns: at(from_s),
        to_ns: at(to_s) - 1,
        limit: 1000,
    }
}

fn a_reopened_store_knows_its_ledger_and_a_replay_changes_nothing(on: &Database) {
    let first = commit(&mut on.open(), &seconds("truck-7", 1..=4));
    assert_eq!((first.thru, first.stored), (4, 4));
    let mut store = on.open();
    let before = store.reader().counts().unwrap();
    let again = commit(&mut store, &seconds("truck-7", 1..=4));
    assert_eq!((again.thru, again.stored, again.duplicates), (4, 0, 4));
    assert_eq!(again.newest, Vec::new());
    assert_eq!(store.reader().counts().unwrap(), before);
}

fn two_gateways_and_two_logs_have_ledgers_of_their_own(on: &Database) {
    let mut store = on.open();
    commit(&mut store, &seconds("truck-7", 1..=4));
    assert_eq!(commit(&mut store, &seconds("truck-8", 1..=2)).thru, 2);
    let card = Batch { log: speedwell_wire::LogId(7), ..seconds("truck-7", 1..=3) };
    assert_eq!(commit(&mut store, &card).thru, 3);
    assert_eq!(store.reader().ledgers().unwrap().len(), 3);
}

fn history_gives_the_samples_of_a_range_with_their_utc_even_if_the_clock_was_learned_later(on: &Database) {
    let mut store = on.open();
    commit(&mut store, &seconds("truck-7", 1..=20));
    let reader = store.reader();
    assert_eq!(reader.history(&query(5, 8)).unwrap().points, Vec::new(), "no clock yet: no place in UTC");
    commit(&mut store, &batch("truck-7", 21, [fix()]));
    let found = reader.history(&query(5, 8)).unwrap();
    assert_eq!(found.points.len(), 30);
    assert_eq!(found.points[0].utc_ns, BOOT_UTC_NS + 5_000_000_000);
    assert_eq!(found.points[29].value, 7.009);
    assert!((found.points[0].uncertainty.unwrap() - 0.02).abs() < 0.002);
    let short = reader.history(&HistoryQuery { limit: 4, ..query(5, 8) }).unwrap();
    assert!(short.truncated && short.points == found.points[..4]);
}

fn history_over_two_logs_and_two_boots_is_in_order_and_can_be_asked_for_in_pieces(on: &Database) {
    let mut store = on.open();
    // The first log was written later in UTC, and its second boot before its first: a new card, a clock set by hand.
    let at = |boot, utc_s: i64| {
        let Record::Clock(fix) = fix() else { unreachable!() };
        Record::Clock(ClockFix { boot, utc_ns: BOOT_UTC_NS + utc_s * 1_000_000_000, ..fix })
    };
    let boot = |boot, seq| match second(seq) {
        Record::Samples(samples) => Record::Samples(Samples { boot, ..samples }),
        other => other,
    };
    let mut first = vec![at(1, 100), at(2, 50)];
    first.extend([boot(1, 3), boot(1, 4), boot(2, 5), boot(2, 6)]);
    commit(&mut store, &batch("truck-7", 1, first));
    let card = [at(1, 0), boot(1, 3), boot(1, 4), boot(1, 5)];
    commit(&mut store, &Batch { log: speedwell_wire::LogId(7), ..batch("truck-7", 1, card) });

    let reader = store.reader();
    let all = reader.history(&query(0, 200)).unwrap();
    let seconds: Vec<i64> = all
        .points
        .iter()
        .map(|p| (p.utc_ns - BOOT_UTC_NS) / 1_000_000_000)
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    assert_eq!(seconds, [3, 4, 5, 55, 56, 103, 104]);
    assert!(all.points.is_sorted_by_key(|p| p.utc_ns) && !all.truncated);
    let (mut pieces, mut from_ns) = (Vec::new(), BOOT_UTC_NS);
    loop {
        let piece = reader.history(&HistoryQuery { from_ns, limit: 7, ..query(0, 200) }).unwrap();
        pieces.extend(piece.points);
        let Some(next) = piece.next_ns else { break };
        assert!(next > from_ns);
        from_ns = next;
    }
    assert_eq!(pieces, all.points);
}

fn a_channel_that_is_not_there_costs_a_bounded_look_and_the_answer_says_how_far_it_got(on: &Database) {
    let mut store = on.open();
    commit(&mut store, &batch("truck-7", 1, [fix(), second(2)]));
    let rows = "SELECT log, boot, t_min + value * 1000000000, seq + value, t_max + value * 1000000000, span, manifest,
        samples, block FROM chunks";
    let part = format!("UPDATE parts SET t_max = t_max + {MAX_CHUNKS}000000000, last_seq = last_seq + {MAX_CHUNKS}");
    on.sql(
        &format!(
            "WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {MAX_CHUNKS})
             INSERT INTO chunks {rows}, n; {part}"
        ),
        &format!(
            "INSERT INTO chunks {}, generate_series(1::bigint, {MAX_CHUNKS}) AS n (value); {part}",
            rows.replace("SELECT log", "SELECT day, log")
        ),
    );
    let none = HistoryQuery { sensor: "seldom".into(), ..query(0, 1_000_000) };
    let found = store.reader().history(&none).unwrap();
    assert!(found.truncated && found.points.is_empty());
    assert_eq!(found.next_ns, Some(BOOT_UTC_NS + (2 + MAX_CHUNKS as i64) * 1_000_000_000));
    let rest = store.reader().history(&HistoryQuery { from_ns: found.next_ns.unwrap(), ..none }).unwrap();
    assert!(!rest.truncated);
}

fn a_clock_nobody_vouched_for_at_the_start_of_a_boot_does_not_misplace_what_a_later_fix_places(on: &Database) {
    let mut store = on.open();
    let Record::Clock(good) = fix() else { unreachable!() };
    let early = ClockFix { utc_ns: 5, source: ClockSource::Untrusted, ..good };
    let good = ClockFix { boot_ns: 10_000_000_000, utc_ns: BOOT_UTC_NS + 10_000_000_000, ..good };
    commit(&mut store, &batch("truck-7", 1, [Record::Clock(early), second(2), Record::Clock(good), second(4)]));
    let found = store.reader().history(&query(2, 3)).unwrap();
    assert_eq!((found.points.len(), found.clock), (10, Some(ClockSource::Ntp)));
    assert_eq!(store.reader().latest().unwrap()[0].utc_ns, Some(BOOT_UTC_NS + 4_900_000_000));
}

fn a_boot_that_was_never_synchronised_is_told_as_lying_between_its_neighbours_and_never_among_them(on: &Database) {
    let mut store = on.open();
    let Record::Clock(good) = fix() else { unreachable!() };
    let of_boot = |boot, seq| match second(seq) {
        Record::Samples(samples) => Record::Samples(Samples { boot, ..samples }),
        other => other,
    };
    let s = |s: i64| BOOT_UTC_NS + s * 1_000_000_000;
    // Boot 1 is dated. Boot 2 begins in 1970 and never learns better, boot 3 where a fake clock left it, boot 4 is dated.
    let stale = ClockFix { boot: 3, utc_ns: s(1), source: ClockSource::Untrusted, ..good };
    let records = [
        Record::Clock(good),
        of_boot(1, 2),
        Record::Clock(ClockFix { boot: 2, utc_ns: 0, source: ClockSource::Untrusted, ..good }),
        of_boot(2, 4),
        Record::Clock(stale),
        of_boot(3, 6),
        Record::Clock(ClockFix { boot: 4, utc_ns: s(1000), ..good }),
        of_boot(4, 8),
    ];
    commit(&mut store, &batch("truck-7", 1, records));
    let reader = store.reader();
    let found = reader.history(&query(500, 600)).unwrap();
    assert!(found.points.is_empty(), "{:?}", found.points);
    let between = |undated: &speedwell_hub::store::Undated| (undated.boot, undated.after_ns, undated.before_ns);
    let (after, before) = (Some(BOOT_UTC_NS + 2_900_000_000), Some(s(1000)));
    assert_eq!(found.undated.iter().map(between).collect::<Vec<_>>(), [(2, after, before), (3, after, before)]);
    assert_eq!(found.undated[0].told_ns, Some((4_000_000_000, 4_900_000_000)), "where they are to be found: in 1970");
    // A range that cannot touch them does not tell of them; and what a fake clock places in a range is marked.
    assert!(reader.history(&query(1001, 1100)).unwrap().undated.is_empty());
    let misplaced = reader.history(&query(7, 8)).unwrap();
    assert_eq!((misplaced.points.len(), misplaced.clock), (10, Some(ClockSource::Untrusted)));
}

fn what_is_stored_of_a_gateway_is_told_in_numbers_even_if_it_declares_absurd_ones(on: &Database) {
    let mut store = on.open();
    let loss = |samples| {
        Record::Loss(Loss { reason: LossReason::SpoolFullOldest, records: 1, samples, from: None, until: None })
    };
    let mut told = Standing::default();
    let all = [loss(500), loss(u64::MAX), loss(u64::MAX)];
    told.add(&commit(&mut store, &Batch { oldest_seq: 11, ..batch("truck-7", 11, all) }));
    let kept = store.reader().standings().unwrap();
    let (gateway, kept) = &kept[0];
    assert_eq!((gateway, kept.thru, kept.gaps, kept.missing_records), (&id("truck-7"), 13, 1, 10));
    assert!(kept.lost_samples >= i64::MAX as u64 && told.lost_samples == u64::MAX);
    assert_eq!(Standing { lost_samples: 0, ..*kept }, Standing { lost_samples: 0, ..told });
}

fn latest_is_the_newest_of_each_channel_and_survives(on: &Database) {
    commit(&mut on.open(), &batch("truck-7", 1, [fix(), second(2), second(3)]));
    let latest = on.open().reader().latest().unwrap();
    assert_eq!(latest.len(), 1);
    assert_eq!((latest[0].newest.value, latest[0].utc_ns), (3.009, Some(BOOT_UTC_NS + 3_900_000_000)));
}

fn samples_that_cannot_be_read_are_set_aside_and_the_log_goes_on(on: &Database) {
    let mut store = on.open();
    let mut bad = seconds("truck-7", 1..=2);
    let speedwell_wire::Record::Samples(samples) = &mut bad.entries[0].record else { unreachable!() };
    samples.block = vec![0xff; 30];
    assert_eq!(commit(&mut store, &bad).thru, 2);
    let counts = store.reader().counts().unwrap();
    assert_eq!((counts.chunks, counts.rejected), (1, 1));
}

fn a_database_of_a_newer_program_is_refused_and_left_alone(on: &Database) {
    drop(on.open());
    on.sql("PRAGMA user_version = 99", "UPDATE speedwell_form SET form = 99");
    let told = on.try_open().err().unwrap().to_string();
    assert!(told.contains("form 99"), "{told}");
}

/// A reading of the channel that `query` asks for, at a second and a half of the same time.
fn reading(device: &str, second: i64, value: f64) -> Reading {
    Reading {
        device: id(device),
        sensor: "front-wheel".into(),
        quantity: Quantity::Speed,
        utc_ns: BOOT_UTC_NS + second * 1_000_000_000 + 500_000_001,
        value,
        uncertainty: None,
        quality: Quality::Good,
    }
}

fn give(store: &mut Box<dyn Store>, key: Option<&str>, received_ns: i64, items: Vec<Reading>) -> ReadingsDone {
    let digest = [items.iter().map(|item| item.value as u8).sum(); 32];
    let given = Readings { source: "a key".into(), key: key.map(Into::into), digest, received_ns, items };
    match store.commit(&[Work::Readings(given)]).unwrap().pop() {
        Some(Done::Readings(done)) => done,
        other => panic!("{other:?}"),
    }
}

fn readings_that_came_one_by_one_are_among_the_samples_of_gateways_and_the_same_again_is_a_duplicate(on: &Database) {
    let mut store = on.open();
    commit(&mut store, &batch("truck-7", 1, [fix(), second(2), second(3)]));
    let done = give(&mut store, None, 0, vec![reading("truck-7", 2, 1.5), reading("truck-7", 9, 2.5)]);
    assert_eq!((done.stored, done.duplicates, done.newest.len()), (2, 0, 1));
    let again = give(&mut store, None, 0, vec![reading("truck-7", 9, 7.0), reading("truck-7", 1, f64::NAN)]);
    assert_eq!((again.stored, again.duplicates, again.newest.len()), (0, 1, 0));
    give(&mut store, None, 0, vec![reading("stranger", 4, 3.5)]);

    let reader = store.reader();
    let found = reader.history(&query(0, 20)).unwrap();
    assert_eq!((found.points.len(), found.clock), (22, Some(ClockSource::Ntp)));
    assert!(found.points.is_sorted_by_key(|point| point.utc_ns));
    assert_eq!((found.points[6].value, found.points[21].value), (1.5, 2.5));
    let short = reader.history(&HistoryQuery { limit: 6, ..query(0, 20) }).unwrap();
    assert_eq!((&short.points[..], short.next_ns), (&found.points[..6], Some(found.points[6].utc_ns)));
    let latest = reader.latest().unwrap();
    let latest: Vec<_> = latest.iter().map(|l| (l.gateway.as_str(), l.newest.value)).collect();
    assert_eq!(latest, [("truck-7", 2.5), ("stranger", 3.5)]);
    assert_eq!(reader.counts().unwrap().readings, 3);
    let standings = reader.standings().unwrap();
    let standings: Vec<_> = standings.iter().map(|(id, s)| (id.as_str(), s.readings, s.thru)).collect();
    assert_eq!(standings, [("stranger", 1, 0), ("truck-7", 2, 3)]);
}

fn a_request_that_comes_again_with_its_key_gets_the_first_answer_and_a_key_for_another_request_is_refused(
    on: &Database,
) {
    let items = || vec![reading("bike", 1, 1.0), reading("bike", 1, 1.0), reading("bike", 2, 2.0)];
    let first = give(&mut on.open(), Some("k"), 5, items());
    assert_eq!((first.stored, first.duplicates, first.repeated), (2, 1, false));
    let mut store = on.open();
    let again = give(&mut store, Some("k"), 6, items());
    assert_eq!((again.stored, again.duplicates, again.repeated, again.newest.len()), (2, 1, true, 0));
    let other = give(&mut store, Some("k"), 7, vec![reading("bike", 3, 3.0)]);
    assert_eq!(other, ReadingsDone { conflict: true, ..ReadingsDone::default() });
    assert_eq!(store.reader().counts().unwrap().readings, 2);
    // A day later the key is free again.
    let later = give(&mut store, Some("k"), 6 + KEEP_KEYS_NS, vec![reading("bike", 3, 3.0)]);
    assert_eq!((later.stored, later.conflict), (1, false));
}

/// Not a test: the process that the next one kills.
#[test]
#[ignore = "run by a_kill_while_committing_loses_nothing_that_was_confirmed"]
fn child_that_commits_until_it_is_killed() {
    let Ok(place) = std::env::var("SPEEDWELL_TEST_DATABASE") else { return };
    let mut store = try_open(&place, None).unwrap();
    let mut next = store.reader().ledgers().unwrap().first().map_or(0, |row| row.thru) + 1;
    loop {
        let committed = commit(&mut store, &seconds("truck-7", next..=next + 2));
        println!("confirmed {}", committed.thru);
        next = committed.thru + 1;
    }
}

fn a_kill_while_committing_loses_nothing_that_was_confirmed(on: &Database) {
    drop(on.open());
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_commits_until_it_is_killed", "--ignored", "--nocapture"])
            .env("SPEEDWELL_TEST_DATABASE", on.place())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(500 + round * 37));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        let told = lines.map_while(Result::ok).filter_map(|l| l.strip_prefix("confirmed ")?.parse::<u64>().ok()).last();
        killer.join().unwrap();
        let told = told.expect("the child confirms within 500 ms");
        let reader = on.open().reader();
        // A server may still be committing what the killed one had handed in.
        let (thru, counts) = loop {
            let (thru, counts) = (reader.ledgers().unwrap()[0].thru, reader.counts().unwrap());
            if reader.ledgers().unwrap()[0].thru == thru {
                break (thru, counts);
            }
        };
        assert!(thru >= told, "confirmed {told}, stored {thru}");
        assert_eq!((counts.chunks, counts.samples), (thru, thru * PER_RECORD));
    }
}
