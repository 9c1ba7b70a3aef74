//! The command: arguments in, exit code out.

use std::io::Write;
use std::process::ExitCode;

use fs_caching_server::cli::{self, Request};
use fs_caching_server::server;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let result = cli::parse(arguments, &variable).and_then(|request| match request {
        Request::Serve(config) => server::run(*config),
        Request::Print(text) => {
            // A closed stdout is the reader's choice.
            drop(std::io::stdout().write_all(text.as_bytes()));
            Ok(())
        }
    });
    let Err(line) = result else { return ExitCode::SUCCESS };
    drop(writeln!(std::io::stderr(), "{}", line.trim_end()));
    ExitCode::FAILURE
}
