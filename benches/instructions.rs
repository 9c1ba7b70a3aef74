//! Does one operation a number of times, for `scripts/measure/instructions.sh`.
//!
//! Without arguments it lists the operations, one a line; with `OPERATION TIMES` it does one of them.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench that cannot start has nobody to report to"
)]

mod cases;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut all = cases::all().into_iter().map(|case| (format!("{}: {}", case.group, case.name), case.run));
    let [operation, times] = arguments.as_slice() else {
        all.for_each(|(name, _)| println!("{name}"));
        return;
    };
    let times: u32 = times.parse().expect("a number of times");
    let (_, run) = all.find(|(name, _)| name == operation).expect("an operation of the list");
    for _ in 0..times {
        run();
    }
}
