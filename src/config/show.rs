//! Numbers for people.

/// A number with four significant digits and no trailing zeros.
pub fn significant(number: f64) -> String {
    if number == 0.0 || !number.is_finite() {
        return format!("{number}");
    }
    let digits_before = number.abs().log10().floor() as i32 + 1;
    let after = (4 - digits_before).clamp(0, 9) as usize;
    let text = format!("{number:.after$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::significant;

    #[test]
    fn numbers_are_shown_with_four_digits() {
        for (number, text) in [(24.181_36, "24.18"), (336.0, "336"), (0.5, "0.5"), (12_345.6, "12346"), (0.0, "0")] {
            assert_eq!(significant(number), text);
        }
    }
}
