//! Time of each operation: `cargo bench`, or `cargo bench -- routing` for some of them.
#![allow(missing_docs, clippy::expect_used, reason = "a bench that cannot start has nobody to report to")]

mod cases;

use criterion::{Criterion, criterion_group, criterion_main};

fn operations(criterion: &mut Criterion) {
    for case in cases::all() {
        let mut group = criterion.benchmark_group(case.group);
        group.bench_function(case.name, |bencher| bencher.iter(|| (case.run)()));
        group.finish();
    }
}

criterion_group!(benches, operations);
criterion_main!(benches);
