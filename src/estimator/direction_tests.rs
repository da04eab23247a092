//! Two lines a quarter of a period apart: which way it turns, and how far to and fro.

use speedwell_wire::{Quality, Quantity};

use super::{Wheel, WheelOptions, simulation::*};
use crate::{
    clock::BootNs,
    sensor::{Counters, Edge, EdgeKind, Sensor, hall::Edges},
};

const LINES: u32 = 100;
const PITCH: f64 = CIRCUMFERENCE / LINES as f64;

fn encoder() -> Wheel {
    Wheel::new(WheelOptions { edges: Edges::Quadrature, direction: true, distance: true, ..options(LINES) })
}

/// The edges of an encoder that moves as `way` says, m: both lines, the second a quarter (and a bit, as they do) behind.
/// Found by small steps of time and a chord, to a fraction of a nanosecond.
fn edges(way: impl Fn(f64) -> f64, length: f64, sigma: f64, rng: &mut fastrand::Rng) -> Vec<Edge> {
    // Places of the edges in a period: first line up, second up, first down, second down.
    let places = [0.0, 0.28, 0.5, 0.77];
    let passed = |t: f64| {
        let phase = way(t) / PITCH - 0.3;
        let within = phase.rem_euclid(1.0);
        (phase.div_euclid(1.0) * 4.0) as i64 + places.iter().filter(|&&place| place <= within).count() as i64 - 1
    };
    let mut edges: Vec<Edge> = Vec::new();
    let (mut t, mut before) = (0.0, passed(0.0));
    while t < length {
        let (from, to) = (t, t + 1e-4);
        t = to;
        let now = passed(to);
        if now == before {
            continue;
        }
        let (low, high) = (from, to);
        let mut at = low;
        while before != now {
            let up = now > before;
            let (mut a, mut b) = (at, high);
            for _ in 0..50 {
                let middle = 0.5 * (a + b);
                let reached = if up { passed(middle) > before } else { passed(middle) < before };
                if reached { b = middle } else { a = middle }
            }
            at = b;
            let code = if up { before + 1 } else { before }.rem_euclid(4);
            let (line, rises) = [(0, true), (1, true), (0, false), (1, false)][code as usize];
            let kind = if rises == up { EdgeKind::Rising } else { EdgeKind::Falling };
            let stamp = BootNs(((START + b + sigma * normal(rng)) * SECOND) as u64);
            edges.push(Edge { t: stamp, line, kind, seqno: 0, line_seqno: 0 });
            before += if up { 1 } else { -1 };
        }
    }
    number(&mut edges);
    edges
}

/// Numbers as the kernel gives them: by request, and by line.
fn number(edges: &mut [Edge]) {
    let mut lines = [0, 0];
    for (k, edge) in edges.iter_mut().enumerate() {
        lines[edge.line] += 1;
        (edge.seqno, edge.line_seqno) = (k as u32 + 1, lines[edge.line]);
    }
}

/// Forward at 5 m/s, slowing evenly from 4 s on, round at 6.5 s, and back.
fn round_trip(t: f64) -> f64 {
    let braking = (t - 4.0).clamp(0.0, 5.0);
    5.0 * t - braking * braking - 10.0 * (t - 9.0).max(0.0)
}

#[test]
fn it_goes_there_and_back_and_ends_where_it_began() {
    let mut rng = fastrand::Rng::with_seed(1);
    let edges = edges(round_trip, 13.0, 5e-6, &mut rng);
    let mut wheel = encoder();
    let quantities: Vec<Quantity> = Sensor::channels(&wheel).iter().map(|channel| channel.quantity).collect();
    assert_eq!(quantities, [Quantity::Speed, Quantity::Distance, Quantity::Direction]);
    let mut turned = false;
    run(&mut wheel, &edges, START + 0.5, START + 12.9, 0.1, |_, now, _, out| {
        let t = now - START;
        for reading in out {
            let value = reading.value.unwrap();
            let at = seconds(reading.t);
            let true_speed = 5.0 - 2.0 * (at - 4.0).clamp(0.0, 5.0);
            match reading.channel {
                0 if value.quality == Quality::Good => {
                    let error = value.value - true_speed.abs();
                    assert!(
                        error.abs() < 0.002 + 0.1 * f64::from(u8::from((6.3..6.7).contains(&at))),
                        "{at} {value:?}"
                    );
                }
                0 => assert!((6.3..6.8).contains(&at), "{at} {value:?}"),
                1 => {
                    // From the first pulse on.
                    let off = (value.value - round_trip(at) + 0.3 * PITCH) / PITCH;
                    assert!(off.abs() < if (6.3..6.7).contains(&at) { 1.0 } else { 0.1 }, "{at}: {off}");
                }
                _ if (6.4..6.8).contains(&t) => turned |= value.value == -1.0,
                _ => assert_eq!(value.value, if t < 6.5 { 1.0 } else { -1.0 }, "{t}"),
            }
        }
    });
    assert!(turned);
    let counters = wheel.counters();
    assert_eq!(Counters { inputs: 0, ..counters }, Counters::default());
}

#[test]
fn trembling_at_an_edge_is_a_standstill() {
    let mut rng = fastrand::Rng::with_seed(2);
    for place in 0..8 {
        // To and fro over one edge, thirty times a second, after a way.
        let stop = (20.31 + 0.25 * f64::from(place)) * PITCH;
        let moves = move |t: f64| {
            if t < 1.0 { stop * (2.0 * t - t * t) } else { stop + 0.05 * PITCH * (190.0 * (t - 1.0)).sin() }
        };
        let edges = edges(moves, 6.0, 0.0, &mut rng);
        let mut wheel = encoder();
        let mut last = None;
        run(&mut wheel, &edges, START + 0.1, START + 6.0, 0.1, |_, now, _, out| {
            for reading in out.iter().filter(|_| now > START + 2.0) {
                let value = reading.value.unwrap();
                match reading.channel {
                    0 => assert_eq!((value.value, value.quality), (0.0, Quality::Stopped), "{place} {now}"),
                    1 => {
                        assert!((value.value - stop).abs() < PITCH, "{place}: {value:?}");
                        assert_eq!(*last.get_or_insert(value.value), value.value);
                    }
                    _ => assert_eq!(value.value, 0.0),
                }
            }
        });
    }
}

#[test]
fn edges_lost_on_either_line_cost_no_pulse() {
    for told in [true, false] {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut edges = edges(|t| 5.0 * t, 40.0, 2e-6, &mut rng);
        if !told {
            edges.iter_mut().for_each(|edge| (edge.seqno, edge.line_seqno) = (0, 0));
        }
        // Any of the four, one in 101.
        edges.truncate(edges.len() / 404 * 404);
        let lost = edges.iter().enumerate().filter(|(k, _)| *k > 100 && k % 101 == 0).count() as u64;
        let kept: Vec<Edge> =
            edges.iter().enumerate().filter(|(k, _)| *k <= 100 || k % 101 != 0).map(|e| *e.1).collect();
        let mut wheel = encoder();
        let mut worst = 0f64;
        run(&mut wheel, &kept, START + 0.5, START + 39.9, 0.1, |_, _, _, out| {
            for reading in out {
                let value = reading.value.unwrap();
                let error = match reading.channel {
                    0 => value.value - 5.0,
                    1 => (value.value - 5.0 * seconds(reading.t) + 0.3 * PITCH) / PITCH * 0.02,
                    _ => value.value - 1.0,
                };
                worst = worst.max(error.abs());
            }
        });
        let counters = wheel.counters();
        assert!(worst < 0.005, "{worst}");
        assert_eq!(counters.lost, if told { lost } else { 0 });
        assert!(counters.repaired >= lost / 4 - 1 && counters.repaired <= lost / 4 + 1, "{counters:?}");
    }
}

#[test]
fn neighbours_that_changed_places_on_the_way_are_put_right() {
    let mut rng = fastrand::Rng::with_seed(4);
    let mut edges = edges(|t| 5.0 * t, 20.0, 2e-6, &mut rng);
    for k in (10..edges.len() - 1).step_by(7) {
        edges.swap(k, k + 1);
    }
    let mut wheel = encoder();
    edges.iter().for_each(|edge| wheel.on_edge(edge));
    let pulses = edges.iter().filter(|edge| (edge.line, edge.kind) == (0, EdgeKind::Rising)).count() as i64;
    let newest = wheel.newest().unwrap();
    assert_eq!(newest.index, pulses - 1);
    assert_eq!(Counters { inputs: 0, ..wheel.counters() }, Counters::default());
}

#[test]
fn a_turn_round_leaves_the_table_of_the_lines_as_it_was() {
    let mut rng = fastrand::Rng::with_seed(5);
    let there = |t: f64| 5.0 * t;
    let mut wheel = encoder();
    edges(there, 20.0, 2e-6, &mut rng).iter().for_each(|edge| wheel.on_edge(edge));
    let before = wheel.tooth_table().unwrap().to_vec();
    let mut wheel = encoder();
    // As long forward, then to and fro for as long again.
    let to_and_fro = move |t: f64| if t < 20.0 { 5.0 * t } else { 100.0 + 5.0 * (t - 20.0).sin() };
    edges(to_and_fro, 40.0, 2e-6, &mut rng).iter().for_each(|edge| wheel.on_edge(edge));
    let worst = wheel.tooth_table().unwrap().iter().zip(&before).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 3e-3, "{worst}");
}
