//! Several futures at a time in one task.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Runs the futures, at most `at_once` at a time, until all are done or a result is the `last` that matters; those that
/// still run are dropped. The results are in the order of completion.
pub async fn gather<T, F: Future<Output = T>>(
    at_once: usize,
    futures: impl IntoIterator<Item = F>,
    last: impl Fn(&T) -> bool,
) -> Vec<T> {
    let mut waiting = futures.into_iter();
    let mut running: Vec<Pin<Box<F>>> = Vec::new();
    let mut results = Vec::new();
    poll_fn(|context| {
        loop {
            running.extend(waiting.by_ref().take(at_once.saturating_sub(running.len())).map(Box::pin));
            let before = results.len();
            running.retain_mut(|future| match future.as_mut().poll(context) {
                Poll::Ready(result) => {
                    results.push(result);
                    false
                }
                Poll::Pending => true,
            });
            if running.is_empty() && results.len() == before || results[before..].iter().any(&last) {
                running.clear();
                return Poll::Ready(());
            }
            // The places of those that are done go to others, which have to be polled once.
            if results.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await;
    results
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, yield_now};
    use std::cell::Cell;

    #[test]
    fn no_more_than_may_run_at_once_and_all_come_to_their_end() {
        let (running, most) = (Cell::new(0), Cell::new(0));
        let one = |number: usize| {
            let (running, most) = (&running, &most);
            async move {
                running.set(running.get() + 1);
                most.set(most.get().max(running.get()));
                for _ in 0..=number % 3 {
                    yield_now().await;
                }
                running.set(running.get() - 1);
                number
            }
        };
        let mut results = block_on(gather(4, (0..20).map(one), |_| false));
        results.sort_unstable();
        assert_eq!((results, most.get()), ((0..20).collect(), 4));
        assert!(block_on(gather(4, (0..0).map(one), |_| false)).is_empty());
    }

    #[test]
    fn nothing_is_begun_after_the_last_that_matters() {
        let begun = Cell::new(0);
        let one = |number: usize| {
            begun.set(begun.get() + 1);
            async move {
                yield_now().await;
                number
            }
        };
        let results = block_on(gather(2, (0..20).map(one), |number| *number == 1));
        assert_eq!((results, begun.get()), (vec![0, 1], 2));
    }
}
