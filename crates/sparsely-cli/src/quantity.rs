//! Numbers with units, as people write and read them.

use anyhow::{Result, bail};

/// Decimal prefixes.
const PREFIXES: [(&str, f64); 6] =
    [("k", 1e3), ("K", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12), ("P", 1e15)];
/// Binary prefixes, of bytes.
const BINARY: [(&str, u32); 4] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40)];

/// Reads what the flag `--name` was given: a number above 0, a prefix and one of `units` (or none).
pub(crate) fn parse(name: &str, text: &str, units: &[&str], example: &str) -> Result<f64> {
    match value(text, units) {
        Some(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => bail!(
            "--{name}: expected a number above 0 with a unit, such as {example}, got `{text}`"
        ),
    }
}

fn value(text: &str, units: &[&str]) -> Option<f64> {
    let text = text.trim();
    let number_end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, rest) = text.split_at(number_end);
    let rest = rest.trim_start();
    // The longest unit first: `B/s` before `B`.
    let mut units = units.to_vec();
    units.sort_by_key(|unit| std::cmp::Reverse(unit.len()));
    let prefix = units.iter().find_map(|unit| rest.strip_suffix(unit))?.trim_end();
    let binary = BINARY.map(|(name, bits)| (name, 2_f64.powi(bits as i32)));
    let mut scales = PREFIXES.iter().chain(&binary).copied().chain([("", 1.0)]);
    let (_, scale) = scales.find(|(name, _)| *name == prefix)?;
    Some(number.parse::<f64>().ok()? * scale)
}

/// Reads a time that the flag `--name` was given, such as `3ms` or `0.5 s`, in seconds.
pub(crate) fn time(name: &str, text: &str) -> Result<f64> {
    let units = [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let mut scaled =
        units.iter().filter_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)));
    let seconds =
        scaled.find_map(|(number, scale)| Some(number.trim().parse::<f64>().ok()? * scale));
    match seconds {
        Some(seconds) if seconds.is_finite() && seconds > 0.0 => Ok(seconds),
        _ => bail!("--{name}: expected a time above 0, such as 3ms, got `{text}`"),
    }
}

/// Three or four digits and a prefix: `36.55 M`.
pub(crate) fn short(value: f64) -> String {
    with_unit(value, "").trim_end().to_string()
}

/// Three or four digits, a prefix and the unit: `57.02 MB`.
pub(crate) fn with_unit(value: f64, unit: &str) -> String {
    let prefixes = ["", "k", "M", "G", "T", "P", "E"];
    let (mut scaled, mut prefix) = (value, 0);
    while scaled >= 999.95 && prefix + 1 < prefixes.len() {
        scaled /= 1000.0;
        prefix += 1;
    }
    let decimals = match scaled {
        _ if prefix == 0 => 0,
        99.995.. => 1,
        _ => 2,
    };
    format!("{scaled:.decimals$} {}{unit}", prefixes[prefix])
}

/// `57.02 MB`.
pub(crate) fn bytes(value: f64) -> String {
    with_unit(value, "B")
}

/// `12.3 ms`, `1.23 s`.
pub(crate) fn seconds(value: f64) -> String {
    if value < 0.99995 { format!("{:.1} ms", 1e3 * value) } else { format!("{value:.2} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_with_prefix_and_unit() {
        let read = |text: &str| parse("memory", text, &["B"], "80GB").ok();
        assert_eq!(read("80GB"), Some(80e9));
        assert_eq!(read("1.5 TB"), Some(1.5e12));
        assert_eq!(read("80GiB"), Some(80.0 * 1024_f64.powi(3)));
        assert_eq!(read("7B"), Some(7.0));
        for wrong in ["80XB", "80", "GB", "", "-1GB", "0GB", "1.2.3GB", "80GBs", "80 G", "NaNB"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let rate = |text: &str| parse("link", text, &["B/s", "B"], "50GB/s").ok();
        assert_eq!((rate("50GB/s"), rate("50GB"), rate("50Gb/s")), (Some(50e9), Some(50e9), None));
        let flops = |text: &str| parse("flops", text, &["", "FLOPS", "FLOP/s"], "400T").ok();
        assert_eq!((flops("400T"), flops("1PFLOPS"), flops("x")), (Some(4e14), Some(1e15), None));
    }

    #[test]
    fn times_are_read_with_their_unit() {
        let read = |text: &str| time("budget", text).ok();
        assert_eq!([read("3ms"), read("0.5 s"), read("1s")], [Some(3e-3), Some(0.5), Some(1.0)]);
        assert_eq!([read("250us"), read("250µs")], [Some(250.0 * 1e-6); 2]);
        for wrong in ["3", "ms", "", "0ms", "-1ms", "3m", "infs", "NaNs", "3 ms s"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn quantities_are_written_with_three_or_four_digits() {
        let written =
            [0.0, 7.0, 999.0, 1000.0, 99_990.0, 100_000.0, 999_949.0, 999_950.0, 1.4705e10];
        let texts = written.map(short);
        let expected =
            ["0", "7", "999", "1.00 k", "99.99 k", "100.0 k", "999.9 k", "1.00 M", "14.71 G"];
        assert_eq!(texts, expected);
        assert_eq!(bytes(57_019_000.0), "57.02 MB");
        assert_eq!(bytes(7.0), "7 B");
        assert_eq!([seconds(0.0123), seconds(0.9998)], ["12.3 ms", "999.8 ms"]);
        assert_eq!([seconds(0.99999), seconds(61.0)], ["1.00 s", "61.00 s"]);
    }
}
