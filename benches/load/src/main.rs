//! The tools of `scripts/measure/bench.py`: a load generator, a checker, an origin, idle connections, a
//! starter, and a maker of files. Linux only. Each prints one JSON object when it is done.
//!
//! Every subcommand takes options of the form `--name value`; see the module of its name.

mod args;
mod cold;
mod content;
mod get;
mod head;
mod idle;
mod make;
mod origin;
mod stats;
mod sys;
mod tally;
mod verify;

use args::Args;

fn main() {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let result = Args::parse(words).and_then(|args| match command.as_str() {
        "get" => get::run(&args),
        "verify" => verify::run(&args),
        "origin" => origin::run(&args),
        "cold" => cold::run(&args),
        "idle" => idle::run(&args),
        "make" => make::run(&args),
        _ => Err("usage: load get|verify|origin|idle|cold|make --OPTION VALUE ...".into()),
    });
    if let Err(message) = result {
        eprintln!("load {command}: {message}");
        std::process::exit(1);
    }
}
