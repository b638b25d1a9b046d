//! Numbers as C programs take them.

/// The value of `text` in C notation (`strtoul` with base 0): decimal, octal after `0`, hexadecimal
/// after `0x`, white space in front and one sign allowed; a negative number wraps around. `None` if
/// there is no number, if anything follows it, or if it does not fit.
pub(super) fn c_notation(text: &str) -> Option<u64> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match (hexadecimal, digits.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(rest)) if !rest.is_empty() => (rest, 8),
        (None, _) => (digits, 10),
    };
    // Rust would take another sign.
    if !digits.starts_with(|first: char| first.is_digit(radix)) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    Some(if negative { value.wrapping_neg() } else { value })
}

/// The value of `text`, decimal digits only.
pub(super) fn decimal(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Whether `text` is a decimal number as a whole, of any size and sign.
pub(super) fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_numbers() {
        for (text, value) in [
            ("0", Some(0)),
            ("1500", Some(1500)),
            (" +1500", Some(1500)),
            ("0x5dc", Some(1500)),
            ("0X5DC", Some(1500)),
            ("02734", Some(1500)),
            ("00", Some(0)),
            ("08", None),
            ("0x", None),
            ("0x-1", None),
            ("", None),
            (" ", None),
            ("-", None),
            ("--1", None),
            ("+-1", None),
            ("12x", None),
            ("1 ", None),
            ("-1", Some(u64::MAX)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
        ] {
            assert_eq!(c_notation(text), value, "{text:?}");
        }
    }
}
