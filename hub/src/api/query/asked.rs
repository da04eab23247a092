//! Parameters of a question: each complaint names the parameter, what came, and what is allowed.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use jiff::Timestamp;
use speedwell_wire::{GatewayId, Quantity};

use super::{super::ApiError, Range};
use crate::ingest::utc_ns;

/// All quantities there are, for the words of a complaint.
pub(in super::super) const QUANTITIES: [Quantity; 15] = [
    Quantity::Speed,
    Quantity::RotationalSpeed,
    Quantity::Distance,
    Quantity::Latitude,
    Quantity::Longitude,
    Quantity::Course,
    Quantity::Altitude,
    Quantity::Acceleration,
    Quantity::Count,
    Quantity::Direction,
    Quantity::Angle,
    Quantity::Lost,
    Quantity::Suspected,
    Quantity::Repaired,
    Quantity::Rejected,
];

/// Names and values, in the order they came.
pub(in super::super) struct Asked(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|e| ApiError::BadQuery(e.body_text()))?;
        Ok(Self(pairs))
    }
}

/// A complaint about a parameter.
pub(in super::super) fn wrong(name: &str, came: &str, allowed: &str) -> ApiError {
    let came: String = came.chars().take(80).collect();
    ApiError::BadQuery(format!("{name}: {came:?} came, {allowed}"))
}

impl Asked {
    /// Nothing is asked that nobody would answer: a misspelt parameter would change the answer without a word.
    pub(in super::super) fn only(self, names: &[&str], repeated: &[&str]) -> Result<Self, ApiError> {
        for (at, (name, value)) in self.0.iter().enumerate() {
            if !names.contains(&name.as_str()) {
                let allowed = format!("allowed are {}", names.join(", "));
                return Err(wrong("an unknown parameter", name, &allowed));
            }
            if value.contains('\0') {
                return Err(wrong(name, value, "wanted is text without a zero byte"));
            }
            let before = &self.0[..at];
            if !repeated.contains(&name.as_str()) && before.iter().any(|(other, _)| other == name) {
                return Err(wrong(name, value, "a second time; it is taken once"));
            }
        }
        Ok(self)
    }

    /// As it came; one that is empty was left out.
    pub(in super::super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, value)| n == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    pub(in super::super) fn texts(&self, name: &str) -> Vec<String> {
        let those = self.0.iter().filter(|(n, value)| n == name && !value.is_empty());
        those.map(|(_, value)| value.clone()).collect()
    }

    fn needed(&self, name: &str, allowed: &str) -> Result<&str, ApiError> {
        self.text(name).ok_or_else(|| ApiError::BadQuery(format!("{name}: missing field, {allowed}")))
    }

    pub(in super::super) fn gateway(&self) -> Result<GatewayId, ApiError> {
        gateway(self.needed("gateway", "wanted is a gateway id")?)
    }

    pub(in super::super) fn gateway_if_any(&self) -> Result<Option<GatewayId>, ApiError> {
        self.text("gateway").map(gateway).transpose()
    }

    pub(in super::super) fn sensor(&self) -> Result<String, ApiError> {
        Ok(self.needed("sensor", "wanted is a sensor's name")?.to_owned())
    }

    pub(in super::super) fn quantity(&self) -> Result<Quantity, ApiError> {
        quantity(self.needed("quantity", &quantities())?)
    }

    pub(in super::super) fn quantity_if_any(&self) -> Result<Option<Quantity>, ApiError> {
        self.text("quantity").map(quantity).transpose()
    }

    pub(in super::super) fn quantities(&self) -> Result<Vec<Quantity>, ApiError> {
        self.texts("quantity").iter().map(|text| quantity(text)).collect()
    }

    /// A whole number within bounds.
    pub(in super::super) fn number(
        &self,
        name: &str,
        (least, most): (usize, usize),
    ) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|n| (least..=most).contains(n));
        number.map(Some).ok_or_else(|| wrong(name, text, &format!("wanted is a whole number from {least} to {most}")))
    }

    /// `from` and `to`; what is not told is open.
    pub(in super::super) fn range(&self) -> Result<Range, ApiError> {
        self.range_of("from", "to", |name, text| time(name, text).map(|ns| (ns, ns)))
    }

    /// Of two parameters that are each read as first and last ns.
    pub(in super::super) fn range_of(
        &self,
        from: &str,
        to: &str,
        read: impl Fn(&str, &str) -> Result<(i64, i64), ApiError>,
    ) -> Result<Range, ApiError> {
        let end = |name: &str| self.text(name).map(|text| read(name, text)).transpose();
        let (begins, ends) = (end(from)?, end(to)?);
        let range = Range {
            from_ns: begins.map_or(i64::MIN, |(first, _)| first),
            to_ns: ends.map_or_else(utc_ns, |(_, last)| last),
        };
        if begins.is_some() && range.from_ns > range.to_ns {
            let to = self.text(to).unwrap_or("now");
            let came = self.text(from).unwrap_or_default();
            return Err(wrong(from, came, &format!("which lies after {to:?}; wanted is a time before it")));
        }
        Ok(range)
    }
}

fn gateway(text: &str) -> Result<GatewayId, ApiError> {
    GatewayId::new(text).map_err(|e| ApiError::BadQuery(format!("gateway: {e}")))
}

fn quantities() -> String {
    format!("wanted is one of {}", QUANTITIES.map(Quantity::name).join(", "))
}

fn quantity(text: &str) -> Result<Quantity, ApiError> {
    let found = QUANTITIES.into_iter().find(|quantity| quantity.name() == text);
    found.ok_or_else(|| wrong("quantity", text, &quantities()))
}

/// An RFC 3339 time with its zone, to the ns.
pub(in super::super) fn time(name: &str, text: &str) -> Result<i64, ApiError> {
    let wanted = "wanted is an RFC 3339 time with a zone between 1678 and 2262, as 2026-05-04T10:00:00.123456Z";
    let bad = || wrong(name, text, wanted);
    let time: Timestamp = plus(text).parse().map_err(|_| bad())?;
    i64::try_from(time.as_nanosecond()).map_err(|_| bad())
}

/// A `+` in an address that nobody escaped means a space: 12:00:00+02:00 comes as 12:00:00 02:00.
pub(in super::super) fn plus(text: &str) -> String {
    let zone = |rest: &str| rest.len() == 5 && rest.as_bytes()[2] == b':';
    match text.rsplit_once(' ') {
        Some((time, rest)) if rest.is_ascii() && zone(rest) && time.contains(':') => format!("{time}+{rest}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_is_taken_in_any_zone_to_the_ns_and_with_a_plus_that_nobody_escaped() {
        let ns = |text: &str| time("from", text).unwrap();
        assert_eq!(ns("2026-05-04T12:00:00.123456789+02:00"), 1_777_888_800_123_456_789);
        assert_eq!(ns("2026-05-04T12:00:00 02:00"), 1_777_888_800_000_000_000);
        assert_eq!(ns("2026-05-04T10:00:00Z"), 1_777_888_800_000_000_000);
        for bad in ["yesterday", "2026-05-04T10:00:00", "2026-05-04", "9999-01-01T00:00:00Z", ""] {
            let told = time("from", bad).unwrap_err().to_string();
            assert!(told.starts_with("from: ") && told.contains("RFC 3339"), "{told}");
        }
    }

    #[test]
    fn every_quantity_is_known_by_its_word() {
        for known in QUANTITIES {
            assert_eq!(quantity(known.name()).unwrap(), known);
        }
        assert!(quantity("warmth").unwrap_err().to_string().contains("rotational-speed"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}|[0-9T:Z +.-]{0,30}") {
            let _ = time("from", &text);
            let _ = plus(&text);
        }
    }
}
