//! Durations as text, read as Go and cel-go read them (`1h30m`, `-1.5s`, `0`) and written in seconds.

/// In nanoseconds; `None` for what is no duration or beyond 292 years.
pub(super) fn parse(text: &str) -> Option<i64> {
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    // Ends: every round takes at least a digit and a unit.
    while !rest.is_empty() {
        let before = digits(rest);
        rest = rest.get(before.len()..)?;
        let after = match rest.strip_prefix('.') {
            Some(fraction) => digits(fraction),
            None => "",
        };
        if rest.starts_with('.') {
            rest = rest.get(1 + after.len()..)?;
        }
        if before.is_empty() && after.is_empty() {
            return None;
        }
        let (unit, nanos) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = rest.get(unit.len()..)?;
        // Longer than any duration there is; and the sums below stay far from 128 bits.
        if before.trim_start_matches('0').len() > 19 {
            return None;
        }
        let whole: i128 = if before.is_empty() { 0 } else { before.parse().ok()? };
        let after = after.get(..after.len().min(18)).unwrap_or(after);
        let fraction: i128 = if after.is_empty() { 0 } else { after.parse().ok()? };
        total += whole * nanos + fraction * nanos / 10_i128.pow(after.len() as u32);
        if total > i128::from(i64::MAX) + 1 {
            return None;
        }
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// `ms` before `m`: the first that fits is taken.
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

fn digits(text: &str) -> &str {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    text.get(..length).unwrap_or_default()
}

/// In seconds with as many decimals as it needs: `5400s`, `-1.5s`.
pub(super) fn print(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    let fraction = format!("{:09}", size % 1_000_000_000);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{fraction}s", size / 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", Some(0)),
            ("1h30m", Some(5_400_000_000_000)),
            ("-1.5h", Some(-5_400_000_000_000)),
            ("+5s", Some(5_000_000_000)),
            ("1m6s", Some(66_000_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("1ms2us3ns", Some(1_002_003)),
            ("3µs", Some(3_000)),
            ("2562047h47m16.854775807s", Some(i64::MAX)),
            ("-2562047h47m16.854775808s", Some(i64::MIN)),
            ("2562047h47m16.854775808s", None),
            ("0.1234567891234567891234s", Some(123_456_789)),
            ("99999999999999999999999h", None),
            ("", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("1d", None),
            ("1 s", None),
            ("1h-5m", None),
        ] {
            assert_eq!(parse(text), nanos, "{text}");
        }
        for (nanos, text) in [(5_400_000_000_000, "5400s"), (-1_500_000_000, "-1.5s"), (0, "0s"), (1, "0.000000001s")] {
            assert_eq!(print(nanos), text);
        }
    }
}
