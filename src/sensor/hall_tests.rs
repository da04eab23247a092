//! The audit and the gate, edge by edge. What they do to a speed is tested in `estimator`.

use super::*;

const OPTIONS: Options = Options {
    edges: Edges::Rising,
    max_rate: 2000.0,
    max_rate_change: 1000.0,
    stamp_floor: Duration::from_nanos(300),
    request_audit: true,
    gap: (0, 0),
};

fn edge(us: u64, kind: EdgeKind, seqno: u32, line_seqno: u32) -> Edge {
    Edge { t: BootNs(1_000_000_000 + us * 1000), line: 0, kind, seqno, line_seqno }
}

fn up(us: u64, seqno: u32, line_seqno: u32) -> Edge {
    edge(us, EdgeKind::Rising, seqno, line_seqno)
}

#[test]
fn a_merged_interrupt_shows_in_the_requests_number_and_is_only_suspected() {
    let mut hall = Conditioner::new(OPTIONS);
    for k in 0..400u32 {
        // At 100 the kernel counted one interrupt more than it delivered; the pulses themselves are all there.
        let seqno = k + 1 + u32::from(k >= 100);
        assert!(hall.on_edge(&up(u64::from(k) * 2000, seqno, k + 1), &()).is_some());
    }
    let counters = hall.counters();
    assert_eq!((counters.suspected, counters.lost, counters.repaired, counters.rejected), (1, 0, 0, 0));
}

#[test]
fn numbers_that_swap_places_are_no_loss() {
    let mut hall = Conditioner::new(OPTIONS);
    for k in 0..400u32 {
        hall.on_edge(&up(u64::from(k) * 2000, (k ^ 1) + 1, k + 1), &());
    }
    assert_eq!(hall.counters().suspected, 0);
}

#[test]
fn a_request_shared_with_another_sensor_is_not_audited_by_its_number() {
    let mut hall = Conditioner::new(Options { request_audit: false, ..OPTIONS });
    for k in 0..400u32 {
        hall.on_edge(&up(u64::from(k) * 2000, 5 * k + 1, k + 1), &());
    }
    assert_eq!(hall.counters(), Counters { inputs: 400, ..Counters::default() });
}

#[test]
fn edges_without_numbers_are_not_audited() {
    let mut hall = Conditioner::new(OPTIONS);
    for k in 0..400u64 {
        hall.on_edge(&up(k * 2000, 0, 0), &());
    }
    assert_eq!(hall.counters(), Counters { inputs: 400, ..Counters::default() });
}

#[test]
fn numbers_may_wrap_around_and_start_anew() {
    let mut hall = Conditioner::new(OPTIONS);
    for k in 0..400u32 {
        let wrapping = (u32::MAX - 200).wrapping_add(k);
        let seqno = if k < 300 { wrapping } else { k - 299 };
        hall.on_edge(&up(u64::from(k) * 2000, seqno, seqno), &());
    }
    assert_eq!(hall.counters().lost, 0, "{:?}", hall.counters());
    assert!(hall.counters().suspected <= 1);
}

#[test]
fn a_hole_in_the_lines_number_advances_the_index_by_what_is_missing() {
    let mut hall = Conditioner::new(OPTIONS);
    for k in 0..10 {
        hall.on_edge(&up(k * 2000, 0, k as u32 + 1), &());
    }
    let pulse = hall.on_edge(&up(12 * 2000, 0, 13), &()).unwrap();
    assert_eq!((pulse.index, pulse.cut, pulse.doubtful), (12, false, true));
    let pulse = hall.on_edge(&up(13 * 2000, 0, 14), &()).unwrap();
    assert_eq!((pulse.index, pulse.doubtful), (13, false));
}

#[test]
fn with_both_edges_half_of_what_was_lost_were_pulses() {
    for lost in 1..6u64 {
        let mut hall = Conditioner::new(Options { edges: Edges::Both, ..OPTIONS });
        let both = |k: u64| {
            let kind = if k.is_multiple_of(2) { EdgeKind::Rising } else { EdgeKind::Falling };
            edge(k * 1000, kind, 0, k as u32 + 1)
        };
        let mut last = None;
        for k in (0..20).chain(20 + lost..40) {
            last = hall.on_edge(&both(k), &()).or(last);
        }
        let last = last.unwrap();
        assert_eq!((last.index, hall.counters().lost), (19, lost), "{lost}");
    }
}

#[test]
fn one_polarity_listened_to_ignores_the_other() {
    let mut hall = Conditioner::new(OPTIONS);
    assert!(hall.on_edge(&up(0, 0, 0), &()).is_some());
    assert_eq!(hall.on_edge(&edge(700, EdgeKind::Falling, 0, 0), &()), None);
    assert_eq!(hall.on_edge(&up(2000, 0, 0), &()).unwrap().index, 1);
    assert_eq!(hall.counters().rejected, 0);
}

#[test]
fn time_never_runs_backwards() {
    let mut hall = Conditioner::new(OPTIONS);
    hall.on_edge(&up(5000, 0, 0), &());
    assert_eq!(hall.on_edge(&up(4000, 0, 0), &()), None);
    assert_eq!(hall.counters().rejected, 1);
}

#[test]
fn the_gate_does_not_lock_itself_out() {
    let mut hall = Conditioner::new(OPTIONS);
    for k in 0..10 {
        hall.on_edge(&up(k * 20_000, 0, 0), &());
    }
    // Suddenly five times as fast, as no wheel is: refused at first, then believed, with a cut.
    let pulses: Vec<Option<Pulse>> = (1..=40).map(|k| hall.on_edge(&up(180_000 + k * 4000, 0, 0), &())).collect();
    assert_eq!((pulses[0], pulses[1]), (None, None));
    assert!(pulses[..10].iter().flatten().any(|pulse| pulse.cut) && pulses[10..].iter().all(Option::is_some));
}

#[test]
fn the_jitter_is_learned() {
    for sigma_us in [2.0, 20.0] {
        let mut hall = Conditioner::new(OPTIONS);
        let mut rng = fastrand::Rng::with_seed(3);
        for k in 0..2000u64 {
            // Twelve evenly distributed numbers add up to a variance of one.
            let normal = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
            let t = BootNs(1_000_000_000 + k * 2_000_000 + (100_000.0 + normal * sigma_us * 1000.0) as u64);
            hall.on_edge(&Edge { t, ..up(0, 0, 0) }, &());
        }
        let ratio = hall.jitter() * 1e6 / sigma_us;
        assert!((0.7..1.4).contains(&ratio), "{sigma_us}: {ratio}");
    }
}

#[test]
fn an_edge_delivered_twice_is_refused_before_anything_is_known_of_the_wheel() {
    let mut hall = Conditioner::new(OPTIONS);
    assert!(hall.on_edge(&up(0, 0, 0), &()).is_some());
    assert_eq!(hall.on_edge(&up(7, 0, 0), &()), None);
    assert_eq!(hall.on_edge(&up(2000, 0, 0), &()).unwrap().index, 1);
}

#[test]
fn two_edges_of_one_polarity_in_a_row_mean_that_one_between_was_missed() {
    let mut hall = Conditioner::new(Options { edges: Edges::Both, ..OPTIONS });
    hall.on_edge(&up(0, 0, 0), &());
    hall.on_edge(&edge(1000, EdgeKind::Falling, 0, 0), &());
    hall.on_edge(&up(2000, 0, 0), &());
    let pulse = hall.on_edge(&up(4000, 0, 0), &()).unwrap();
    assert_eq!((pulse.index, pulse.doubtful, hall.counters().suspected), (2, true, 1));
}

#[test]
fn a_single_line_may_have_any_number_in_its_capture() {
    let mut hall = Conditioner::new(OPTIONS);
    hall.on_edge(&Edge { line: 5, ..up(5000, 0, 0) }, &());
    assert_eq!(hall.last_motion(), Some(up(5000, 0, 0).t));
    assert_eq!(hall.on_edge(&Edge { line: 0, ..up(4000, 0, 0) }, &()), None, "earlier than what came");
    assert_eq!(hall.counters().rejected, 1);
}
