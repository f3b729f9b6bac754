//! Amounts of memory as people write them.

/// Parses `512M`, `512MiB`, `1.5G`, `4096` (bytes). Powers of 1024, as for `systemd-run -p MemoryMax=`.
///
/// # Errors
/// A sentence for the user: no number, an unknown unit, or more than 2^63 bytes.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits_end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') {
        return Err("expected a size such as 512M or 2G".to_owned());
    }
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("unknown unit `{}`: use K, M, G or T", unit.trim())),
    };
    let too_large = || "larger than any memory".to_owned();
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let whole_bytes = whole.checked_mul(1 << shift).filter(|bytes| *bytes < 1 << 63).ok_or_else(too_large)?;
    Ok(whole_bytes + fraction_bytes(fraction, shift))
}

/// The bytes that a decimal fraction of a unit of 2^`shift` bytes adds, rounded down. Nine digits are plenty.
fn fraction_bytes(fraction: &str, shift: u32) -> u64 {
    let mut bytes: u128 = 0;
    let mut weight: u128 = 10;
    for digit in fraction.bytes().take(9) {
        bytes += (u128::from(digit - b'0') << (shift + 20)) / weight;
        weight *= 10;
    }
    u64::try_from(bytes >> 20).unwrap_or(0)
}

/// Writes an amount with one decimal at most, in the unit that suits it: `469.8 MiB`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    match tenths % 10 {
        0 => format!("{} {}", tenths / 10, UNITS[unit]),
        rest => format!("{}.{rest} {}", tenths / 10, UNITS[unit]),
    }
}

/// Writes an amount in six characters at most, as `top` does: `469.8M`.
pub(crate) fn short(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "K", "M", "G", "T", "P", "E"];
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 9_995 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    match tenths % 10 {
        0 => format!("{}{}", tenths / 10, UNITS[unit]),
        rest => format!("{}.{rest}{}", tenths / 10, UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse("512M"), Ok(512 << 20));
        assert_eq!(parse(" 2 GiB "), Ok(2 << 30));
        assert_eq!(parse("1.5g"), Ok(3 << 29));
        assert_eq!(parse("4096"), Ok(4096));
        assert_eq!(parse("0.5k"), Ok(512));
    }

    #[test]
    fn nonsense_is_refused_with_a_sentence() {
        for text in ["", "M", "-5M", "5X", "1.2.3M", "99999999999999999999", "9999999999T", ".5G"] {
            assert!(parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn amounts_are_written_in_the_unit_that_suits() {
        assert_eq!(human(0), "0 B");
        assert_eq!(human(1023), "1023 B");
        assert_eq!(human(512 << 20), "512 MiB");
        assert_eq!(human(1536), "1.5 KiB");
    }

    #[test]
    fn short_amounts_fit_a_narrow_column() {
        assert_eq!(short(0), "0B");
        assert_eq!(short(999), "999B");
        assert_eq!(short(1000), "1K");
        assert_eq!(short(1536), "1.5K");
        assert_eq!(short(512 << 20), "512M");
        for shift in 0..64 {
            for bytes in [1 << shift, (1 << shift) - 1, u64::MAX >> shift, (1 << shift) / 10 * 9] {
                assert!(short(bytes).len() <= 6, "{bytes}: {}", short(bytes));
            }
        }
    }
}
