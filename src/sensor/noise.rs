//! Tells a line that is silent from one that speaks what nobody understands: a wrong baud rate, another device.

/// So many bytes without one message: more than any that is listened to has.
const NOISE_BYTES: u32 = 512;

/// Counts bytes since the last message that made sense.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Noise {
    bytes: u32,
}

impl Noise {
    pub(crate) fn heard(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    pub(crate) fn made_sense(&mut self) {
        self.bytes = 0;
    }

    /// What to look at, where it is so; `what` is what was hoped for, `usual` the usual speeds of its line.
    pub(crate) fn trouble(&self, what: &str, usual: &str) -> Option<String> {
        (self.bytes > NOISE_BYTES).then(|| {
            // Without their count: the same words as long as it is the same trouble.
            format!(
                "bytes come and none of them make {what}: is `baud` right ({usual}), and is it the right device? \
                 Crossed or inverted wires look the same"
            )
        })
    }
}
