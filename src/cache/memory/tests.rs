use super::*;
use crate::http::caching::vary::Variant;
use proptest::prelude::*;

fn key(number: usize) -> Key {
    Key::resource(b"/a", Some(number.to_string().as_bytes()))
}

fn memory(most: usize) -> Arc<Memory> {
    Arc::new(Memory::new(most))
}

fn put(memory: &Arc<Memory>, number: usize, size: usize, variant: &str) {
    let mut head = StoredHead::unknown(0, "x");
    head.variant = Variant(vec![("v".to_owned(), Some(variant.into()))]);
    let bytes = Bytes { bytes: vec![0; size], _room: None, aside: Lock::default() };
    let body = StoredBody::Memory(memory.lent(Arc::new(bytes)));
    let held = Held { head: Arc::new(head), body, checked: Instant::now() };
    memory.put(&key(number), &held, None);
}

fn asks(variant: &str) -> Fields {
    Fields::from_iter([("V", variant)])
}

#[test]
fn variants_stand_side_by_side_and_one_of_the_same_is_replaced() {
    let memory = memory(100_000);
    put(&memory, 1, 1, "a");
    put(&memory, 1, 2, "b");
    put(&memory, 1, 3, "a");
    let size = |variant: &str| memory.find(&key(1), &asks(variant)).map(|held| held.body.count());
    assert_eq!((size("a"), size("b"), size("c")), (Some(3), Some(2), None));
    memory.forget(&key(1));
    assert_eq!(size("a"), None);
    let table = memory.table.lock();
    assert_eq!((table.held(), table.iter().count()), ([0; 3], 0));
}

#[test]
fn what_was_asked_for_least_lately_goes_first() {
    let memory = memory(9 * (4000 + OVERHEAD));
    for number in 0..8 {
        put(&memory, number, 4000, "a");
    }
    assert!(memory.find(&key(0), &asks("a")).is_some());
    put(&memory, 8, 4000, "a");
    put(&memory, 9, 4000, "a");
    assert!(memory.find(&key(0), &asks("a")).is_some());
    assert!(memory.find(&key(1), &asks("a")).is_none());
}

#[test]
fn what_is_too_long_is_not_held() {
    let memory = memory(8000);
    put(&memory, 1, 1001, "a");
    assert!(memory.find(&key(1), &asks("a")).is_none());
}

#[test]
fn a_target_has_a_bounded_number_of_variants() {
    let memory = memory(10_000_000);
    for number in 0..=VARIANTS {
        put(&memory, 1, 1, &number.to_string());
    }
    assert!(memory.find(&key(1), &asks("0")).is_none());
    assert!(memory.find(&key(1), &asks("1")).is_some());
}

#[test]
fn an_updated_head_is_found_and_one_that_was_replaced_meanwhile_is_not_updated() {
    let memory = memory(100_000);
    put(&memory, 1, 1, "a");
    let old = memory.find(&key(1), &asks("a")).unwrap().head;
    let mut new = StoredHead::clone(&old);
    new.fields.push(b"A", b"1");
    let new = Arc::new(new);
    memory.update(&key(1), &old, Arc::clone(&new), None);
    assert!(memory.find(&key(1), &asks("a")).unwrap().head.fields.contains("a"));
    memory.update(&key(1), &old, old.clone(), None);
    assert!(Arc::ptr_eq(&memory.find(&key(1), &asks("a")).unwrap().head, &new));
    memory.invalidate(&key(1));
    assert!(memory.find(&key(1), &asks("a")).unwrap().head.invalid);
}

proptest! {
    #[test]
    fn never_more_than_it_may(puts in prop::collection::vec((0..12_usize, 0..3000_usize, "[abc]"), 0..60)) {
        let memory = memory(20_000);
        for (number, size, variant) in puts {
            put(&memory, number, size, &variant);
            let table = memory.table.lock();
            let counted: u64 = table.iter().map(|(_, key, held)| held.weight(key)[MEMORY]).sum();
            prop_assert_eq!(table.held(), [table.iter().count() as u64, counted, 0]);
            prop_assert!(counted <= 20_000);
        }
    }
}
