//! Uncertainty in one byte: a scale of four steps an octave.

/// One standard uncertainty, coded. 0 is unknown; code `c` from 1 is `resolution x 2^((c - 1) / 4 - 8)`, that is from
/// 1/256 of the resolution in steps of 19 % to beyond 10^16 resolutions. A coded uncertainty is within 9 % of the true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uncertainty(pub u8);

/// Octaves below the resolution at which the scale begins.
const BELOW: i64 = 8;
/// 2^(1/8), 2^(3/8), 2^(5/8), 2^(7/8): where one step ends and the next begins.
const EDGES: [f64; 4] =
    [1.090_507_732_665_257_7, 1.296_839_554_651_009_6, 1.542_210_825_407_940_7, 1.834_008_086_409_342_4];
/// 2^0, 2^(1/4), 2^(1/2), 2^(3/4).
const STEPS: [f64; 4] = [1.0, 1.189_207_115_002_721, core::f64::consts::SQRT_2, 1.681_792_830_507_429];

impl Uncertainty {
    /// Not known.
    pub const UNKNOWN: Self = Self(0);

    /// The nearest code to `u`, given in the same unit as `resolution`. Unknown when it is negative or no number.
    pub fn of(u: f64, resolution: f64) -> Self {
        let ratio = u / resolution;
        if !ratio.is_finite() || ratio < 0.0 {
            return Self::UNKNOWN;
        }
        // A float is 2^exponent x mantissa, so that its logarithm in quarters is read off its bits.
        let bits = ratio.to_bits();
        let exponent = ((bits >> 52) & 0x7FF) as i64 - 1023;
        let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
        let quarter = EDGES.iter().filter(|&&edge| mantissa >= edge).count() as i64;
        Self((1 + (exponent + BELOW) * 4 + quarter).clamp(1, 255) as u8)
    }

    /// The uncertainty in the unit of `resolution`; `None` when unknown.
    pub fn in_unit(self, resolution: f64) -> Option<f64> {
        let steps = i64::from(self.0.checked_sub(1)?);
        let power = f64::from_bits(((steps / 4 - BELOW + 1023) as u64) << 52);
        Some(resolution * power * STEPS[(steps % 4) as usize])
    }
}
