//! Sizes and times with their units, by flag and by variable.

use crate::support::run_cli;

/// What `--print-config` says of a flag that was given this value; `None` where the value is refused.
fn in_force(flag: &str, value: &str) -> Option<String> {
    let variable = format!("FS_CACHE_{}", flag.to_uppercase().replace('-', "_"));
    let by_flag = run_cli(&[&format!("--{flag}={value}"), "--print-config"], &[], &[]);
    let by_variable = run_cli(&["--print-config"], &[(&variable, value)], &[]);
    let text = String::from_utf8(by_flag.stdout.clone()).unwrap();
    assert_eq!(by_flag.stdout, by_variable.stdout, "{flag} {value}");
    if !by_flag.status.success() {
        let error = String::from_utf8(by_flag.stderr).unwrap();
        assert_eq!(by_flag.status.code(), Some(1));
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(&format!("\"{value}\" (--{flag}): expected ")), "{error}");
        return None;
    }
    let start = format!("{flag} = ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    Some(line.unwrap_or_else(|| panic!("no {flag} in {text}")).to_owned())
}

#[test]
fn sizes_take_the_units_that_people_write() {
    for (value, bytes) in [
        ("70000", "70000"),
        ("64K", "65536"),
        ("64k", "65536"),
        ("64KiB", "65536"),
        ("1M", "1048576"),
        ("3mib", "3145728"),
        ("0", "0"),
        ("2G", "2147483648"),
        ("1T", "1099511627776"),
    ] {
        for flag in ["far-range", "small-body", "small-body-memory", "revalidate-memory", "min-rate"] {
            // The one that only counts with a class to revalidate.
            let expected = if flag == "revalidate-memory" { "67108864" } else { bytes };
            assert_eq!(in_force(flag, value).as_deref(), Some(expected), "--{flag} {value}");
        }
    }
    assert_eq!(in_force("max-head", "32K").as_deref(), Some("32768"));
    assert_eq!(in_force("max-target", "2K").as_deref(), Some("2048"));
    assert_eq!(in_force("head-memory", "1G").as_deref(), Some("1073741824"));
}

#[test]
fn what_is_no_size_is_refused() {
    // 1000 or 1024? Whoever writes MB may mean either.
    for value in ["64KB", "1MB", "1B", "M", "iB", "1 M", "1.5M", "-1K", "+1K", "1KK", "1Kib2", "20000000T"] {
        assert_eq!(in_force("far-range", value), None, "{value}");
    }
    // Within the bounds of the flag, in whatever unit.
    assert_eq!(in_force("max-head", "32M"), None);
    assert_eq!(in_force("head-memory", "1K"), None);
    // Numbers of things have no unit.
    for flag in ["max-fields", "max-fills", "max-connections", "open-files", "resume-attempts", "workers"] {
        assert_eq!(in_force(flag, "1K"), None, "{flag}");
    }
}

#[test]
fn times_take_the_units_that_people_write() {
    for (value, seconds) in [
        ("90", "90"),
        ("1.5", "1.5"),
        ("90s", "90"),
        ("0.5s", "0.5"),
        ("250ms", "0.25"),
        ("10m", "600"),
        ("1.5h", "5400"),
        ("7d", "604800"),
        ("365d", "31536000"),
    ] {
        for flag in ["idle-timeout", "stall-timeout", "look-up-time", "sweep-partials", "head-timeout"] {
            assert_eq!(in_force(flag, value).as_deref(), Some(seconds), "--{flag} {value}");
        }
    }
    let args = ["--revalidate=x", "--revalidate-after=1d", "--stale-if-error=0s", "--print-config"];
    let text = String::from_utf8(run_cli(&args, &[], &[]).stdout).unwrap();
    assert!(text.contains("\nrevalidate-after = 86400\n"), "{text}");
    assert!(text.contains("\nstale-if-error = 0\n"), "{text}");
}

#[test]
fn what_is_no_time_is_refused() {
    for value in ["0", "0s", "s", "1 m", "1w", "1M", "1h30m", "-1s", "366d", "nand", "infs", "1e400"] {
        assert_eq!(in_force("idle-timeout", value), None, "{value}");
    }
    assert_eq!(in_force("revalidate-after", "heuristics"), None);
    assert_eq!(in_force("stale-if-error", "soon"), None);
}
