//! Any bytes into the doors for readings: as the body of a request, as a message of a foreign feed, and as a stream over
//! TCP. What is read keeps its promises: each item is read or named, and what is read can be stored.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedwell_hub::{
    config::SpeedUnit,
    ingest::{
        documents::{Documents, Found},
        readings::{ArrivalClock, MAX_ITEMS, Shape, Taken},
    },
};

const LONGEST: usize = 1024;

fuzz_target!(|bytes: &[u8]| {
    let Some((&how, rest)) = bytes.split_first() else { return };
    let (speed, sensor) = (SpeedUnit::KmH, "tracker".to_owned());
    let shape = match how % 4 {
        0 => Shape::Own,
        1 => Shape::Positions { speed, sensor },
        _ => Shape::Tracking { speed, sensor },
    };
    let clock = ArrivalClock::default();
    if how % 4 < 3 {
        return judge(&shape, rest, &clock);
    }
    // Over TCP: what is found is the same however the stream is cut, and every part of it is a document of its own.
    let every = usize::from(how / 4) + 1;
    let found = stream(rest.chunks(every));
    assert_eq!(found, stream(rest.chunks(rest.len().max(1))));
    for document in found.iter().flatten() {
        judge(&shape, document, &clock);
    }
});

/// The documents of a stream; none for something that is none.
fn stream<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<Option<Vec<u8>>> {
    let (mut documents, mut all) = (Documents::new(LONGEST), Vec::new());
    for part in parts {
        documents.push(part);
        while let Some(found) = documents.take() {
            match found {
                Found::Document(document) => {
                    assert!(document.len() <= LONGEST, "{} bytes", document.len());
                    all.push(Some(document.to_vec()));
                }
                Found::Broken => all.push(None),
                // The door closes: nothing comes after it.
                Found::TooLong => {
                    all.push(None);
                    return all;
                }
            }
        }
    }
    all.extend(documents.end().map(|_| None));
    all
}

fn judge(shape: &Shape, document: &[u8], clock: &ArrivalClock) {
    let Ok(Taken { items, readings, bad, received_ns }) = shape.read(document, clock) else { return };
    let of_one = if *shape == Shape::Own { 1 } else { 3 };
    assert_eq!(readings.len() / of_one + bad.len(), items);
    assert_eq!(readings.len() % of_one, 0);
    assert!(items <= MAX_ITEMS && bad.is_sorted_by(|one, next| one.index < next.index));
    for item in &bad {
        assert!(item.index < items && !item.reason.is_empty() && item.reason.len() < 600, "{item:?}");
    }
    for reading in &readings {
        assert!(reading.value.is_finite(), "{reading:?}");
        assert!(reading.uncertainty.is_none_or(|u| u.is_finite() && u >= 0.0), "{reading:?}");
        assert!(!reading.sensor.is_empty() && reading.utc_ns <= received_ns + 25 * 3600 * 1_000_000_000, "{reading:?}");
    }
}
