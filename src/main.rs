//! The command: arguments in, exit code out.

use std::io::Write;
use std::process::ExitCode;

use fs_caching_server::cli::{self, Request};
use fs_caching_server::server;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    match cli::parse(arguments, &variable) {
        Ok(Request::Print(text)) => {
            // A closed stdout is the reader's choice.
            drop(std::io::stdout().write_all(text.as_bytes()));
            ExitCode::SUCCESS
        }
        Ok(Request::Serve(config)) => match server::run(*config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(line) => fail(&line),
        },
        Err(error) => fail(&error.0),
    }
}

fn fail(line: &str) -> ExitCode {
    drop(writeln!(std::io::stderr(), "{}", line.trim_end()));
    ExitCode::FAILURE
}
