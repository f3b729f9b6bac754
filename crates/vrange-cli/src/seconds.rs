//! Lengths of time as people write them.

/// Longer than any process runs, and short enough for every clock.
const SECONDS_MAX: f64 = 1e9;

/// Parses `10`, `0.5`, `0`: a decimal number of seconds. Written with `{}` again, it has no exponent.
///
/// # Errors
/// A sentence for the user: no number, a negative one, or a length beyond all reason.
pub(crate) fn parse(text: &str) -> Result<f64, String> {
    let text = text.trim();
    if text.starts_with('-') && text.parse::<f64>().is_ok() {
        return Err("seconds cannot be negative".to_owned());
    }
    let is_decimal = text.chars().all(|character| character.is_ascii_digit() || character == '.');
    match text.parse::<f64>() {
        Ok(seconds) if is_decimal && seconds <= SECONDS_MAX => Ok(seconds),
        Ok(_) if is_decimal => Err("longer than any program runs".to_owned()),
        _ => Err("expected a number of seconds such as 10 or 0.5".to_owned()),
    }
}

/// Looking more often would show nothing new.
const INTERVAL_SECONDS_MIN: f64 = 0.05;

/// As [`parse`], of the time between two looks at something.
///
/// # Errors
/// As there, or it is too short.
pub(crate) fn parse_interval(text: &str) -> Result<f64, String> {
    match parse(text)? {
        seconds if seconds >= INTERVAL_SECONDS_MIN => Ok(seconds),
        _ => Err(format!("the least is {INTERVAL_SECONDS_MIN}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_looks_all_the_time() {
        assert_eq!(parse_interval("0.05"), Ok(0.05));
        assert!(parse_interval("0").is_err_and(|error| error.contains("0.05")));
        assert!(parse_interval("soon").is_err());
    }

    #[test]
    fn decimal_numbers_are_taken_and_written_without_an_exponent() {
        for (text, written) in [
            ("10", "10"),
            (" 0.5 ", "0.5"),
            ("0", "0"),
            ("0.000001", "0.000001"),
            ("1000000000", "1000000000"),
        ] {
            assert_eq!(parse(text).map(|seconds| seconds.to_string()), Ok(written.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_sentence() {
        for text in ["", ".", "1.2.3", "soon", "NaN", "inf", "1e3", "10s", "+1", "0x10"] {
            assert!(parse(text).is_err_and(|error| error.contains("such as 10 or 0.5")), "{text:?}");
        }
        for text in ["-1", "-0.5", "-inf", "-nan"] {
            assert!(parse(text).is_err_and(|error| error.contains("negative")), "{text:?}");
        }
        for text in ["1000000001", &"9".repeat(400)] {
            assert!(parse(text).is_err_and(|error| error.contains("longer")), "{text:?}");
        }
    }
}
