//! The configuration in force, for `--print-config`: one `name = value` line for each option, by its long name,
//! then what the presets have added, as comments.

use std::time::Duration;

use super::settings::printable;
use crate::config::{Abandon, Config, IoChoice, Pinning, Revalidate, Sandbox, Workers};
use crate::http::caching::{After, IfError};
use crate::preset::{Extent, Preset};

/// The lines, each with its newline. Credentials in the URL are hidden.
pub(super) fn text(config: &Config) -> String {
    let mut text = String::new();
    for (name, value) in values(config) {
        line(&mut text, &format!("{name} = {}", printable(&value)));
    }
    for preset in &config.presets {
        explain(&mut text, preset);
    }
    text
}

/// Option and value, in the order of the usage.
fn values(config: &Config) -> Vec<(&'static str, String)> {
    let (limits, class) = (&config.limits, config.revalidate.as_ref());
    let policy = class.map(|class| class.policy).unwrap_or_default();
    let account = config.account.as_ref();
    let memory = class.map_or(Revalidate::MEMORY, |class| class.memory as u64);
    vec![
        ("cache-dir", config.cache_dir.display().to_string()),
        ("debug", switch(config.debug)),
        ("host", config.host.clone()),
        ("port", config.port.to_string()),
        ("regex", config.pattern.source().to_owned()),
        ("url", config.origin.url.clone()),
        ("origin-credentials", config.origin.credential_use.as_str().to_owned()),
        ("workers", workers(config.workers)),
        ("pin-cpus", pinning(&config.pin)),
        ("io", engine(config.io).to_owned()),
        ("connect-timeout", seconds(limits.connect_time)),
        ("response-timeout", seconds(limits.response_head_time)),
        ("stall-timeout", seconds(limits.stall_time)),
        ("idle-timeout", seconds(limits.idle_time)),
        ("drain-timeout", seconds(limits.drain_time)),
        ("far-range", limits.far_range.to_string()),
        ("small-body", limits.files.small_body.to_string()),
        ("small-body-memory", limits.files.body_memory.to_string()),
        ("open-files", limits.files.open_files.map_or("auto".to_owned(), |files| files.to_string())),
        ("look-up-time", seconds(limits.files.look_up_time)),
        ("follow-redirects", switch(config.follow_redirects)),
        ("rewrite-location", switch(config.rewrite_location)),
        ("cache-status", switch(config.cache_status)),
        ("resume-attempts", config.fills.resume_attempts.to_string()),
        ("abandon-fill", abandon(config.fills.abandon)),
        ("fill-query", config.fills.query.as_str().to_owned()),
        ("sweep-partials", config.fills.sweep.map_or(String::new(), seconds)),
        ("no-sync", switch(!config.fills.sync)),
        ("revalidate", class.map_or("", |class| class.pattern.source()).to_owned()),
        ("revalidate-after", after(policy.after)),
        ("revalidate-memory", memory.to_string()),
        ("stale-if-error", if_error(policy.if_error)),
        ("stale-if-error-always", switch(policy.if_error_always)),
        ("fill-fields", class.map_or(String::new(), |class| class.fields.join(","))),
        ("keep-fields", policy.stored_anyway.names().collect::<Vec<_>>().join(",")),
        ("offline", switch(config.offline)),
        ("cdn-cache-control", switch(policy.targeted)),
        ("head-timeout", seconds(limits.head_time)),
        ("max-head", limits.head_bytes.to_string()),
        ("max-fields", limits.head_fields.to_string()),
        ("max-target", limits.target_bytes.to_string()),
        ("head-memory", limits.head_memory.to_string()),
        ("min-rate", limits.min_rate.to_string()),
        ("max-connections", most(limits.connections, "auto")),
        ("max-client-connections", most(limits.client_connections, "none")),
        ("max-origin-connections", most(limits.origin_connections, "auto")),
        ("max-fills", most(limits.fills, "none")),
        ("max-pipelined", most(limits.pipelined, "none")),
        ("sandbox", sandbox(config.sandbox).to_owned()),
        ("user", account.and_then(|account| account.user).map_or(String::new(), |id| id.to_string())),
        ("group", account.map_or(String::new(), |account| account.group.to_string())),
        ("preset", config.presets.iter().map(|preset| preset.name).collect::<Vec<_>>().join(",")),
    ]
}

/// What a preset stands for, part by part.
fn explain(text: &mut String, preset: &Preset) {
    let name = preset.name;
    for (class, patterns) in [("immutable", preset.immutable), ("revalidate", preset.revalidate)] {
        for pattern in patterns {
            line(text, &format!("# {name} {class}: {pattern}"));
        }
    }
    for pattern in preset.documents {
        line(text, &format!("# {name} never a file at its path: {pattern}"));
    }
    for set in preset.sets {
        let extent = match set.extent {
            Extent::Directory => "in one directory".to_owned(),
            Extent::Below(directory) => format!("below one directory in {directory}"),
        };
        line(text, &format!("# {name} one set {extent}: {}", set.members.join("|")));
    }
    if let Some(index) = &preset.index {
        line(text, &format!("# {name} packages listed in: {}", index.paths.join("|")));
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn switch(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}

fn most(most: Option<usize>, none: &str) -> String {
    most.map_or(none.to_owned(), |most| most.to_string())
}

fn abandon(when: Abandon) -> String {
    match when {
        Abandon::Never => "never".to_owned(),
        Abandon::Always => "always".to_owned(),
        Abandon::Below(percent) => percent.to_string(),
    }
}

fn sandbox(sandbox: Sandbox) -> &'static str {
    match sandbox {
        Sandbox::Auto => "auto",
        Sandbox::On => "on",
        Sandbox::Off => "off",
    }
}

fn after(after: After) -> String {
    match after {
        After::Time(time) => seconds(time),
        After::Heuristic => "heuristic".to_owned(),
    }
}

fn if_error(if_error: IfError) -> String {
    match if_error {
        IfError::AsSaid => String::new(),
        IfError::Time(time) => seconds(time),
        IfError::Forever => "forever".to_owned(),
    }
}

fn workers(workers: Workers) -> String {
    match workers {
        Workers::Auto => "auto".to_owned(),
        Workers::Count(count) => count.to_string(),
    }
}

fn pinning(pinning: &Pinning) -> String {
    match pinning {
        Pinning::Off => String::new(),
        Pinning::Auto => "auto".to_owned(),
        Pinning::List(cpus) => cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

fn engine(io: IoChoice) -> &'static str {
    match io {
        IoChoice::Auto => "auto",
        IoChoice::Uring => "uring",
        IoChoice::Poll => "poll",
    }
}

fn seconds(time: Duration) -> String {
    time.as_secs_f64().to_string()
}

#[cfg(test)]
mod tests {
    use super::super::options::OPTIONS;
    use super::super::{Request, parse};

    /// Options that print something else and end the program.
    const SILENT: [&str; 4] = ["help", "updates", "version", "print-config"];

    fn printed(args: &[&str], vars: &[(&str, &str)]) -> String {
        let env =
            |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        let args: Vec<_> = args.iter().chain(&["--print-config"]).collect();
        match parse(args, &env).unwrap() {
            Request::Print(text) => text,
            Request::Serve(config) => unreachable!("{config:?}"),
        }
    }

    fn value(text: &str, name: &str) -> String {
        let start = format!("{name} = ");
        let line =
            text.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| unreachable!("{name}"));
        line[start.len()..].to_owned()
    }

    #[test]
    fn every_option_is_printed() {
        let text = printed(&["-U", "http://h"], &[]);
        for option in OPTIONS.iter().filter(|option| !SILENT.contains(&option.long)) {
            value(&text, option.long);
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(" = ").next().unwrap();
            assert!(OPTIONS.iter().any(|option| option.long == name), "{line}");
        }
    }

    #[test]
    fn it_can_be_printed_before_the_origin_and_the_directory_are_there() {
        let text = printed(&["-c", "/nonexistent/x", "--preset", "apt"], &[]);
        assert_eq!(
            (value(&text, "url"), value(&text, "cache-dir")),
            (String::new(), "/nonexistent/x".into())
        );
        assert!(!std::path::Path::new("/nonexistent").exists());
    }

    #[test]
    fn what_is_printed_is_what_was_given() {
        let args =
            ["-U", "http://u:p@h/x/", "-d", "--pin-cpus", "0,2-3", "--idle-timeout=1.5", "-r", "a\u{1}b"];
        let text = printed(&args, &[("FS_CACHE_PORT", "81"), ("FS_CACHE_PRESET", "pip,npm")]);
        for (name, expected) in [
            ("url", "http://***@h/x"),
            ("debug", "on"),
            ("pin-cpus", "0,2,3"),
            ("idle-timeout", "1.5"),
            ("stall-timeout", "60"),
            ("port", "81"),
            ("io", "auto"),
            ("preset", "pip,npm"),
        ] {
            assert_eq!(value(&text, name), expected, "{name}");
        }
        assert!(value(&text, "regex").starts_with("(?:a\\u{1}b)|(?:"), "{text}");
        assert!(text.contains("\n# npm immutable: /-/[^/]+\\.tgz$\n"), "{text}");
    }
}
