//! What decoding may take of memory, counted: hostile lengths must not ask for more than a constant and a multiple of
//! the bytes that came.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use speedwell_wire::{
    Batch, Live, Manifest, Quality,
    block::{self, Column, Sample, Uncertainty},
    frame, record,
};

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(change: isize) {
    // While a thread ends there is nothing to count with, and nothing to count.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `at` came from `alloc` above, that is from the system.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most that was held at once while `work` ran, beyond what was held before.
fn peak(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    work();
    (PEAK.get() - before) as usize
}

/// What serde keeps at once for a list of announced length, whatever is announced; lists lie at most two deep.
const ANNOUNCED: usize = 2 << 20;
/// Bytes of memory a byte of a frame: an entry of a batch takes some 100 bytes and comes in no less than 7.
const A_BYTE: usize = 64;
/// The same of a block: 8 samples of 24 bytes, twice while a list grows, and a column for each 3 bits.
const A_BLOCK_BYTE: usize = 700;

fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![frame::VERSION];
    bytes.extend(body);
    bytes.extend(frame::crc32c(&bytes).to_le_bytes());
    bytes
}

/// A length of 2^63 and so on, where a length may stand.
const LENGTHS: [&[u8]; 4] = [
    &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
    &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F],
    &[0xFF, 0xFF, 0x7F],
    &[9],
];

#[test]
fn an_announced_length_takes_no_memory_that_the_bytes_do_not_warrant() {
    let heads: [&[u8]; 4] = [
        // Of a manifest; of a channel's sensor; of a batch's gateway.
        b"",
        b"\x01\x00",
        // Of a batch's entries; of the block of its first.
        b"\x01t12345678\x01\x00",
        b"\x01t12345678\x01\x00\x01\x01\x00manifest\x00",
    ];
    for head in heads {
        for length in LENGTHS {
            for rest in [0, 1, 100, 10_000, 1_000_000] {
                let body = [head, length, &vec![1; rest]].concat();
                let bytes = sealed(&body);
                let most = ANNOUNCED + A_BYTE * bytes.len();
                for work in [
                    (|b: &[u8]| drop(frame::decode::<Batch>(b))) as fn(&[u8]),
                    |b| drop(frame::decode::<Manifest>(b)),
                    |b| drop(frame::decode::<Live>(b)),
                    |b| drop(record::decode(b)),
                ] {
                    let taken = peak(|| work(&bytes)).max(peak(|| work(&body)));
                    assert!(taken <= most, "{taken} for {} bytes after {head:02x?} {length:02x?}", bytes.len());
                }
            }
        }
    }
}

#[test]
fn a_block_takes_no_more_memory_than_a_multiple_of_its_bytes() {
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    for turn in 0..20_000 {
        // All zeros and all ones among them, and a start that lets many columns be.
        let fill: Box<dyn FnMut() -> u8> = match turn % 4 {
            0 => Box::new(|| 0),
            1 => Box::new(|| 0xFF),
            _ => Box::new(&mut random),
        };
        let mut block: Vec<u8> = std::iter::repeat_with(fill).take(1 + turn % 300).collect();
        block[0] = 1;
        let taken = peak(|| drop(block::decode(&block)));
        assert!(taken <= A_BLOCK_BYTE * block.len(), "{taken} for {block:02x?}");
    }
    // The most columns: each of one sample and three bits.
    let sample = Sample { tick: 1, value: 0, uncertainty: Uncertainty::UNKNOWN, quality: Quality::Good };
    let columns: Vec<_> = (0..5000).map(|channel| Column { channel, samples: vec![sample] }).collect();
    let block = block::encode(&columns, &());
    let mut read = Vec::new();
    let taken = peak(|| read = block::decode(&block).expect("own block"));
    assert_eq!(read, columns);
    assert!((A_BLOCK_BYTE / 4 * block.len()..A_BLOCK_BYTE * block.len()).contains(&taken), "{taken} {}", block.len());
}
