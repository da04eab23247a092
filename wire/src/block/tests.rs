use alloc::{vec, vec::Vec};

use proptest::prelude::*;

use super::{code::unzigzag, *};

struct Hint(u64);

impl Periods for Hint {
    fn period(&self, _: u16) -> u64 {
        self.0
    }
}

fn sample(tick: u64, value: i64) -> Sample {
    Sample { tick, value, uncertainty: Uncertainty(30), quality: Quality::Good }
}

fn column(channel: u16, samples: impl IntoIterator<Item = (u64, i64)>) -> Column {
    Column { channel, samples: samples.into_iter().map(|(t, v)| sample(t, v)).collect() }
}

#[track_caller]
fn comes_back(columns: &[Column], hint: u64) -> usize {
    let bytes = encode(columns, &Hint(hint));
    assert_eq!(decode(&bytes).expect("own bytes"), columns);
    bytes.len()
}

#[test]
fn a_block_without_columns_is_a_block() {
    assert_eq!(comes_back(&[], 0), 2);
}

#[test]
fn a_column_without_samples_is_left_out() {
    assert_eq!(decode(&encode(&[column(3, [])], &())).expect("own bytes"), []);
}

#[test]
fn one_sample_of_the_largest_numbers_comes_back() {
    for value in [i64::MIN, -1, 0, 1, i64::MAX] {
        for tick in [0, 1, u64::MAX / 2, u64::MAX] {
            comes_back(&[column(u16::MAX, [(tick, value)]), column(0, [(tick, value)])], 1024);
        }
    }
}

#[test]
fn leaps_between_the_ends_of_the_range_come_back() {
    let wild = [(u64::MAX, i64::MIN), (0, i64::MAX), (1, 0), (u64::MAX, i64::MAX), (5, i64::MIN), (6, -1), (7, 1)];
    for hint in [0, 1, 1024, 1 << 40, u64::MAX] {
        comes_back(&[column(7, wild), column(7, wild.into_iter().rev()), column(8, wild)], hint);
    }
}

#[test]
fn a_schedule_with_holes_comes_back_and_a_hole_costs_little() {
    let whole: Vec<_> = (0..100).map(|i| (i * 1000 + i * 7919 % 5, 0)).collect();
    let holed: Vec<_> = whole.iter().copied().filter(|(t, _)| !(20_000..50_000).contains(t)).collect();
    let (whole, holed) = (comes_back(&[column(0, whole)], 1000 * 1024), comes_back(&[column(0, holed)], 1000 * 1024));
    assert!(holed < whole, "{holed} against {whole}");
}

#[test]
fn channels_measured_at_one_instant_share_their_times() {
    let times = (0..50u64).map(|i| i * 1000 + i * i * 7919 % 997);
    let one = column(0, times.clone().map(|t| (t, 0)));
    let four: Vec<_> = (0..4).map(|c| Column { channel: c, ..one.clone() }).collect();
    let (one, four) = (comes_back(&[one], 0), comes_back(&four, 0));
    assert!(four <= one + 3 * (50 / 8 + 4), "{four} against {one}");
}

/// One of two channels of a sensor, measured at the same times.
fn turn(c: u16) -> Column {
    let uncertainty = Uncertainty(30 + 9 * (c as u8 % 2));
    let samples = (0..10u64).map(|i| Sample { uncertainty, ..sample(i * 1000 + u64::from(c / 2) * 50, i as i64 * 7) });
    Column { channel: c, samples: samples.collect() }
}

#[test]
fn channels_that_take_turns_are_told_as_the_last_but_one() {
    let of = |count: u16| comes_back(&(0..count).map(turn).collect::<Vec<_>>(), 1000 * 1024);
    // Two heads of two bits each; with 17 more bits in each it would be 4 bytes more.
    let pair = of(12) - of(10);
    assert!(pair <= 8, "{pair}");
}

#[test]
fn a_parked_fleet_costs_a_bit_a_sample() {
    let parked = |c: u16| column(c, (0..600).map(|i| (i * 1000 + u64::from(c) % 2, 0)));
    for columns in [vec![parked(0); 20], (0..20).map(parked).collect::<Vec<_>>()] {
        let bytes = comes_back(&columns, 1000 * 1024);
        assert!(bytes <= 20 * 600 / 8 + 60, "{bytes}");
    }
}

#[test]
fn a_block_has_a_bit_for_each_sample_and_nothing_behind_it() {
    let parked = column(0, (0..600).map(|i| (i * 1000, 0)));
    let columns: Vec<_> = (0..20).map(|c| Column { channel: c, ..parked.clone() }).collect();
    let mut bytes = encode(&columns, &());
    assert_eq!(bytes.len(), 20 * 600 / 8);
    bytes.push(0);
    assert!(matches!(decode(&bytes), Err(BlockError::Rest(_))));
    bytes.truncate(20 * 600 / 8 - 1);
    assert_eq!(decode(&bytes), Err(BlockError::Count(600)));
    bytes.extend([1]);
    assert!(matches!(decode(&bytes), Err(BlockError::Rest(_))));
}

#[test]
fn vehicles_cost_no_more_than_they_did() {
    // Jitter of some ticks, sensors one after the other, speed with noise: what a gateway sends each second.
    let mut state = 1u64;
    let mut noise = move |n: i64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as i64 % n - n / 2
    };
    let mut columns = Vec::new();
    for c in 0..20u16 {
        let (mut speed, slope) = (1000 * i64::from(c), noise(300));
        let samples = (0..10).map(|i| {
            speed += slope;
            ((36_000_000 + i * 1000 + i64::from(c) * 50 + noise(10)) as u64, speed + noise(16))
        });
        columns.push(column(c, samples.collect::<Vec<_>>()));
    }
    let bytes = comes_back(&columns, 1000 * 1024);
    assert!(bytes <= VEHICLES, "{bytes}");
}

/// With reserve for an encoder that chooses otherwise. The true figures come from the benchmark.
const VEHICLES: usize = 320;

#[test]
fn a_wrong_period_in_the_manifest_costs_nothing_much() {
    let columns: Vec<_> = (0..5).map(|c| column(c, (0..100).map(|i| (i * 1000 + i % 3, 10)))).collect();
    let right = comes_back(&columns, 1000 * 1024);
    for wrong in [1024, 999 * 1000 * 1024] {
        let wrong = comes_back(&columns, wrong);
        assert!(wrong <= right + 10, "{wrong} against {right}");
    }
}

#[test]
fn qualities_and_uncertainties_that_change_come_back() {
    let mut samples: Vec<_> = (0..40).map(|i| sample(i * 10, i as i64)).collect();
    for (i, sample) in samples.iter_mut().enumerate() {
        sample.quality = QUALITIES[i / 7 % 4];
        sample.uncertainty = Uncertainty((i * 37) as u8);
    }
    let columns = [Column { channel: 0, samples: samples.clone() }, Column { channel: 1, samples }];
    comes_back(&columns, 0);
}

#[test]
fn a_count_beyond_the_bits_left_is_refused() {
    let mut w = bits::Writer::new(vec![FORM]);
    code::put_gamma(&mut w, 1); // one column
    w.put_flag(false); // not as the last
    w.put_flag(false); // nor as the one before it
    w.put_flag(true); // the next channel
    w.put_flag(false);
    code::put_gamma(&mut w, 1 << 40); // samples
    w.put_flag(true); // shape as before
    assert_eq!(decode(&w.finish(0)), Err(BlockError::Count(1 << 40)));
}

#[test]
fn bytes_of_another_form_are_refused() {
    assert_eq!(decode(&[]), Err(BlockError::Short(0)));
    assert_eq!(decode(&[9, 0]), Err(BlockError::Form(9)));
    assert_eq!(decode(&[FORM, 0, 0]), Err(BlockError::Rest(1)));
}

#[test]
fn zigzag_and_back_is_the_same() {
    for i in [0, -1, 1, i64::MIN, i64::MAX] {
        assert_eq!(unzigzag(code::zigzag(i)), i);
    }
}

#[test]
fn every_uncertainty_code_comes_back_through_its_value() {
    for resolution in [1e-9, 0.001, 1.0, 1e9, 3.7e-5] {
        assert_eq!(Uncertainty(0).in_unit(resolution), None);
        for code in 1..=255 {
            let u = Uncertainty(code).in_unit(resolution).expect("known");
            assert_eq!(Uncertainty::of(u, resolution), Uncertainty(code), "{resolution} {code} {u}");
        }
    }
}

#[test]
fn a_coded_uncertainty_is_within_nine_per_cent() {
    let mut u = 0.001;
    while u < 1e6 {
        let coded = Uncertainty::of(u, 0.1).in_unit(0.1).expect("known");
        assert!((coded / u - 1.0).abs() < 0.0906, "{u} became {coded}");
        u *= 1.013;
    }
}

#[test]
fn an_uncertainty_that_is_no_number_is_unknown() {
    for u in [f64::NAN, f64::INFINITY, -1.0] {
        assert_eq!(Uncertainty::of(u, 0.001), Uncertainty::UNKNOWN);
    }
    assert_eq!(Uncertainty::of(0.0, 0.001), Uncertainty(1));
    assert_eq!(Uncertainty::of(1.0, 0.0), Uncertainty::UNKNOWN);
    assert_eq!(Uncertainty::of(f64::MAX, 0.001), Uncertainty::UNKNOWN);
}

/// If this fails do not change the test: the encoder may choose otherwise, the decoder must read these for ever.
#[test]
fn the_bytes_of_form_1_are_read_for_ever() {
    for (hex, columns) in frozen() {
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex")).collect();
        assert_eq!(
            decode(&bytes).as_deref(),
            Ok(&columns[..]),
            "{hex}; now it is {:02x?}",
            encode(&columns, &Hint(1000 * 1024))
        );
    }
}

fn frozen() -> [(&'static str, Vec<Column>); 6] {
    let speeds = [8330, 8342, 8329, 8351, 8370, 8366, 8391, 8402, 8417, 8420];
    let jitter = [0, 3, -2, 1, 5, -4, 0, 2, -1, 1];
    let wheel = |c: u16| {
        let ticks = jitter.iter().zip(0i64..).map(move |(j, i)| (600_000 + i64::from(c) * 50 + i * 1000 + j) as u64);
        column(c, ticks.zip(speeds.map(|v| v - i64::from(c) * 11)))
    };
    let mut mixed = wheel(2);
    mixed.samples[3].quality = Quality::Degraded;
    mixed.samples[9].quality = Quality::Stopped;
    mixed.samples[8].quality = Quality::Estimated;
    mixed.samples[5].uncertainty = Uncertainty(37);
    // A free clock, a schedule, copies of it; still values: the block is filled up to a bit a sample.
    let free = column(1, (0..8u64).map(|i| (i * i * 40_000 + 90_000, 5)));
    let still = |c: u16, value| column(c, (0..60).map(move |i| (500_000 + i * 1000, value)));
    let parked = [free].into_iter().chain((2..20).map(|c| still(c, if c == 5 { -77_000 } else { 0 }))).collect();
    let jumps = column(9, [(5, i64::MIN), (u64::MAX, i64::MAX), (7, 0), (1007, 3), (9_002_007, 3), (9_003_007, 4)]);
    [
        (FROZEN[0], vec![]),
        (FROZEN[1], vec![wheel(0), wheel(1)]),
        (FROZEN[2], vec![column(5, [(77, -3)]), mixed]),
        (FROZEN[3], vec![jumps]),
        (FROZEN[4], parked),
        (FROZEN[5], (0..6).map(turn).collect()),
    ]
}

const FROZEN: [&str; 6] = [
    "0100",
    "01c2f228af4048f4a127c08a95ac882ac08a631c3b26cf90a0960f255ac64435fffff2e31c3b26cf90a094",
    "01c0000a8a2bd0023d0e6cbffffe400013ca0f007f3f401b470dc2a49f5dfbfa79e9965fffffe03a318e1d9367c8504a",
    "0180004ba48af4008f41b7ffff95f6fffffcaf971ffffec44aa2002fffffffffffffffffffffffff7fffffffffffffff7fffffffffffffc000000007fffffffffffffffffffffdfffffffffffffffffffffe7ffffffffffffffffffffffffffffffffffffffffffff4",
    "01f8c0000bc124c45c0411e915f9080003f94bffdc3ff9c3fc00019c403dc401d53005ffffc8bf7122bd0062920c8000000000000000063257ffffff8b31f249249249200000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    "01e8bc8a2bd0023d01002ffffffebfba003093e4e80107900127400c9d0030024e80193a00",
];

fn any_sample() -> impl Strategy<Value = Sample> {
    let tick = prop_oneof![any::<u64>(), 0..100_000u64];
    let value = prop_oneof![any::<i64>(), -20i64..20];
    (tick, value, any::<u8>(), 0..4usize).prop_map(|(tick, value, u, q)| Sample {
        tick,
        value,
        uncertainty: Uncertainty(u),
        quality: QUALITIES[q],
    })
}

fn any_columns() -> impl Strategy<Value = Vec<Column>> {
    let column = (any::<u16>(), prop::collection::vec(any_sample(), 1..40));
    prop::collection::vec(column.prop_map(|(channel, samples)| Column { channel, samples }), 0..6)
}

/// Columns as a vehicle gives them: a schedule with jitter and holes, values that walk.
fn vehicle_columns() -> impl Strategy<Value = (Vec<Column>, u64)> {
    let step = (0u64..2000, -300i64..300, 0..40u8);
    let column = (0..9u16, 0..u64::MAX / 2, prop::collection::vec(step, 1..80));
    (prop::collection::vec(column, 1..5), 0..2048u64 * 1024).prop_map(|(columns, hint)| {
        let columns = columns.into_iter().map(|(channel, start, steps)| {
            let (mut tick, mut value) = (start, 0);
            let samples = steps.into_iter().map(|(dt, dv, luck)| {
                tick += 1000 + dt % 7 + if luck == 0 { dt * 1000 } else { 0 };
                value += dv;
                sample(tick, value)
            });
            Column { channel, samples: samples.collect() }
        });
        (columns.collect(), hint)
    })
}

proptest! {
    #[test]
    fn any_columns_come_back(columns in any_columns(), hint in any::<u64>()) {
        prop_assert_eq!(&decode(&encode(&columns, &Hint(hint))).expect("own bytes"), &columns);
        prop_assert_eq!(&decode(&encode(&columns, &())).expect("own bytes"), &columns);
    }

    #[test]
    fn columns_of_a_vehicle_come_back((columns, hint) in vehicle_columns()) {
        prop_assert_eq!(&decode(&encode(&columns, &Hint(hint))).expect("own bytes"), &columns);
    }

    #[test]
    fn any_bytes_are_refused_or_read_within_the_bound(mut bytes in prop::collection::vec(any::<u8>(), 1..400)) {
        bytes[0] = FORM;
        if let Ok(columns) = decode(&bytes) {
            let samples: usize = columns.iter().map(|column| column.samples.len()).sum();
            prop_assert!(samples <= 8 * bytes.len());
        }
    }

    #[test]
    fn damaged_blocks_are_refused_or_read_but_never_panic(
        (columns, hint) in vehicle_columns(), at in any::<prop::sample::Index>(), flip in 1..=255u8, cut in any::<bool>()
    ) {
        let mut bytes = encode(&columns, &Hint(hint));
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
            prop_assert!(decode(&bytes).is_err());
        } else {
            bytes[at] ^= flip;
            let _ = decode(&bytes);
        }
    }
}
