//! Retry-After: when an origin that fails for now accepts the next request (RFC 9110 section 10.2.3).

use std::time::Duration;

use super::date;
use super::fields::Fields;
use super::head::saturating;

/// The time that the origin wants to pass before the next request, if the response has the field. A date counts
/// from the response's own Date, else from `now` (seconds since 1970): the two clocks need not agree.
pub fn retry_after(fields: &Fields, now: u64) -> Option<Duration> {
    let value = fields.only("retry-after")?.trim_ascii();
    if let Some(seconds) = saturating(value) {
        // A larger number than 64 bits hold is as good as no end.
        return Some(Duration::from_secs(seconds));
    }
    let at = date::parse(value)?;
    let from = fields.only("date").and_then(date::parse).unwrap_or(now);
    Some(Duration::from_secs(at.saturating_sub(from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_10_2_3_seconds_or_a_date() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let at = date::parse(date.as_bytes()).unwrap();
        for (value, sent, wait) in [
            ("120", "", Some(120)),
            (" 0 ", "", Some(0)),
            ("99999999999999999999999", "", Some(u64::MAX)),
            (date, "", Some(30)),
            (date, "Sun, 06 Nov 1994 08:49:27 GMT", Some(10)),
            // By its clock the time has passed.
            (date, "Sun, 06 Nov 1994 08:50:00 GMT", Some(0)),
            (date, "soon", Some(30)),
            ("-1", "", None),
            ("1.5", "", None),
            ("", "", None),
            ("soon", "", None),
        ] {
            let mut fields = Fields::from_iter([("Retry-After", value)]);
            if !sent.is_empty() {
                fields.push(b"Date", sent.as_bytes());
            }
            assert_eq!(retry_after(&fields, at - 30), wait.map(Duration::from_secs), "{value:?} {sent:?}");
        }
        assert_eq!(retry_after(&Fields::new(), 0), None);
        assert_eq!(retry_after(&Fields::from_iter([("Retry-After", "1"), ("Retry-After", "2")]), 0), None);
    }
}
