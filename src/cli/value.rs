//! Values: how they are read, and how they are shown.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::{Abandon, Choice, CredentialUse, FillQuery, IoChoice, Pinning, Sandbox, Workers};
use crate::http::caching::stored::OF_ONE_USER;
use crate::http::caching::{After, IfError, StoredAnyway, vary};
use crate::preset::{self, PRESETS, Preset};

/// Units of sizes, each 1024 times the one before.
const SIZES: [char; 4] = ['k', 'm', 'g', 't'];
/// Units of times, in seconds; `ms` before the `s` that it ends in.
const TIMES: [(&str, f64); 5] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];
/// Beyond a year clocks may overflow, and no client waits.
const SECONDS: RangeInclusive<f64> = 0.001..=365.0 * 86_400.0;

/// What `--generate` prints.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Document {
    Man,
    Bash,
    Zsh,
    Fish,
    /// The tables of docs/reference.md.
    Reference,
}

impl Choice for Document {
    const WORDS: &'static [(Self, &'static str)] = &[
        (Self::Man, "man"),
        (Self::Bash, "bash"),
        (Self::Zsh, "zsh"),
        (Self::Fish, "fish"),
        (Self::Reference, "reference"),
    ];
}

/// A number of any width.
pub(super) trait Number {
    fn get(&self) -> u64;
    fn set(&mut self, number: u64);
}

impl<T: Copy + TryFrom<u64> + TryInto<u64>> Number for T {
    fn get(&self) -> u64 {
        (*self).try_into().unwrap_or(u64::MAX)
    }

    fn set(&mut self, number: u64) {
        // What a 32-bit type cannot hold is its greatest number.
        let number = T::try_from(number).or_else(|_| T::try_from(u32::MAX.into()));
        *self = number.unwrap_or(*self);
    }
}

/// Reads a whole number; with `sized`, a size: `K`, `M`, `G` and `T` may stand behind it, or `KiB` and so on.
pub(super) fn number(text: &str, range: &RangeInclusive<u64>, sized: bool) -> Result<u64, String> {
    let (digits, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let unit = unit.to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").filter(|unit| !unit.is_empty()).unwrap_or(&unit);
    let scale = match SIZES.iter().position(|size| unit.chars().eq([*size])) {
        _ if unit.is_empty() => Some(1),
        Some(step) if sized => 1024_u64.checked_pow(u32::try_from(step + 1).unwrap_or(u32::MAX)),
        _ => None,
    };
    let number = digits.parse::<u64>().ok().zip(scale).and_then(|(number, scale)| number.checked_mul(scale));
    number.filter(|number| range.contains(number)).ok_or_else(|| {
        let bounds = match (*range.start(), *range.end()) {
            (0, u64::MAX) => String::new(),
            (least, u64::MAX) => format!(" from {least}"),
            (least, most) => format!(" from {least} to {most}"),
        };
        format!("expected a whole number{bounds}{}", if sized { ", or a size such as 64K or 8M" } else { "" })
    })
}

/// Reads a number from `least`, or the word for no limit.
pub(super) fn limit(text: &str, least: u64, none: &str) -> Result<Option<usize>, String> {
    if text == none {
        return Ok(None);
    }
    let number = number(text, &(least..=u64::MAX), false);
    let number = number.map_err(|why| why.replacen("expected ", &format!("expected {none} or "), 1))?;
    Ok(Some(usize::try_from(number).unwrap_or(usize::MAX)))
}

/// Reads a port, as the original did.
pub(super) fn port(text: &str) -> Result<u16, String> {
    let port = leading_number(text).and_then(|port| u16::try_from(port).ok());
    port.ok_or_else(|| "expected a number from 0 to 65535".to_owned())
}

/// Reads a number as JavaScript's parseInt does: white space before and anything behind is ignored.
pub(super) fn leading_number(text: &str) -> Option<i64> {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit);
    let add = |number: Option<i64>, digit| {
        Some(number.unwrap_or(0).saturating_mul(10).saturating_add(i64::from(digit - b'0')))
    };
    digits.fold(None, add).map(|number| sign * number)
}

/// Reads a time: seconds, or another unit that stands behind the number. Fractions are allowed.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    time_or(text, "")
}

/// The same; with a `word` that an error names as well, 0 is no time at all.
fn time_or(text: &str, word: &str) -> Result<Duration, String> {
    let unit = TIMES.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)));
    let (number, scale) = unit.unwrap_or((text, 1.0));
    let seconds = number.parse::<f64>().ok().map(|number| number * scale);
    let fits = |seconds: &f64| SECONDS.contains(seconds) || (!word.is_empty() && *seconds == 0.0);
    seconds.filter(fits).map(Duration::from_secs_f64).ok_or_else(|| {
        let word = if word.is_empty() { String::new() } else { format!(", 0 or {word}") };
        format!("expected a number of seconds from 0.001 to a year{word}, or a time such as 90s, 10m or 2h")
    })
}

/// A time in seconds.
pub(super) fn seconds(time: Duration) -> String {
    time.as_secs_f64().to_string()
}

/// What `Flag::show` shows, as people write it: `60s`, `64K`.
pub(super) fn with_unit(shown: &str, value: &str) -> String {
    match (value, shown.parse::<u64>()) {
        ("time", Ok(seconds @ 1..)) => format!("{seconds}s"),
        ("size", Ok(size @ 1..)) => {
            let steps = SIZES.len().min(size.trailing_zeros() as usize / 10);
            let unit = steps.checked_sub(1).map(|step| SIZES[step].to_ascii_uppercase().to_string());
            format!("{}{}", size >> (10 * steps), unit.unwrap_or_default())
        }
        _ => shown.to_owned(),
    }
}

/// A value that is not just a number.
pub(super) trait Value {
    /// Replaces it by what the text says.
    fn read(&mut self, text: &str) -> Result<(), String>;
    /// As it would be written; empty where there is none.
    fn show(&self) -> String;
    /// Words that it may be.
    fn words(&self) -> Vec<&'static str>;
}

/// For each type: how it is read, how it is shown, and the words that it may be.
macro_rules! values {
    ($($type:ty: $read:expr, $show:expr, $words:expr;)+) => { $(
        impl Value for $type {
            fn read(&mut self, text: &str) -> Result<(), String> {
                let read: fn(&str) -> Result<Self, String> = $read;
                *self = read(text)?;
                Ok(())
            }

            fn show(&self) -> String {
                let show: fn(&Self) -> String = $show;
                show(self)
            }

            fn words(&self) -> Vec<&'static str> {
                $words.to_vec()
            }
        }
    )+ };
}

values! {
    CredentialUse: Choice::choose, |which| which.word().to_owned(), Self::all_words();
    IoChoice: Choice::choose, |engine| engine.word().to_owned(), Self::all_words();
    Sandbox: Choice::choose, |when| when.word().to_owned(), Self::all_words();
    Workers: Workers::parse, |workers| match workers {
        Workers::Auto => "auto".to_owned(),
        Workers::Count(count) => count.to_string(),
    }, ["auto"];
    Pinning: Pinning::parse, |pinning| match pinning {
        Pinning::Off => String::new(),
        Pinning::Auto => "auto".to_owned(),
        Pinning::List(cpus) => cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }, ["auto"];
    Abandon: Abandon::parse, |when| match when {
        Abandon::Never => "never".to_owned(),
        Abandon::Always => "always".to_owned(),
        Abandon::Below(percent) => percent.to_string(),
    }, ["never", "always"];
    After: |text| match text {
        "heuristic" => Ok(After::Heuristic),
        _ => time_or(text, "heuristic").map(After::Time),
    }, |after| match after {
        After::Time(time) => seconds(*time),
        After::Heuristic => "heuristic".to_owned(),
    }, ["heuristic"];
    IfError: |text| match text {
        "forever" => Ok(IfError::Forever),
        _ => time_or(text, "forever").map(IfError::Time),
    }, |if_error| match if_error {
        IfError::AsSaid => String::new(),
        IfError::Time(time) => seconds(*time),
        IfError::Forever => "forever".to_owned(),
    }, ["forever"];
    // Age of partial files that are removed, if any are.
    Option<Duration>: |text| time(text).map(Some), |time| time.map_or_else(String::new, seconds), [];
    // Without a value the default depends on other flags.
    Option<FillQuery>: |text| FillQuery::choose(text).map(Some),
        |policy| policy.map_or("", FillQuery::word).to_owned(),
        FillQuery::all_words();
    StoredAnyway: StoredAnyway::parse, |fields| fields.names().collect::<Vec<_>>().join(","), OF_ONE_USER;
    // Names of request fields.
    Vec<String>: vary::names, |names| names.join(","), [];
    Vec<&'static Preset>: preset::parse,
        |presets| presets.iter().map(|preset| preset.name).collect::<Vec<_>>().join(","),
        PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>();
}
