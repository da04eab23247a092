//! Decides which records of a batch are new. Pure.
//!
//! In      where a log stands, and the sequence numbers of a batch.
//! Out     a verdict an entry, and gaps that can never be filled.
//! Keeps   one number a log: the last record stored. The store keeps it in the transaction that stores the records, so
//!         that a record is stored and counted, or neither.
//! Imports `wire`.
//!
//! Only a contiguous prefix of a log is ever stored. What does not follow on is dropped, and the confirmation that
//! answers every batch tells the gateway where to go on from: a resend costs bytes, never truth.

use std::ops::RangeInclusive;

use speedwell_wire::Seq;

/// SQLite's integers end here, and no gateway will write a record a nanosecond for 292 years.
pub const MAX_SEQ: Seq = i64::MAX as Seq;

/// Where one log of one gateway stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The last record stored; 0 when none is.
    pub thru: Seq,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It follows on: store it.
    Take,
    /// All of it is stored already.
    Duplicate,
    /// It leaves a hole, or overlaps what is stored; it will come again, cut where the confirmation says.
    Drop,
}

impl Ledger {
    /// A batch arrives whose gateway keeps nothing before `oldest` any more. Gives the range that will never come, if
    /// the batch lies beyond it; the ledger has then passed over it.
    pub fn pass_over(&mut self, first: Seq, oldest: Seq) -> Option<RangeInclusive<Seq>> {
        let next = self.thru + 1;
        if first <= next || oldest <= next || oldest > first {
            return None;
        }
        self.thru = oldest - 1;
        Some(next..=oldest - 1)
    }

    /// An entry of a batch, in order. [`Verdict::Take`] moves the ledger on.
    pub fn judge(&mut self, first: Seq, span: u64) -> Verdict {
        let Some(last) = first.checked_add(span.saturating_sub(1)).filter(|&last| last <= MAX_SEQ && span > 0) else {
            return Verdict::Drop;
        };
        if last <= self.thru {
            Verdict::Duplicate
        } else if first == self.thru + 1 {
            self.thru = last;
            Verdict::Take
        } else {
            Verdict::Drop
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_that_straddles_what_is_stored_is_dropped_whole() {
        let mut ledger = Ledger { thru: 10 };
        assert_eq!(ledger.judge(9, 5), Verdict::Drop);
        assert_eq!(ledger.thru, 10);
        assert_eq!(ledger.judge(11, 3), Verdict::Take);
        assert_eq!(ledger.thru, 13);
    }

    #[test]
    fn a_range_freed_before_this_hub_knew_it_becomes_a_gap_and_what_follows_is_taken() {
        let mut ledger = Ledger { thru: 4 };
        assert_eq!(ledger.pass_over(20, 11), Some(5..=10));
        assert_eq!(ledger.judge(20, 1), Verdict::Drop);
        assert_eq!(ledger.pass_over(11, 11), None);
        assert_eq!(ledger.judge(11, 1), Verdict::Take);
    }

    #[test]
    fn a_hole_that_the_gateway_can_still_fill_is_no_gap() {
        let mut ledger = Ledger { thru: 4 };
        assert_eq!(ledger.pass_over(9, 2), None);
        assert_eq!(ledger.pass_over(9, 5), None);
        assert_eq!(ledger.thru, 4);
    }

    #[test]
    fn numbers_at_the_end_of_the_range_neither_panic_nor_wrap() {
        let mut ledger = Ledger { thru: MAX_SEQ };
        assert_eq!(ledger.judge(u64::MAX, 2), Verdict::Drop);
        assert_eq!(ledger.judge(MAX_SEQ + 1, 1), Verdict::Drop);
        assert_eq!(Ledger::default().judge(1, u64::MAX), Verdict::Drop);
        assert_eq!(Ledger::default().judge(1, 0), Verdict::Drop);
    }

    proptest! {
        #[test]
        fn whatever_comes_in_whatever_order_each_record_is_stored_at_most_once_and_thru_is_the_prefix(
            batches in prop::collection::vec((1u64..60, prop::collection::vec(1u64..6, 1..8), 0u64..40), 0..80)
        ) {
            let mut ledger = Ledger::default();
            let mut seen: BTreeMap<Seq, u32> = BTreeMap::new();
            for (first, spans, oldest) in batches {
                for seq in ledger.pass_over(first, oldest).into_iter().flatten() {
                    *seen.entry(seq).or_default() += 1;
                }
                let mut at = first;
                for span in spans {
                    if ledger.judge(at, span) == Verdict::Take {
                        (at..at + span).for_each(|seq| *seen.entry(seq).or_default() += 1);
                    }
                    at += span;
                }
                prop_assert!(seen.values().all(|&times| times == 1));
                prop_assert!(seen.keys().copied().eq(1..=ledger.thru));
            }
        }

        #[test]
        fn going_back_to_where_the_confirmation_says_always_ends_with_everything_stored(
            total in 1u64..200, window in 1u64..20, losses in prop::collection::vec(any::<bool>(), 400)
        ) {
            let mut ledger = Ledger::default();
            let mut lost = losses.into_iter();
            let mut rounds = 0;
            while ledger.thru < total {
                let from = ledger.thru + 1;
                for seq in from..=(from + window).min(total) {
                    if !lost.next().unwrap_or(false) {
                        ledger.judge(seq, 1);
                    }
                }
                rounds += 1;
                prop_assert!(rounds < 1000, "no progress");
            }
            prop_assert_eq!(ledger.thru, total);
        }
    }
}
