use super::*;
use crate::rt::poll;
use futures_lite::future::poll_once;
use proptest::prelude::*;
use std::pin::pin;

const A: usize = 0;
const B: usize = 1;

fn budget(total: usize) -> Arc<Budget> {
    Budget::new(total, &[Share { least: 2, most: 8 }, Share { least: 3, most: total }])
}

fn on_a_loop<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    poll::run(test).unwrap();
}

#[test]
fn a_share_leaves_the_others_their_least() {
    let budget = budget(10);
    let most = budget.try_take(A, 7).unwrap();
    assert!(budget.try_take(A, 1).is_none());
    let others = budget.try_take(B, 3).unwrap();
    assert!(budget.try_take(B, 1).is_none());
    drop(most);
    assert!(budget.try_take(B, 6).is_none());
    drop((budget.try_take(B, 5).unwrap(), others));
    assert_eq!(budget.used(), [0, 0]);
    assert!(budget.try_take(A, 9).is_none(), "more than its most");
}

#[test]
fn a_tiny_budget_has_something_for_everybody() {
    let budget = budget(1);
    assert!(budget.try_take(A, 2).is_some() && budget.try_take(B, 3).is_some());
}

#[test]
fn who_waits_is_served_in_the_order_of_asking_and_who_leaves_holds_up_nobody() {
    on_a_loop(|| async {
        let budget = budget(10);
        let mut all = budget.try_take(A, 7).unwrap();
        let mut first = pin!(budget.take(A, 3, None));
        let mut last = pin!(budget.take(A, 1, None));
        {
            let mut gone = pin!(budget.take(A, 7, None));
            assert!(poll_once(first.as_mut()).await.is_none());
            assert!(poll_once(gone.as_mut()).await.is_none());
            assert!(poll_once(last.as_mut()).await.is_none());
        }
        assert_eq!(budget.missing(), 4);
        all.give_back(1);
        assert!(poll_once(last.as_mut()).await.is_none(), "out of turn");
        assert!(budget.try_take(A, 1).is_none(), "before those who wait");
        all.give_back(3);
        let last = poll_once(last.as_mut()).await.unwrap();
        drop(all);
        let first = poll_once(first.as_mut()).await.unwrap();
        assert_eq!((budget.used(), budget.missing()), (vec![4, 0], 0));
        drop((first, last));
        assert_eq!(budget.used(), [0, 0]);
    });
}

fn client(address: &str) -> Option<Holder> {
    Some(address.parse::<IpAddr>().unwrap().into())
}

#[test]
fn what_one_client_has_is_three_times_what_it_leaves_at_the_most() {
    let budget = Budget::new(16, &[Share { least: 0, most: 16 }]);
    let all = |address| {
        let address = client(address);
        std::iter::from_fn(|| budget.try_take_for(A, 1, address)).collect::<Vec<_>>()
    };
    // Of one network of 2^64.
    let first = [all("2001:db8::1"), all("2001:db8::2:0:0:1")];
    assert_eq!(first.each_ref().map(Vec::len), [12, 0]);
    assert_eq!(all("::ffff:10.0.0.1").len(), 3);
    assert!(budget.try_take_for(A, 1, client("10.0.0.1")).is_some_and(|_| true));
}

#[test]
fn a_few_are_not_divided() {
    let budget = Budget::new(3, &[Share { least: 0, most: 3 }]);
    let all = std::iter::from_fn(|| budget.try_take_for(A, 1, client("10.0.0.1"))).collect::<Vec<_>>();
    assert_eq!(all.len(), 3);
}

#[test]
fn who_has_his_part_waits_and_holds_up_nobody() {
    on_a_loop(|| async {
        let budget = Budget::new(4, &[Share { least: 0, most: 4 }, Share { least: 0, most: 4 }]);
        let (one, other) = (client("10.0.0.1"), client("10.0.0.2"));
        let mut all = budget.try_take_for(A, 3, one).unwrap();
        let mut second = pin!(budget.take(A, 1, one));
        assert!(poll_once(second.as_mut()).await.is_none());
        let theirs = budget.try_take_for(A, 1, other).unwrap();
        let mut third = pin!(budget.take(A, 1, other));
        assert!(poll_once(third.as_mut()).await.is_none());
        drop(theirs);
        assert!(poll_once(second.as_mut()).await.is_none(), "more than his part");
        let third = poll_once(third.as_mut()).await.unwrap();
        all.give_back(2);
        drop(third);
        drop(poll_once(second.as_mut()).await.unwrap());
        // It counts where it is.
        all.move_to(B);
        assert_eq!((budget.used(), budget.state().shares[A].held.len()), (vec![0, 1], 0));
    });
}

#[test]
fn a_permit_can_be_divided_and_change_its_share() {
    let budget = budget(10);
    let mut whole = budget.try_take(A, 3).unwrap();
    let mut part = whole.split_to(2);
    assert!(part.try_move(B));
    assert_eq!(budget.used(), [2, 1]);
    let rest = budget.try_take(B, 7).unwrap();
    assert!(!whole.try_move(B), "there is no room");
    whole.move_to(B);
    assert_eq!(budget.used(), [0, 10]);
    drop((whole, part, rest));
    assert_eq!(budget.used(), [0, 0]);
}

proptest! {
    #[test]
    fn never_more_than_there_is(takes in prop::collection::vec((0..2_usize, 1..6_usize, 0..4_usize), 0..80)) {
        let budget = budget(12);
        let mut held = Vec::new();
        for (share, count, drops) in takes {
            held.extend(budget.try_take(share, count));
            for _ in 0..drops.min(held.len()) {
                held.swap_remove(0);
            }
            let (used, counted) = (budget.used(), held.iter().map(|permit| permit.claim.count).sum::<usize>());
            prop_assert_eq!(used.iter().sum::<usize>(), counted);
            prop_assert!(used[A].max(2) + used[B].max(3) <= 12);
        }
    }
}
