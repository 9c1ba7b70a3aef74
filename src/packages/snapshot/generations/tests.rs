//! Tests of [`super`].

use std::net::SocketAddr;

use super::pins::{PINS, SAME_ADDRESS, SAME_CONNECTION, SHARE};
use super::*;
use crate::packages::snapshot::member::MemberState;

fn key(name: &str) -> Key {
    Key::beneath("", name).unwrap()
}

fn id(root: &str) -> SetId {
    SetId { rule: 0, root: root.to_owned() }
}

fn who(port: u16) -> Who {
    Who(SocketAddr::from(([10, 0, 0, 1], port)))
}

fn at(host: u8, port: u16) -> Who {
    Who(SocketAddr::from(([10, 0, 0, host], port)))
}

fn member(value: u8) -> Member {
    Member { target: Arc::from([value]), what: MemberState::Filling(Arc::default()) }
}

fn generation(members: &[(&str, u8)]) -> Arc<Generation> {
    Generation::new(members.iter().map(|&(name, value)| (key(name), member(value))).collect())
}

/// A client begins with a set.
fn begin(sets: &Sets, who: Who, root: &str) -> (Arc<Set>, Arc<Generation>) {
    let (set, generation) = (sets.get(&id(root)), generation(&[("a", 1)]));
    sets.pin(who, &id(root), &key("a"), (&set, &generation), (true, Access::Read));
    (set, generation)
}

fn is_pinned(sets: &Sets, who: Who, root: &str) -> bool {
    sets.pinned(who, &id(root), &key("b")).is_some()
}

#[test]
fn a_client_stays_with_its_generation_until_it_asks_for_a_member_again() {
    let sets = Sets::default();
    assert!(sets.pinned(who(1), &id("x"), &key("a")).is_none());
    let (set, old) = begin(&sets, who(1), "x");
    let pinned = |port, name: &str| sets.pinned(who(port), &id("x"), &key(name));
    assert!(Arc::ptr_eq(&pinned(1, "b").unwrap(), &old));
    assert!(pinned(1, "a").is_none());
    sets.pin(who(1), &id("x"), &key("b"), (&set, &old), (false, Access::Read));
    assert!(pinned(1, "a").is_none() && pinned(1, "b").is_none() && pinned(1, "c").is_some());
    // Anew: what was had before counts no more.
    sets.pin(who(1), &id("x"), &key("a"), (&set, &old), (true, Access::Read));
    assert!(pinned(1, "b").is_some());
    assert!(sets.pinned(who(1), &id("y"), &key("b")).is_none());
}

#[test]
fn a_head_moves_only_a_client_that_has_read_nothing() {
    let sets = Sets::default();
    let (set, [old, new]) = (sets.get(&id("x")), [1, 2].map(|value| generation(&[("a", value)])));
    let pin = |generation, name: &str, how| sets.pin(who(1), &id("x"), &key(name), (&set, generation), how);
    let is = |name: &str, generation| {
        sets.pinned(who(1), &id("x"), &key(name)).is_some_and(|pinned| Arc::ptr_eq(&pinned, generation))
    };
    pin(&old, "a", (true, Access::Head));
    assert!(is("b", &old) && !is("a", &old));
    pin(&new, "a", (true, Access::Head));
    assert!(is("b", &new));
    // Read nothing yet: `a` counts no more.
    pin(&new, "b", (false, Access::Read));
    assert!(is("a", &new) && !is("b", &new));
    for begins in [false, true] {
        pin(&old, "b", (begins, Access::Head));
        pin(&new, "c", (false, Access::Head));
        assert!(is("a", &new) && is("c", &new) && !is("b", &new));
    }
    pin(&new, "b", (true, Access::Head));
    pin(&old, "b", (true, Access::Head));
    assert!(is("a", &new));
    pin(&old, "b", (true, Access::Read));
    assert!(is("a", &old));
}

#[test]
fn a_connection_goes_before_its_address_and_a_new_one_is_taken_for_the_same_client() {
    let sets = Sets::default();
    let ((_, old), (_, new)) = (begin(&sets, who(1), "x"), begin(&sets, who(2), "x"));
    let pinned = |port, name: &str| sets.pinned(who(port), &id("x"), &key(name));
    assert!(Arc::ptr_eq(&pinned(1, "b").unwrap(), &old));
    assert!(Arc::ptr_eq(&pinned(2, "b").unwrap(), &new));
    assert!(Arc::ptr_eq(&pinned(3, "b").unwrap(), &new));
    assert!(pinned(3, "a").is_none());
    let later = Instant::now() + SAME_ADDRESS;
    assert!(sets.table.lock().pins.get(who(3), &id("x"), later).is_none());
    assert!(sets.table.lock().pins.get(who(1), &id("x"), later).is_some());
}

#[test]
fn what_was_only_asked_about_is_forgotten() {
    let sets: Sets = Sets::default();
    let asked = sets.get(&id("x"));
    assert!(Arc::ptr_eq(&asked, &sets.get(&id("x"))));
    for number in 0..10_000 {
        sets.get(&id(&number.to_string()));
    }
    assert!(sets.table.lock().lately.is_empty() && sets.table.lock().all.len() <= FORGOTTEN);
}

#[test]
fn what_a_client_begins_takes_nothing_from_another_or_from_itself() {
    let sets = Sets::default();
    let (mine, _) = begin(&sets, at(1, 1), "mine");
    for number in 0..2 * SETS {
        begin(&sets, at(2, 1), &number.to_string());
    }
    assert!((0..2 * SETS).all(|number| is_pinned(&sets, at(2, 1), &number.to_string())));
    for number in 0..2 * SETS {
        begin(&sets, at(3 + u8::try_from(number % 8).unwrap(), 1), &format!("many{number}"));
    }
    assert!(is_pinned(&sets, at(1, 1), "mine") && Arc::ptr_eq(&mine, &sets.get(&id("mine"))));
    assert_eq!(sets.table.lock().lately.len(), SETS);
}

#[test]
fn a_set_that_nobody_goes_on_with_makes_room() {
    let sets = Sets::default();
    let early = Arc::downgrade(&begin(&sets, at(1, 1), "early").0);
    for number in 0..SETS {
        begin(&sets, at(2, 1), &number.to_string());
    }
    assert!(early.upgrade().is_some());
    sets.table.lock().pins.purge(Instant::now() + SAME_CONNECTION);
    assert!(early.upgrade().is_none());
}

#[test]
fn pins_are_bounded_and_no_address_has_more_than_its_share() {
    let sets = Sets::default();
    begin(&sets, at(1, 1), "x");
    for port in 0..20_000 {
        begin(&sets, at(2, port), "x");
    }
    assert!(is_pinned(&sets, at(1, 1), "x") && is_pinned(&sets, at(2, 0), "x"));
    assert_eq!(sets.table.lock().pins.len(), SHARE + 2);
    for host in 3..9 {
        for port in 0..20_000 {
            begin(&sets, at(host, port), "x");
        }
    }
    assert_eq!(sets.table.lock().pins.len(), PINS);
    assert!(is_pinned(&sets, at(1, 1), "x") && is_pinned(&sets, at(2, 0), "x"));
}

#[test]
fn generations_are_bounded_and_the_one_whose_clients_are_silent_goes_first() {
    let sets = Sets::default();
    let (set, _) = begin(&sets, who(1), "x");
    let turn = RefreshTurn(Arc::new(Held(Arc::clone(&set))));
    let all: Vec<_> = (0..GENERATIONS + 3).map(|_| generation(&[("a", 1)])).collect();
    for generation in &all {
        turn.switch(Arc::clone(generation));
        generation.note_use(Instant::now());
        all[0].note_use(Instant::now());
    }
    let full = |generation: &Arc<Generation>| generation.get(&key("a")).is_some();
    assert_eq!(all.iter().filter(|generation| full(generation)).count(), GENERATIONS + 1);
    assert!(full(&all[0]) && !full(&all[1]) && set.is_current(all.last().unwrap()));
}

#[test]
fn a_set_that_does_not_come_together_rests_after_the_second_time() {
    let set: Arc<Set> = Arc::default();
    let turn = RefreshTurn(Arc::new(Held(Arc::clone(&set))));
    set.note_unsettled();
    assert!(!set.rests());
    set.note_unsettled();
    assert!(set.rests());
    turn.switch(generation(&[]));
    assert!(!set.rests());
}
